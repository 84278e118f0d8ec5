//! From a row of the stream to what it says: an event of a chat, or a person's new profile.
//!
//! Pure. Columns are found by name when a relation arrives, so that added, dropped and reordered columns do no harm:
//! unknown ones are passed over, a missing or changed one stops the worker with table and column named. Events are made
//! by `schemas::history`, where readers of the tables make theirs, so that the two can't differ.

mod key;
mod plan;
mod value;

use schemas::history::{ChangeRow, MessageRow, RowError};
use schemas::{ChatEvent, Origin, User};

use crate::pgoutput::{DecodeError, Relation, Tuple};

pub use key::Key;
use plan::Plan;
pub use plan::Table;
use value::{Field, micros_to_epoch_ms};

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// A send: nearly all of a history, so it stays where it lies until it is written.
    Send {
        /// The row.
        row: MessageRow<'a>,
        /// Where it stands in the log.
        origin: Origin,
    },
    /// Any other event of a chat.
    Event(Box<ChatEvent>),
    /// A person's profile, for the topic of people.
    User {
        /// The person.
        user_id: String,
        /// Number of the change of this person.
        version: i64,
        /// Time of the change.
        changed_at_ms: i64,
        /// The profile; `None` once removed.
        profile: Option<User>,
    },
}

impl Change<'_> {
    /// Its place in its chat; `None` if it is none of a chat.
    pub fn place_in_chat(&self) -> Option<(&str, i64)> {
        match self {
            Self::Send { row, .. } => Some((row.chat_id, row.sequence_number)),
            Self::Event(event) => Some((&event.chat_id, event.seq)),
            Self::User { .. } => None,
        }
    }
}

/// A row or table that can't be read. Definite: somebody has to look.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A table lacks a column.
    #[error(
        "table {table} has no column {column}, which events are made from, where the stream stands: put it back, then run \
         `waltalkie cdc resnapshot`, which publishes out of the table what was written meanwhile"
    )]
    MissingColumn {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
    },
    /// A column has another type.
    #[error(
        "column {table}.{column} has type id {found}, where {expected} is needed, where the stream stands: change it back, \
         then run `waltalkie cdc resnapshot`, which publishes out of the table what was written meanwhile"
    )]
    ColumnType {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Type that is needed.
        expected: &'static str,
        /// Type id that was found.
        found: u32,
    },
    /// A value isn't what its column should hold.
    #[error("column {table}.{column}: {problem}")]
    Value {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A row has more or fewer values than its table has columns.
    #[error("a row of {table} has {found} values, its table {expected} columns")]
    RowLength {
        /// Table.
        table: &'static str,
        /// Columns.
        expected: usize,
        /// Values.
        found: usize,
    },
    /// A row whose bytes aren't the plugin's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A table of ours under another name.
    #[error(
        "table {name} was named message, chat_change or user_change when the worker started, and is what events are made \
         from: rename it back, then run `waltalkie cdc resnapshot`, which publishes out of the tables what was written meanwhile"
    )]
    Renamed {
        /// Its name now.
        name: String,
    },
    /// A row of a table that was never described.
    #[error("a row of table id {0}, which the stream has not described")]
    UnknownRelation(u32),
    /// JSON that the persister doesn't write.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// The tables that the stream has described so far.
#[derive(Debug, Default)]
pub struct Mapping {
    /// By table id. A handful, of which the first are asked for most: searched faster than hashed.
    relations: Vec<(u32, Option<Plan>)>,
    /// Ids of the tables that are ours, whatever they are called.
    ours: Vec<u32>,
}

impl Mapping {
    /// Knows the tables that are ours by their ids, so that a renamed one isn't taken for somebody else's.
    pub const fn new(ours: Vec<u32>) -> Self {
        Self { relations: Vec::new(), ours }
    }

    /// Learns a table's shape, which may have changed. Partitions are described too, though rows come as their root's.
    pub fn learn(&mut self, relation: &Relation) -> Result<(), MapError> {
        let plan = match Table::of(relation) {
            Some(table) => Some(Plan::new(table, relation)?),
            None if self.ours.contains(&relation.id) => {
                return Err(MapError::Renamed { name: format!("{}.{}", relation.namespace, relation.name) });
            }
            None => None,
        };
        match self.relations.iter_mut().find(|(id, _)| *id == relation.id) {
            Some((_, known)) => *known = plan,
            None => self.relations.push((relation.id, plan)),
        }
        Ok(())
    }

    fn plan(&self, relation_id: u32) -> Result<Option<&Plan>, MapError> {
        let found = self.relations.iter().find(|(id, _)| *id == relation_id);
        found.map(|(_, plan)| plan.as_ref()).ok_or(MapError::UnknownRelation(relation_id))
    }

    /// The table that rows of a relation belong to; `None` if it is none of ours.
    pub fn table(&self, relation_id: u32) -> Result<Option<Table>, MapError> {
        Ok(self.plan(relation_id)?.map(Plan::table))
    }

    /// What a row says. The relation must be one of ours.
    pub fn change<'a>(&self, relation_id: u32, tuple: Tuple<'a>, origin: Origin) -> Result<Change<'a>, MapError> {
        let plan = self.plan(relation_id)?.ok_or(MapError::UnknownRelation(relation_id))?;
        let fields = plan.fields(tuple)?;
        let field =
            |index: usize| Field { table: plan.table().name(), column: plan.column(index), value: fields[index] };
        match plan.table() {
            Table::Message => {
                let row = MessageRow {
                    chat_id: field(0).text()?,
                    sequence_number: field(1).int8()?,
                    message_id: field(2).uuid()?,
                    sender_id: field(3).text()?,
                    content: field(4).optional(Field::text)?,
                    parent_message_id: field(5).optional(Field::uuid)?,
                    parent_seq: field(6).optional(Field::int8)?,
                    app_data: field(7).optional(Field::text)?,
                    attachments: field(8).optional(Field::jsonb)?,
                    created_at_ms: field(9).timestamptz()?,
                    deleted_at_ms: field(10).optional(Field::timestamptz)?,
                };
                Ok(Change::Send { row, origin })
            }
            Table::ChatChange => {
                let row = ChangeRow {
                    chat_id: field(0).text()?,
                    sequence_number: field(1).int8()?,
                    event_type: field(2).text()?,
                    actor_id: field(3).text()?,
                    occurred_at_ms: field(4).timestamptz()?,
                    content: field(5).optional(Field::text)?,
                    message: field(6).optional(Field::jsonb)?,
                    memberships: field(7).optional(Field::jsonb)?,
                    chat: field(8).optional(Field::jsonb)?,
                };
                Ok(Change::Event(Box::new(row.into_event(origin)?)))
            }
            Table::UserChange => {
                let user_id = field(0).text()?.to_owned();
                let changed_at_ms = field(5).timestamptz()?;
                let profile = if field(4).bool()? {
                    None
                } else {
                    Some(User {
                        user_id: user_id.clone(),
                        display_name: field(2).optional(Field::text)?.map(str::to_owned),
                        avatar_url: field(3).optional(Field::text)?.map(str::to_owned),
                        email: None,
                        updated_at: changed_at_ms,
                    })
                };
                Ok(Change::User { user_id, version: field(1).int8()?, changed_at_ms, profile })
            }
        }
    }
}

/// Milliseconds since 1970 of a time that the stream gives in microseconds since 2000.
pub fn epoch_ms(micros_since_2000: i64) -> i64 {
    micros_to_epoch_ms(micros_since_2000)
}

#[cfg(test)]
#[path = "mapping/tests.rs"]
mod tests;
