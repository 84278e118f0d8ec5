//! The values of a row, read one after the other without being collected.

use super::cursor::{Cursor, DecodeError};

/// A column's value as the server sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A TOASTed value that didn't change; never in an inserted row.
    Unchanged,
    /// In the type's text format.
    Text(&'a [u8]),
    /// In the type's binary format.
    Binary(&'a [u8]),
}

/// A row as it lies in its message. Its bytes are checked as its values are read, so that they are walked over once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// The rest of a message. What follows a row without columns is left to the caller to find.
    pub(super) fn take_rest(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let count = cursor.u16("number of values")?;
        let start = cursor.at();
        if count > 0 {
            cursor.skip_rest();
        }
        Ok(Self { count, bytes: cursor.since(start) })
    }

    /// Number of values.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the row has no columns.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in the order of the table's columns; the last one is an error if the bytes don't end there.
    pub const fn values(&self) -> Values<'a> {
        Values { left: self.count, cursor: Cursor::new(self.bytes) }
    }
}

/// Iterator of a row's values.
pub struct Values<'a> {
    left: u16,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let value = value(&mut self.cursor);
        Some(if self.left == 0 { value.and_then(|value| self.cursor.ends(value)) } else { value })
    }
}

fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, DecodeError> {
    let kind = cursor.byte("kind of value")?;
    let sized = |cursor: &mut Cursor<'a>| {
        let length = cursor.u32("length of a value")?;
        cursor.bytes(length as usize, "a value")
    };
    Ok(match kind {
        b'n' => Value::Null,
        b'u' => Value::Unchanged,
        b't' => Value::Text(sized(cursor)?),
        b'b' => Value::Binary(sized(cursor)?),
        other => return Err(cursor.unexpected("kind of value", other)),
    })
}
