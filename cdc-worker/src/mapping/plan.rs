//! Which value of a row is which field, worked out once a relation.

use super::MapError;
use crate::pgoutput::{Relation, Tuple, Value};

/// Most fields that a table of ours has.
pub(super) const MOST_FIELDS: usize = 11;

const TEXT: Type = Type { name: "text", oids: &[25, 1043] };
const UUID: Type = Type { name: "uuid", oids: &[2950] };
const INT8: Type = Type { name: "bigint", oids: &[20] };
const BOOL: Type = Type { name: "boolean", oids: &[16] };
const JSONB: Type = Type { name: "jsonb", oids: &[3802] };
const TIMESTAMPTZ: Type = Type { name: "timestamptz", oids: &[1184] };

/// A type by the ids that Postgres will have for ever.
struct Type {
    name: &'static str,
    oids: &'static [u32],
}

/// A table whose rows are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Sends.
    Message,
    /// Every other change of a chat.
    ChatChange,
    /// Changes of people.
    UserChange,
}

impl Table {
    /// The table that a relation is, if it is one of ours.
    pub fn of(relation: &Relation) -> Option<Self> {
        if relation.namespace != "public" {
            return None;
        }
        [Self::Message, Self::ChatChange, Self::UserChange].into_iter().find(|table| table.name() == relation.name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::ChatChange => "chat_change",
            Self::UserChange => "user_change",
        }
    }

    /// The columns that events are made from, in the order in which the mapping numbers them.
    const fn fields(self) -> &'static [(&'static str, Type)] {
        match self {
            Self::Message => &[
                ("chat_id", TEXT),
                ("sequence_number", INT8),
                ("message_id", UUID),
                ("sender_id", TEXT),
                ("content", TEXT),
                ("parent_message_id", UUID),
                ("parent_seq", INT8),
                ("app_data", TEXT),
                ("attachments", JSONB),
                ("created_at", TIMESTAMPTZ),
                ("deleted_at", TIMESTAMPTZ),
            ],
            Self::ChatChange => &[
                ("chat_id", TEXT),
                ("sequence_number", INT8),
                ("event_type", TEXT),
                ("actor_id", TEXT),
                ("occurred_at", TIMESTAMPTZ),
                ("content", TEXT),
                ("message", JSONB),
                ("memberships", JSONB),
                ("chat", JSONB),
            ],
            Self::UserChange => &[
                ("user_id", TEXT),
                ("version", INT8),
                ("name", TEXT),
                ("avatar_url", TEXT),
                ("is_removed", BOOL),
                ("changed_at", TIMESTAMPTZ),
            ],
        }
    }
}

/// For each value of a row, the field that it is.
#[derive(Debug)]
pub(super) struct Plan {
    table: Table,
    slots: Vec<Option<u8>>,
}

impl Plan {
    pub(super) fn new(table: Table, relation: &Relation) -> Result<Self, MapError> {
        let mut slots = vec![None; relation.columns.len()];
        for (number, (name, kind)) in table.fields().iter().enumerate() {
            let place = relation
                .columns
                .iter()
                .position(|column| column.name == *name)
                .ok_or(MapError::MissingColumn { table: table.name(), column: name })?;
            let found = relation.columns[place].type_oid;
            if !kind.oids.contains(&found) {
                return Err(MapError::ColumnType { table: table.name(), column: name, expected: kind.name, found });
            }
            slots[place] = Some(number as u8);
        }
        Ok(Self { table, slots })
    }

    pub(super) const fn table(&self) -> Table {
        self.table
    }

    pub(super) fn column(&self, field: usize) -> &'static str {
        self.table.fields()[field].0
    }

    /// The values of a row by field.
    pub(super) fn fields<'a>(&self, tuple: Tuple<'a>) -> Result<[Value<'a>; MOST_FIELDS], MapError> {
        if tuple.len() != self.slots.len() {
            let (expected, found) = (self.slots.len(), tuple.len());
            return Err(MapError::RowLength { table: self.table.name(), expected, found });
        }
        let mut fields = [Value::Null; MOST_FIELDS];
        for (value, slot) in tuple.values().zip(&self.slots) {
            let value = value?;
            if let Some(slot) = slot {
                fields[usize::from(*slot)] = value;
            }
        }
        Ok(fields)
    }
}
