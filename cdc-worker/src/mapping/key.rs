//! What a row is called, without looking at what it says.

use super::plan::Table;
use super::value::Field;
use super::{MapError, Mapping};
use crate::pgoutput::Tuple;

/// A row by its table's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// An event of a chat.
    Chat {
        /// Whether it is a send; else it is another change of the chat.
        is_message: bool,
        /// The chat.
        chat_id: &'a str,
        /// The event's place in it.
        seq: i64,
    },
    /// A change of a person.
    User {
        /// The person.
        user_id: &'a str,
        /// Number of the change.
        version: i64,
    },
}

impl Mapping {
    /// The key of a row. The relation must be one of ours.
    pub fn key<'a>(&self, relation_id: u32, tuple: Tuple<'a>) -> Result<Key<'a>, MapError> {
        let plan = self.plan(relation_id)?.ok_or(MapError::UnknownRelation(relation_id))?;
        let fields = plan.fields(tuple)?;
        let table = plan.table();
        let field = |index: usize| Field { table: table.name(), column: plan.column(index), value: fields[index] };
        let (id, number) = (field(0).text()?, field(1).int8()?);
        Ok(match table {
            Table::Message => Key::Chat { is_message: true, chat_id: id, seq: number },
            Table::ChatChange => Key::Chat { is_message: false, chat_id: id, seq: number },
            Table::UserChange => Key::User { user_id: id, version: number },
        })
    }
}
