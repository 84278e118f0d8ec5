//! What a client sends, put together to messages (RFC 6455, section 5). A state machine: no I/O.

use super::deflate;

const FIN: u8 = 0x80;
/// The message is compressed (RFC 7692, section 6).
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;
/// Most bytes of a control frame's payload.
const CONTROL_BYTES: usize = 125;

/// A whole message, or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    /// Nobody here takes its bytes.
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Why a stream can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Protocol,
    TooBig,
    NotUtf8,
}

/// Takes bytes as they come and gives messages.
pub(crate) struct Parser {
    most_bytes: usize,
    is_deflated: bool,
    /// What has come and isn't a whole frame yet, from `at` on. Without allocation while the client is silent.
    waiting: Vec<u8>,
    at: usize,
    fragments: Option<Box<Fragments>>,
}

struct Fragments {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
}

struct Header {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    mask: [u8; 4],
    own_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// None until all of it is here.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if first & RSV2_RSV3 != 0 || second & MASKED == 0 {
            return Err(Broken::Protocol);
        }
        let (length, length_bytes) = match second & !MASKED {
            126 => (rest.first_chunk().map(|bytes| u64::from(u16::from_be_bytes(*bytes))), 2),
            127 => (rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)), 8),
            length => (Some(u64::from(length)), 0),
        };
        let mask = rest.get(length_bytes..).and_then(<[u8]>::first_chunk);
        let (Some(length), Some(mask)) = (length, mask) else { return Ok(None) };
        // As short as it goes, and no negative number (section 5.2).
        if (length_bytes == 2 && length < 126) || (length_bytes == 8 && !(1 << 16..1 << 63).contains(&length)) {
            return Err(Broken::Protocol);
        }
        Ok(Some(Self {
            is_final: first & FIN != 0,
            is_compressed: first & RSV1 != 0,
            opcode: first & 0x0F,
            mask: *mask,
            own_bytes: 2 + length_bytes + mask.len(),
            payload_bytes: usize::try_from(length).map_err(|_| Broken::TooBig)?,
        }))
    }
}

impl Parser {
    /// Messages have at most so many bytes; compressed ones are taken if that was agreed on.
    pub(crate) const fn new(most_bytes: usize, is_deflated: bool) -> Self {
        Self { most_bytes, is_deflated, waiting: Vec::new(), at: 0, fragments: None }
    }

