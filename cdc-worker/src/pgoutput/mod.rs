//! Decoder of `pgoutput`, the plugin that every Postgres since 10 has
//! (<https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>).
//!
//! Pure: bytes of one message in, one [`Message`] that borrows from them out. Protocol version 1 with `binary` and
//! `messages`; streaming of open transactions is off, so no message carries a transaction id of its own. Every byte is
//! accounted for: too few or too many are an error, never a guess. A row's bytes are walked over when its values are read.

mod cursor;
mod tuple;

pub use cursor::DecodeError;
pub use tuple::{Tuple, Value, Values};

use cursor::Cursor;

use crate::lsn::Lsn;

/// One message of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A committed transaction starts.
    Begin {
        /// LSN of its commit record; the same as [`Message::Commit`]'s `commit_lsn`.
        final_lsn: Lsn,
        /// Microseconds since 2000-01-01 UTC.
        committed_at_us: i64,
        /// Transaction id.
        xid: u32,
    },
    /// The transaction ends.
    Commit {
        /// LSN of the commit record.
        commit_lsn: Lsn,
        /// First byte after it.
        end_lsn: Lsn,
        /// Microseconds since 2000-01-01 UTC.
        committed_at_us: i64,
    },
    /// The transaction came to this server by replication.
    Origin {
        /// Its commit LSN over there.
        commit_lsn: Lsn,
        /// Name of the origin.
        name: &'a str,
    },
    /// Shape of a table; comes before its first row and again whenever it changed.
    Relation(Relation),
    /// A type that isn't built in; precedes the relation that uses it.
    Type {
        /// Type id.
        oid: u32,
        /// Schema.
        namespace: &'a str,
        /// Name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// Table.
        relation_id: u32,
        /// The row.
        tuple: Tuple<'a>,
    },
    /// A changed row. Never published; see the worker's failure rules.
    Update {
        /// Table.
        relation_id: u32,
    },
    /// A deleted row. Never published.
    Delete {
        /// Table.
        relation_id: u32,
    },
    /// Emptied tables. Never published.
    Truncate {
        /// Tables.
        relation_ids: Vec<u32>,
    },
    /// What somebody wrote with `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to a transaction; one that doesn't may come between others.
        is_transactional: bool,
        /// Where it stands.
        lsn: Lsn,
        /// The writer's mark.
        prefix: &'a str,
        /// The writer's bytes.
        content: &'a [u8],
    },
}

/// Shape of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Id that rows refer to.
    pub id: u32,
    /// Schema; empty for `pg_catalog`.
    pub namespace: String,
    /// Name; that of the partition root for partitions.
    pub name: String,
    /// Columns in the order of a row's values.
    pub columns: Vec<Column>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type id, as in `pg_type`.
    pub type_oid: u32,
}

/// Decodes one whole message.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let message = match cursor.byte("tag")? {
        b'B' => Message::Begin {
            final_lsn: Lsn(cursor.u64("final LSN")?),
            committed_at_us: cursor.i64("commit time")?,
            xid: cursor.u32("transaction id")?,
        },
        b'C' => {
            cursor.byte("flags")?;
            Message::Commit {
                commit_lsn: Lsn(cursor.u64("commit LSN")?),
                end_lsn: Lsn(cursor.u64("end LSN")?),
                committed_at_us: cursor.i64("commit time")?,
            }
        }
        b'O' => Message::Origin { commit_lsn: Lsn(cursor.u64("origin LSN")?), name: cursor.text("origin name")? },
        b'R' => Message::Relation(relation(&mut cursor)?),
        b'Y' => Message::Type {
            oid: cursor.u32("type id")?,
            namespace: cursor.text("type schema")?,
            name: cursor.text("type name")?,
        },
        b'I' => {
            let relation_id = cursor.u32("table id")?;
            match cursor.byte("kind of row")? {
                b'N' => Message::Insert { relation_id, tuple: Tuple::take_rest(&mut cursor)? },
                other => return Err(cursor.unexpected("kind of row", other)),
            }
        }
        b'U' => {
            let relation_id = cursor.u32("table id")?;
            cursor.skip_rest();
            Message::Update { relation_id }
        }
        b'D' => {
            let relation_id = cursor.u32("table id")?;
            cursor.skip_rest();
            Message::Delete { relation_id }
        }
        b'T' => {
            let count = cursor.u32("number of tables")?;
            cursor.byte("options")?;
            let mut relation_ids = Vec::new();
            for _ in 0..count {
                relation_ids.push(cursor.u32("table id")?);
            }
            Message::Truncate { relation_ids }
        }
        b'M' => {
            let is_transactional = cursor.byte("flags")? & 1 == 1;
            let lsn = Lsn(cursor.u64("message LSN")?);
            let prefix = cursor.text("message prefix")?;
            let length = cursor.u32("message length")?;
            Message::Logical { is_transactional, lsn, prefix, content: cursor.bytes(length as usize, "message")? }
        }
        other => return Err(cursor.unexpected("tag", other)),
    };
    cursor.finish(message)
}

fn relation(cursor: &mut Cursor<'_>) -> Result<Relation, DecodeError> {
    let id = cursor.u32("table id")?;
    let namespace = cursor.text("table schema")?.to_owned();
    let name = cursor.text("table name")?.to_owned();
    cursor.byte("replica identity")?;
    let count = cursor.u16("number of columns")?;
    let mut columns = Vec::new();
    for _ in 0..count {
        cursor.byte("column flags")?;
        let name = cursor.text("column name")?.to_owned();
        let type_oid = cursor.u32("column type")?;
        cursor.u32("type modifier")?;
        columns.push(Column { name, type_oid });
    }
    Ok(Relation { id, namespace, name, columns })
}

#[cfg(test)]
mod seed_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
