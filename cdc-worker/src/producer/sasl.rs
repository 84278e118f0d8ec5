//! Logins of a client: PLAIN (RFC 4616) and SCRAM (RFC 5802), as far as Kafka speaks them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 24;
/// Most rounds of hashing that a server may ask for; Kafka's usual number is 4,096.
const MOST_ITERATIONS: u32 = 1_000_000;

/// The one message of PLAIN.
pub(super) fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn keyed(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        fn hmac<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
            // HMAC takes keys of any length.
            M::new_from_slice(key)
                .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
                .unwrap_or_default()
        }
        match self {
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, bytes),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, bytes),
        }
    }

    fn stretched(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut round = self.keyed(password, &[salt, &1_u32.to_be_bytes()].concat());
        let mut sum = round.clone();
        for _ in 1..iterations {
            round = self.keyed(password, &round);
            xor(&mut sum, &round);
        }
        sum
    }
}

fn xor(left: &mut [u8], right: &[u8]) {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
}

/// A SCRAM exchange after its first message.
pub(super) struct Scram {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// What the server must answer in the end.
pub(super) struct Proof {
    /// The client's last message.
    pub(super) message: Vec<u8>,
    server_signature: Vec<u8>,
}

impl Scram {
    /// Begins; gives the first message too.
    pub(super) fn begin(hash: Hash, user: &str, password: &str) -> (Self, Vec<u8>) {
        let nonce = STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>());
        Self::begin_with(hash, user, password, nonce)
    }

    fn begin_with(hash: Hash, user: &str, password: &str, nonce: String) -> (Self, Vec<u8>) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("n,,{first_bare}").into_bytes();
        (Self { hash, password: password.to_owned(), nonce, first_bare }, message)
    }

    /// Answers the server's first message; the error says what is wrong with it.
    pub(super) fn prove(self, server_first: &[u8]) -> Result<Proof, &'static str> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| "its message isn't UTF-8")?;
        let nonce = attribute(server_first, 'r').ok_or("its message has no nonce")?;
        if !nonce.starts_with(&self.nonce) {
            return Err("its nonce doesn't begin with ours");
        }
        let salt =
            attribute(server_first, 's').and_then(|salt| STANDARD.decode(salt).ok()).ok_or("it sends no salt")?;
        let iterations: u32 =
            attribute(server_first, 'i').and_then(|number| number.parse().ok()).ok_or("it sends no iterations")?;
        if !(1..=MOST_ITERATIONS).contains(&iterations) {
            return Err("it asks for a senseless number of iterations");
        }
        let hash = self.hash;
        let salted = hash.stretched(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.keyed(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let mut proof = hash.keyed(&hash.digest(&client_key), signed.as_bytes());
        xor(&mut proof, &client_key);
        let server_key = hash.keyed(&salted, b"Server Key");
        Ok(Proof {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes(),
            server_signature: hash.keyed(&server_key, signed.as_bytes()),
        })
    }
}

impl Proof {
    /// Checks that the server knows the password too.
    pub(super) fn check(&self, server_final: &[u8]) -> Result<(), &'static str> {
        let answer = std::str::from_utf8(server_final).map_err(|_| "its message isn't UTF-8")?;
        let signature = attribute(answer, 'v').and_then(|text| STANDARD.decode(text).ok());
        if signature.as_deref() == Some(&self.server_signature) { Ok(()) } else { Err("it doesn't know the password") }
    }
}

fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_standard() {
        let (scram, first) = Scram::begin_with(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.prove(server_first.as_bytes()).expect("a message");
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8_lossy(&proof.message), expected);
        assert_eq!(proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert!(proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=").is_err());
        assert!(proof.check(b"e=other-error").is_err());
    }

    #[test]
    fn a_strange_server_is_refused() {
        let begin = || Scram::begin_with(Hash::Sha512, "a=b,c", "secret", "abc".into());
        assert_eq!(begin().1, b"n,,n=a=3Db=2Cc,r=abc");
        for message in
            ["r=other,s=YQ==,i=4096", "r=abcd,i=4096", "r=abcd,s=YQ==", "r=abcd,s=YQ==,i=0", "r=abcd,s=YQ==,i=99999999"]
        {
            assert!(begin().0.prove(message.as_bytes()).is_err(), "{message}");
        }
        assert!(begin().0.prove(b"r=abcd,s=YQ==,i=4096").is_ok());
    }
}
