//! Message encryption for Web Push: RFC 8291 on the content coding aes128gcm (RFC 8188), in a single record.
//!
//! ```text
//!   shared secret  = ECDH(our one-time key, the browser's key)
//!   IKM            = HKDF(auth, shared secret, "WebPush: info" 0 browser's key, our key)     32 bytes
//!   key, nonce     = HKDF(salt, IKM, "Content-Encoding: aes128gcm" 0 | "…: nonce" 0)         16, 12 bytes
//!   body           = salt (16) · record size (4) · 65 · our key (65) · AES-128-GCM(plaintext · 2)
//! ```

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;

/// Length of an uncompressed point of P-256.
pub const PUBLIC_KEY_BYTES: usize = 65;
/// What push services must take (RFC 8030, section 7.2).
const BODY_BYTES: usize = 4_096;
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + PUBLIC_KEY_BYTES;
const TAG_BYTES: usize = 16;
/// The delimiter that ends the last record.
const LAST: u8 = 2;
/// Longest text that fits.
pub const MOST_PLAINTEXT_BYTES: usize = BODY_BYTES - HEADER_BYTES - TAG_BYTES - 1;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Key and nonce of the one record.
struct Keys {
    key: LessSafeKey,
    nonce: Nonce,
}

/// Whether bytes are a point that keys can be agreed with.
pub(super) fn is_point(public_key: &[u8; PUBLIC_KEY_BYTES]) -> bool {
    let ours = PrivateKey::generate(&ECDH_P256);
    ours.is_ok_and(|ours| agree(&ours, UnparsedPublicKey::new(&ECDH_P256, public_key), (), |_| Ok(())).is_ok())
}

/// The body for a browser's key and authentication secret.
pub(super) fn encrypt(plaintext: &[u8], theirs: &[u8; PUBLIC_KEY_BYTES], auth: &[u8; 16]) -> Option<Vec<u8>> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).ok()?;
    let ours = PrivateKey::generate(&ECDH_P256).ok()?;
    encrypt_with(plaintext, theirs, auth, &ours, salt)
}

fn encrypt_with(
    plaintext: &[u8],
    theirs: &[u8; PUBLIC_KEY_BYTES],
    auth: &[u8],
    ours: &PrivateKey,
    salt: [u8; SALT_BYTES],
) -> Option<Vec<u8>> {
    let our_public = ours.compute_public_key().ok()?;
    let keys = keys(ours, theirs, auth, (theirs, our_public.as_ref()), &salt)?;
    let mut record = Vec::with_capacity(plaintext.len() + 1 + TAG_BYTES);
    record.extend_from_slice(plaintext);
    record.push(LAST);
    keys.key.seal_in_place_append_tag(keys.nonce, Aad::empty(), &mut record).ok()?;
    let mut body = Vec::with_capacity(HEADER_BYTES + record.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&(BODY_BYTES as u32).to_be_bytes());
    body.push(PUBLIC_KEY_BYTES as u8);
    body.extend_from_slice(our_public.as_ref());
    body.extend_from_slice(&record);
    Some(body)
}

/// The plaintext of a body, as a browser with this private key reads it.
#[cfg(any(test, feature = "fakes"))]
pub(crate) fn decrypt(body: &[u8], browser: &PrivateKey, auth: &[u8]) -> Option<Vec<u8>> {
    let (salt, rest) = body.split_at_checked(SALT_BYTES)?;
    let (size, rest) = rest.split_at_checked(4)?;
    let (length, rest) = rest.split_first()?;
    let (sender, record) = rest.split_at_checked(usize::from(*length))?;
    let sender: &[u8; PUBLIC_KEY_BYTES] = sender.try_into().ok()?;
    // One record only: RFC 8291, section 4.
    if record.len() > u32::from_be_bytes(size.try_into().ok()?) as usize {
        return None;
    }
    let public = browser.compute_public_key().ok()?;
    let keys = keys(browser, sender, auth, (public.as_ref(), sender), salt)?;
    let mut record = record.to_vec();
    let plaintext = keys.key.open_in_place(keys.nonce, Aad::empty(), &mut record).ok()?;
    // Padding is zeros after the delimiter.
    let end = plaintext.iter().rposition(|byte| *byte != 0)?;
    (plaintext[end] == LAST).then(|| plaintext[..end].to_vec())
}

/// `points` are the browser's and the sender's, in that order on both sides.
fn keys(
    private: &PrivateKey,
    other: &[u8; PUBLIC_KEY_BYTES],
    auth: &[u8],
    points: (&[u8], &[u8]),
    salt: &[u8],
) -> Option<Keys> {
    let mut ikm = [0; 32];
    agree(private, UnparsedPublicKey::new(&ECDH_P256, other), (), |shared| {
        let info = [b"WebPush: info\0", points.0, points.1];
        expand(auth, shared, &info, &mut ikm).ok_or(())
    })
    .ok()?;
    let (mut key, mut nonce) = ([0; 16], [0; 12]);
    expand(salt, &ikm, &[b"Content-Encoding: aes128gcm\0"], &mut key)?;
    expand(salt, &ikm, &[b"Content-Encoding: nonce\0"], &mut nonce)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    Some(Keys { key, nonce: Nonce::assume_unique_for_key(nonce) })
}

fn expand(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> Option<()> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
    prk.expand(info, Length(out.len())).ok()?.fill(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn private(text: &str) -> PrivateKey {
        PrivateKey::from_private_key(&ECDH_P256, &bytes(text)).unwrap()
    }

    const BODY: &str = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
        EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
    const PLAINTEXT: &str = "When I grow up, I want to be a watermelon";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    /// RFC 8291, section 5 and appendix A.
    #[test]
    fn the_example_of_the_rfc_comes_out_byte_for_byte() {
        let theirs = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let body = encrypt_with(
            PLAINTEXT.as_bytes(),
            &bytes(theirs).try_into().unwrap(),
            &bytes(AUTH),
            &private("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
            bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
        );
        assert_eq!(URL_SAFE_NO_PAD.encode(body.unwrap()), BODY);
    }

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let browser = private("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        assert_eq!(decrypt(&bytes(BODY), &browser, &bytes(AUTH)).unwrap(), PLAINTEXT.as_bytes());
        let mut broken = bytes(BODY);
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(decrypt(&broken, &browser, &bytes(AUTH)), None);
        assert_eq!(decrypt(&bytes(BODY), &browser, &[0; 16]), None);
    }

    #[test]
    fn a_point_off_the_curve_is_none() {
        assert!(!is_point(&[4; PUBLIC_KEY_BYTES]));
        assert!(!is_point(&[0; PUBLIC_KEY_BYTES]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_browser_reads_what_was_written(
            plaintext in prop::collection::vec(any::<u8>(), 0..=MOST_PLAINTEXT_BYTES), auth: [u8; 16],
        ) {
            let browser = PrivateKey::generate(&ECDH_P256).unwrap();
            let public: [u8; PUBLIC_KEY_BYTES] = browser.compute_public_key().unwrap().as_ref().try_into().unwrap();
            let body = encrypt(&plaintext, &public, &auth).unwrap();
            prop_assert!(body.len() <= BODY_BYTES);
            prop_assert_eq!(decrypt(&body, &browser, &auth).unwrap(), plaintext);
            prop_assert_eq!(decrypt(&body[..body.len() - 1], &browser, &auth), None);
        }

        #[test]
        fn any_bytes_can_be_read(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let browser = private("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
            prop_assert_eq!(decrypt(&body, &browser, &[0; 16]), None);
        }
    }
}
