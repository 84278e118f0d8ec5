//! Compression of messages (`permessage-deflate`, RFC 7692). Every message stands for itself: that costs some of the gain, and
//! lets one compressed frame go to every socket, none of which holds a window of its own.

use axum::http::{HeaderMap, header};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Broken;

/// What is answered to an offer that is taken.
pub(super) const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// What a compressed message ends with, and what is left out on the way (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Shorter texts hardly shrink.
const LEAST_BYTES: usize = 128;
/// Bytes unpacked at a time.
const STEP_BYTES: usize = 4_096;

/// Whether the client offers it in a way that can be kept.
pub(super) fn is_offered(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some("permessage-deflate") && are_possible(parts)
    })
}

/// Windows of our own are always of 15 bits.
fn are_possible<'a>(parameters: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = Vec::new();
    for parameter in parameters {
        let (name, value) =
            parameter.split_once('=').map_or((parameter, None), |(name, value)| (name.trim(), Some(value.trim())));
        let value = value.map(|value| value.trim_matches('"'));
        let is_possible = match name {
            "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
            "client_max_window_bits" => {
                value.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| (8..=15).contains(&bits)))
            }
            _ => false,
        };
        if !is_possible || seen.contains(&name) {
            return false;
        }
        seen.push(name);
    }
    true
}

/// The text compressed, if that makes it smaller.
pub(super) fn deflate(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() < LEAST_BYTES {
        return None;
    }
    let mut packing = Compress::new(Compression::default(), false);
    // Bigger than this isn't wanted, so room that is too small says no.
    let mut packed = Vec::with_capacity(text.len());
    packing.compress_vec(text, &mut packed, FlushCompress::Sync).ok()?;
    if packing.total_in() < text.len() as u64 || !packed.ends_with(&TAIL) {
        return None;
    }
    packed.truncate(packed.len() - TAIL.len());
    Some(packed)
}

/// A message unpacked, if it has at most `most` bytes then.
pub(super) fn inflate(mut packed: Vec<u8>, most: usize) -> Result<Vec<u8>, Broken> {
    packed.extend(TAIL);
    let mut unpacking = Decompress::new(false);
    let mut text = Vec::new();
    loop {
        let taken = unpacking.total_in() as usize;
        text.reserve(STEP_BYTES);
        let status = unpacking
            .decompress_vec(&packed[taken..], &mut text, FlushDecompress::Sync)
            .map_err(|_| Broken::Protocol)?;
        if text.len() > most {
            return Err(Broken::TooBig);
        }
        if status == Status::StreamEnd {
            // What follows a last block isn't part of the message (section 7.2.3.4).
            return Ok(text);
        }
        if text.len() < text.capacity() {
            // With room left it has stopped, at the end or because it can't go on.
            let is_whole = unpacking.total_in() as usize == packed.len();
            return if is_whole { Ok(text) } else { Err(Broken::Protocol) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_taken(offer: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, offer.parse().expect("header"));
        is_offered(&headers)
    }

    #[test]
    fn offers_are_taken_that_can_be_kept() {
        assert!(is_taken("permessage-deflate"));
        assert!(is_taken("permessage-deflate; client_max_window_bits"));
        assert!(is_taken("foo; bar=1, permessage-deflate; client_no_context_takeover; client_max_window_bits=\"12\""));
        assert!(is_taken("permessage-deflate; server_max_window_bits=10, permessage-deflate"));
        assert!(!is_taken("permessage-deflate; server_max_window_bits=10"));
        assert!(!is_taken("permessage-deflate; client_max_window_bits=16"));
        assert!(!is_taken("permessage-deflate; client_no_context_takeover; client_no_context_takeover"));
        assert!(!is_taken("permessage-deflate; unknown"));
        assert!(!is_taken("x-webkit-deflate-frame"));
    }

    #[test]
    fn what_does_not_shrink_stays() {
        assert_eq!(deflate(b"short"), None);
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            // Xorshift: nothing in it comes again.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        });
        let noise: Vec<u8> = noise.take(1_000).collect();
        assert_eq!(deflate(&noise), None);
    }

    #[test]
    fn the_rfcs_example_is_read() {
        // RFC 7692, section 7.2.3.1.
        assert_eq!(inflate(vec![0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], 100), Ok(b"Hello".to_vec()));
        // Section 7.2.3.4: a block with BFINAL.
        assert_eq!(inflate(vec![0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], 100), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn what_unpacks_to_too_much_or_not_at_all_is_refused() {
        let packed = deflate(&[b'x'; 10_000]).expect("smaller");
        assert_eq!(inflate(packed.clone(), 9_999), Err(Broken::TooBig));
        assert_eq!(inflate(packed, 10_000).map(|text| text.len()), Ok(10_000));
        assert_eq!(inflate(vec![0xFF; 9], 100), Err(Broken::Protocol));
    }

    proptest! {
        #[test]
        fn texts_come_back(text in "[a-d]{128,9000}") {
            let packed = deflate(text.as_bytes()).expect("smaller");
            prop_assert!(packed.len() < text.len());
            prop_assert_eq!(inflate(packed, 9_000), Ok(text.into_bytes()));
        }
    }
}
