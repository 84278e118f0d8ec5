//! Where a sampled command's trace stands, as it travels: a W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>) in Kafka's headers, with the event's id in a logical message of Postgres, as bytes
//! in the envelope over Redis. What isn't sampled has none of these.

/// Name of the Kafka header. Our producers put it last.
pub const HEADER: &str = "traceparent";
/// Prefix of the logical messages that carry a trace through Postgres' log.
pub const WAL_PREFIX: &str = "waltalkie.trace";

/// A trace, and the span that the next one is a child of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

impl TraceContext {
    /// Bytes of an envelope's context.
    pub const BYTES: usize = 24;

    /// The header's value.
    pub fn to_text(&self) -> String {
        let mut text = String::from("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str("-01");
        text
    }

    /// The context in a header's value; `None` if it isn't one of version 00, or isn't sampled.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(b"00-")?.strip_suffix(b"-01")?;
        let (trace_id, rest) = rest.split_first_chunk::<32>()?;
        let (b"-", span_id) = rest.split_first_chunk::<1>()? else { return None };
        let context = Self { trace_id: from_hex(trace_id)?, span_id: from_hex(span_id)? };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }

    /// The bytes in an envelope.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        bytes
    }

    /// The context in an envelope's bytes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut context = Self { trace_id: [0; 16], span_id: [0; 8] };
        context.trace_id.copy_from_slice(&bytes[..16]);
        context.span_id.copy_from_slice(&bytes[16..]);
        context
    }

    /// What the logical message says of an event: its trace, then its id.
    pub fn to_wal(&self, chat_id: &str, seq: i64) -> String {
        format!("{} {chat_id}/{seq}", self.to_text())
    }

    /// The trace and the event's id in a logical message.
    pub fn from_wal(content: &[u8]) -> Option<(Self, &[u8])> {
        let space = content.iter().position(|byte| *byte == b' ')?;
        Some((Self::parse(&content[..space])?, &content[space + 1..]))
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>(), seq: i64) {
            let context = TraceContext { trace_id, span_id };
            prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
            prop_assert_eq!(TraceContext::parse(context.to_text().as_bytes()), Some(context));
            prop_assert_eq!(TraceContext::from_bytes(&context.to_bytes()), context);
            let event_id = format!("a chat/{seq}");
            let wal = context.to_wal("a chat", seq);
            prop_assert_eq!(TraceContext::from_wal(wal.as_bytes()), Some((context, event_id.as_bytes())));
        }

        #[test]
        fn whatever_somebody_writes_is_read_or_refused(bytes: Vec<u8>) {
            let _ = TraceContext::parse(&bytes);
            let _ = TraceContext::from_wal(&bytes);
        }
    }

    #[test]
    fn the_example_of_the_specification_is_read_and_what_isnt_sampled_is_not() {
        let sampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(sampled).expect("a context");
        assert_eq!(context.to_text().as_bytes(), sampled);
        for wrong in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "",
        ] {
            assert_eq!(TraceContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
