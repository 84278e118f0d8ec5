//! Frames of RFC 6455, section 5.2, as far as a reader of this server needs them: the server masks nothing and splits nothing.

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// A length that stands in the next two, or eight, bytes.
const IN_TWO: u8 = 0x7E;
const IN_EIGHT: u8 = 0x7F;

/// What stands at the beginning of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A whole frame, and how many bytes it takes.
    Whole { opcode: u8, payload: &'a [u8], length: usize },
    /// A part of one.
    Part,
    /// Nothing that this server sends.
    Wrong,
}

pub(super) fn cut(bytes: &[u8]) -> Cut<'_> {
    let [first, second, rest @ ..] = bytes else { return Cut::Part };
    if first & FIN == 0 || second & MASKED != 0 {
        return Cut::Wrong;
    }
    let (length, rest) = match second {
        &IN_TWO => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (usize::from(u16::from_be_bytes(*length)), rest),
            None => return Cut::Part,
        },
        &IN_EIGHT => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length) as usize, rest),
            None => return Cut::Part,
        },
        short => (usize::from(*short), rest),
    };
    match rest.get(..length) {
        Some(payload) => Cut::Whole { opcode: first & 0x0F, payload, length: bytes.len() - rest.len() + length },
        None => Cut::Part,
    }
}

/// Appends a client's frame. Its masking key is zero, which leaves the payload as it is.
pub(super) fn put(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | length as u8),
        length @ 126..65_536 => {
            out.push(MASKED | IN_TWO);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(MASKED | IN_EIGHT);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put(TEXT, payload, &mut frame);
        frame
    }

    #[test]
    fn frames_of_each_size_come_whole_or_not_at_all() {
        for size in [0, 1, 125, 126, 1_000, 65_535, 65_536] {
            let payload = vec![b'x'; size];
            // The server's frame is the client's without mask and key.
            let mut frame = framed(&payload);
            frame[1] &= !MASKED;
            let key = frame.len() - size - 4;
            frame.drain(key..key + 4);
            frame.extend_from_slice(b"next");
            let length = frame.len() - 4;
            assert_eq!(cut(&frame), Cut::Whole { opcode: TEXT, payload: &payload, length });
            for part in [0, 1, length.saturating_sub(1)] {
                assert_eq!(cut(&frame[..part]), Cut::Part);
            }
        }
    }

    #[test]
    fn what_the_server_never_sends_is_wrong() {
        assert_eq!(cut(&framed(b"masked")), Cut::Wrong);
        assert_eq!(cut(&[TEXT, 0]), Cut::Wrong);
    }
}
