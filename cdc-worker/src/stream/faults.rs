//! What ends a session for good: what came, where, and the way out.

use super::State;
use crate::error::Error;
use crate::left_out::WAY_OUT;
use crate::lsn::Lsn;
use crate::mapping::{MapError, Table};
use crate::pgoutput::Tuple;
use crate::transaction::OrderError;
use crate::withheld;

impl State<'_> {
    pub(super) fn out_of_order(&self, source: OrderError) -> Error {
        let slot = self.worker.slot.clone();
        match source {
            OrderError::OtherLog { .. } => Error::Unfit {
                slot,
                reason: format!(
                    "{source}: this isn't the log that was published from. The database came back from a backup or a snapshot, \
                     and rows of new commits lie where older ones were passed. See that postgres.truth_url names the right \
                     server. {WAY_OUT}"
                ),
            },
            source => Error::Order { slot, source },
        }
    }

    pub(super) fn jumped(&self, chat_id: &str, seq: i64, after: i64) -> Error {
        Error::Unfit {
            slot: self.worker.slot.clone(),
            reason: format!(
                "chat {chat_id}: seq {seq} comes after {after}. What lies between was left out of the stream, as publication {} \
                 does that lacks a table for a while, or rows were written in another order than that of seq. Nothing of the \
                 chat after {after} is published. {WAY_OUT}",
                self.worker.publication
            ),
        }
    }

    pub(super) fn unmappable(&self, source: MapError) -> Error {
        Error::Row { row: "a row".into(), commit_lsn: self.tracker.open_lsn().unwrap_or(Lsn::ZERO), source }
    }

    pub(super) fn unmappable_row(&self, relation_id: u32, tuple: Tuple<'_>, source: MapError) -> Error {
        match self.mapping.key(relation_id, tuple) {
            Ok(key) => {
                let commit_lsn = self.tracker.open_lsn().unwrap_or(Lsn::ZERO);
                Error::Row { row: withheld::with_way_out(&key), commit_lsn, source }
            }
            Err(_) => self.unmappable(source),
        }
    }

    pub(super) fn not_an_insert(&self, what: &'static str, relation_id: u32) -> Error {
        let table = self.mapping.table(relation_id).ok().flatten().map_or("unknown", Table::name);
        Error::NotAnInsert { what, table: table.to_owned(), publication: self.worker.publication.clone() }
    }
}