    /// More bytes have come.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next message, if all of it has come.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Broken> {
        loop {
            let Some(header) = Header::parse(&self.waiting[self.at..])? else {
                self.drop_taken();
                return Ok(None);
            };
            self.check(&header)?;
            let start = self.at + header.own_bytes;
            let end = start + header.payload_bytes;
            if self.waiting.len() < end {
                self.drop_taken();
                return Ok(None);
            }
            let mut payload = self.waiting[start..end].to_vec();
            for chunk in payload.chunks_mut(4) {
                chunk.iter_mut().zip(header.mask).for_each(|(byte, mask)| *byte ^= mask);
            }
            self.at = end;
            if let Some(message) = self.take_frame(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn drop_taken(&mut self) {
        if self.at == self.waiting.len() {
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..self.at);
        }
        self.at = 0;
    }

    /// Before its payload is waited for.
    fn check(&self, header: &Header) -> Result<(), Broken> {
        let is_possible = match header.opcode {
            0x0 => self.fragments.is_some() && !header.is_compressed,
            0x1 | 0x2 => self.fragments.is_none() && (self.is_deflated || !header.is_compressed),
            0x8..=0xA => header.is_final && !header.is_compressed && header.payload_bytes <= CONTROL_BYTES,
            _ => false,
        };
        if !is_possible {
            return Err(Broken::Protocol);
        }
        let before = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        if header.payload_bytes > self.most_bytes - before.min(self.most_bytes) { Err(Broken::TooBig) } else { Ok(()) }
    }

    fn take_frame(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Message>, Broken> {
        match header.opcode {
            0x8 => return close_code(&payload).map(|code| Some(Message::Close(code))),
            0x9 => return Ok(Some(Message::Ping(payload))),
            0xA => return Ok(Some(Message::Pong)),
            _ => {}
        }
        let mut fragments = match self.fragments.take() {
            Some(mut fragments) => {
                fragments.bytes.extend_from_slice(&payload);
                fragments
            }
            None => Box::new(Fragments {
                is_text: header.opcode == 0x1,
                is_compressed: header.is_compressed,
                bytes: payload,
            }),
        };
        if !header.is_final {
            self.fragments = Some(fragments);
            return Ok(None);
        }
        if !fragments.is_text {
            return Ok(Some(Message::Binary));
        }
        if fragments.is_compressed {
            fragments.bytes = deflate::inflate(fragments.bytes, self.most_bytes)?;
        }
        let text = String::from_utf8(fragments.bytes).map_err(|_| Broken::NotUtf8)?;
        Ok(Some(Message::Text(text)))
    }
}

/// Which codes may be sent: RFC 6455, section 7.4, and IANA's registry.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Broken> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload.split_first_chunk().ok_or(Broken::Protocol)?;
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::Protocol);
    }
    std::str::from_utf8(reason).map_err(|_| Broken::NotUtf8)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 1_000;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 99, 200, 3];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(MASKED | length as u8),
            length => {
                bytes.push(MASKED | 0x7E);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Everything that comes out, the bytes fed in pieces of this size.
    fn messages(bytes: &[u8], piece: usize, is_deflated: bool) -> (Vec<Message>, Option<Broken>) {
        let mut parser = Parser::new(MOST, is_deflated);
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece) {
            parser.feed(piece);
            loop {
                match parser.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(broken) => return (messages, Some(broken)),
                }
            }
        }
        assert_eq!(parser.waiting.capacity() == 0, parser.waiting.is_empty(), "an idle parser holds no buffer");
        (messages, None)
    }

    #[test]
    fn lengths_are_as_short_as_they_go() {
        let mask = [0; 4];
        for (length, extended) in
            [(126, vec![0, 125]), (127, vec![0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), (127, vec![0x80, 0, 0, 0, 0, 1, 0, 0])]
        {
            let mut parser = Parser::new(MOST, false);
            parser.feed(&[&[0x81, MASKED | length], &*extended, &mask].concat());
            assert!(matches!(parser.next(), Err(Broken::Protocol)), "{extended:?}");
        }
    }

    #[test]
    fn fragments_with_a_ping_between_are_one_message() {
        let bytes = [frame(0x01, b"one "), frame(0x89, b"?"), frame(0x00, b"mess"), frame(0x80, b"age")].concat();
        let expected = vec![Message::Ping(b"?".to_vec()), Message::Text("one message".into())];
        for piece in 1..bytes.len() {
            assert_eq!(messages(&bytes, piece, false), (expected.clone(), None));
        }
    }

    #[test]
    fn what_comes_before_a_broken_frame_counts() {
        let bytes = [frame(0x81, b"first"), frame(0x83, b"")].concat();
        assert_eq!(messages(&bytes, 3, false), (vec![Message::Text("first".into())], Some(Broken::Protocol)));
    }

    #[test]
    fn size_is_judged_by_what_a_frame_announces_and_over_all_fragments() {
        assert_eq!(messages(&frame(0x81, &[b'x'; MOST + 1])[..8], 8, false).1, Some(Broken::TooBig));
        assert_eq!(messages(&frame(0x81, &[b'x'; MOST]), 99, false).1, None);
        let bytes = [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 401])].concat();
        assert_eq!(messages(&bytes, 99, false).1, Some(Broken::TooBig));
    }

    #[test]
    fn compressed_messages_are_taken_if_agreed_on_and_bounded_unpacked() {
        let packed = deflate::deflate(&[b'x'; 900]).expect("smaller");
        assert_eq!(messages(&frame(0xC1, &packed), 5, true).0, [Message::Text("x".repeat(900))]);
        assert_eq!(messages(&frame(0xC1, &packed), 5, false).1, Some(Broken::Protocol));
        let bomb = deflate::deflate(&[b'x'; MOST + 1]).expect("smaller");
        assert_eq!(messages(&frame(0xC1, &bomb), 5, true).1, Some(Broken::TooBig));
        assert_eq!(messages(&frame(0xC1, b"\xFF\xFF\xFF"), 5, true).1, Some(Broken::Protocol));
        let fragmented = [frame(0x41, &packed[..2]), frame(0x80, &packed[2..])].concat();
        assert_eq!(messages(&fragmented, 5, true).0, [Message::Text("x".repeat(900))]);
        let marked_twice = [frame(0x41, &packed[..2]), frame(0xC0, &packed[2..])].concat();
        assert_eq!(messages(&marked_twice, 5, true).1, Some(Broken::Protocol));
    }

    proptest! {
        #[test]
        fn any_texts_come_through_in_any_pieces(texts in proptest::collection::vec(".{0,200}", 1..5), piece in 1usize..300) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
            let expected: Vec<Message> = texts.iter().cloned().map(Message::Text).collect();
            prop_assert_eq!(messages(&bytes, piece, false), (expected, None));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..500), piece in 1usize..50) {
            let _ = messages(&bytes, piece, true);
        }
    }
}
