//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte position in Postgres' write-ahead log, written `16/B374D848` as Postgres does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// From the signed field of a record, which holds the number's bits.
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits as u64)
    }

    /// For the signed field of a record.
    pub const fn to_bits(self) -> i64 {
        self.0 as i64
    }

    /// Bytes from `earlier` to here, 0 if it isn't earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that isn't an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN like 16/B374D848")]
pub struct BadLsn(String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let bad = || BadLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let half = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| bad());
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_and_bits_come_back(number: u64) {
            let lsn = Lsn(number);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
            prop_assert_eq!(Lsn::from_bits(lsn.to_bits()), lsn);
        }

        #[test]
        fn any_text_is_an_error_or_an_lsn(text: String) {
            let _ = text.parse::<Lsn>();
        }
    }

    #[test]
    fn looks_like_postgres() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert!("16".parse::<Lsn>().is_err());
        assert!("1/123456789".parse::<Lsn>().is_err());
    }
}
