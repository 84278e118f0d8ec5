//! Reading big-endian numbers and C strings from a slice.

/// Bytes that are no message of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("pgoutput: the message ends at byte {at} where {what} should follow")]
    Truncated {
        /// Offset.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// Bytes are left over.
    #[error("pgoutput: {left} bytes are left over at byte {at}")]
    LeftOver {
        /// Offset.
        at: usize,
        /// How many.
        left: usize,
    },
    /// A byte that has no meaning here.
    #[error("pgoutput: unexpected {what} `{found:#04x}` at byte {at}")]
    Unexpected {
        /// Offset.
        at: usize,
        /// What was expected.
        what: &'static str,
        /// What is there.
        found: u8,
    },
    /// A text that isn't UTF-8.
    #[error("pgoutput: {what} at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Offset.
        at: usize,
        /// Which text.
        what: &'static str,
    },
}

/// A place in a message.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(DecodeError::Truncated { at: self.at, what })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.first_chunk::<N>().ok_or(DecodeError::Truncated { at: self.at, what })?;
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let rest = &self.bytes[at..];
        let length = rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Truncated { at, what })?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| DecodeError::NotUtf8 { at, what })
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) const fn skip_rest(&mut self) {
        self.at = self.bytes.len();
    }

    /// The error for a byte that was just taken.
    pub(super) const fn unexpected(&self, what: &'static str, found: u8) -> DecodeError {
        DecodeError::Unexpected { at: self.at - 1, what, found }
    }

    /// The value, if every byte has been read.
    pub(super) const fn ends<T: Copy>(&self, value: T) -> Result<T, DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(value),
            left => Err(DecodeError::LeftOver { at: self.at, left }),
        }
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(value),
            left => Err(DecodeError::LeftOver { at: self.at, left }),
        }
    }
}
