//! What a reader needs of a frame, without reading JSON: the server writes its fields always in the same order.

use crate::bench::audience::Audience;

const EVENT: &[u8] = br#"{"event":""#;
const CHAT: &[u8] = br#"message","payload":{"chat_id":""#;
const SEQ: &[u8] = br#","seq":"#;

/// What a text frame is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scanned<'a> {
    /// A message: the number at the end of its chat's id, and its `seq`.
    Message { chat: usize, seq: i64 },
    /// Any other event, by its name.
    Other(&'a [u8]),
}

pub(super) fn scan(text: &[u8]) -> Scanned<'_> {
    let Some(event) = text.strip_prefix(EVENT) else { return Scanned::Other(b"") };
    let name = || Scanned::Other(event.split(|byte| *byte == b'"').next().unwrap_or_default());
    message(event).unwrap_or_else(name)
}

fn message(event: &[u8]) -> Option<Scanned<'static>> {
    let rest = event.strip_prefix(CHAT)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let chat = Audience::number(&rest[..end])?;
    let digits = rest[end + 1..].strip_prefix(SEQ)?.iter().take_while(|byte| byte.is_ascii_digit());
    let seq = digits.fold(0_i64, |seq, digit| seq.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')));
    Some(Scanned::Message { chat, seq })
}

#[cfg(test)]
mod tests {
    use schemas::wire::{ServerEvent, server};
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_of_the_server_are_found_out() {
        let audience = Audience::new("crowd", 10, 50, 4, 192);
        for (chat, seq) in [(0, 1), (49, 12_345_678_901)] {
            for frame in [audience.live_frame(chat, seq), audience.old_frame(chat, seq)] {
                assert_eq!(scan(frame.as_bytes()), Scanned::Message { chat, seq });
            }
        }
        let heads = server::frame(ServerEvent::Heads, None, json!({ "crowd-c000001": 7 }));
        assert_eq!(scan(heads.as_bytes()), Scanned::Other(b"heads"));
        assert_eq!(scan(server::resumed("c", 1, 2, true).as_bytes()), Scanned::Other(b"resumed"));
        assert_eq!(scan(b"?"), Scanned::Other(b""));
    }
}
