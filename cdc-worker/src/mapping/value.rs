//! Values in Postgres' binary formats.

use uuid::Uuid;

use super::MapError;
use crate::pgoutput::Value;

/// Microseconds from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A value, and where it stands, for the error that it may be.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    pub(super) value: Value<'a>,
}

impl<'a> Field<'a> {
    fn wrong(&self, problem: &'static str) -> MapError {
        MapError::Value { table: self.table, column: self.column, problem }
    }

    fn binary(&self) -> Result<&'a [u8], MapError> {
        match self.value {
            Value::Binary(bytes) => Ok(bytes),
            Value::Null => Err(self.wrong("NULL where a value is needed")),
            Value::Text(_) => Err(self.wrong("the server sent text where binary was asked for")),
            Value::Unchanged => Err(self.wrong("an inserted row without its stored value")),
        }
    }

    fn array<const N: usize>(&self) -> Result<[u8; N], MapError> {
        self.binary()?.try_into().map_err(|_| self.wrong("a value of another length than its type has"))
    }

    /// The value, or `None` for NULL.
    pub(super) fn optional<T>(self, read: impl FnOnce(Self) -> Result<T, MapError>) -> Result<Option<T>, MapError> {
        if self.value == Value::Null { Ok(None) } else { read(self).map(Some) }
    }

    pub(super) fn text(self) -> Result<&'a str, MapError> {
        std::str::from_utf8(self.binary()?).map_err(|_| self.wrong("a text that is not UTF-8"))
    }

    pub(super) fn uuid(self) -> Result<Uuid, MapError> {
        self.array().map(Uuid::from_bytes)
    }

    pub(super) fn int8(self) -> Result<i64, MapError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn bool(self) -> Result<bool, MapError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.wrong("neither true nor false")),
        }
    }

    /// The JSON text after the format's version byte.
    pub(super) fn jsonb(self) -> Result<&'a str, MapError> {
        match self.binary()? {
            [1, json @ ..] => std::str::from_utf8(json).map_err(|_| self.wrong("a JSON text that is not UTF-8")),
            _ => Err(self.wrong("jsonb of an unknown version")),
        }
    }

    /// Milliseconds since 1970. Infinity is no time at which something happened.
    pub(super) fn timestamptz(self) -> Result<i64, MapError> {
        match i64::from_be_bytes(self.array()?) {
            i64::MIN | i64::MAX => Err(self.wrong("infinity where a time is needed")),
            micros => Ok(micros_to_epoch_ms(micros)),
        }
    }
}

/// Rounds towards 1970, as the tables' other readers do.
pub(super) const fn micros_to_epoch_ms(micros: i64) -> i64 {
    micros.saturating_add(POSTGRES_EPOCH_US) / 1_000
}
