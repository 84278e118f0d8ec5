//! The table of cursors once more, from `chat.cursors`: marks are kept for days only, and merged ones for ever.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::Cursor;
use schemas::topics::Topic;
use tokio_postgres::Error;

use super::{CursorProjection, Cursors, Reached, load, store};
use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal};
use crate::rebuild::{Pass, Replay};

/// The projection `cursor`, as it is rebuilt.
#[derive(Debug, Clone, Copy)]
pub struct CursorReplay;

impl Projection for CursorReplay {
    const NAME: &'static str = CursorProjection::NAME;
    const VERSION: u32 = CursorProjection::VERSION;
    const TABLES: &'static [&'static str] = CursorProjection::TABLES;
}

impl Replay for CursorReplay {
    /// Marks up to the live offsets are in `chat.cursors` already: they are written there first.
    const OTHER_TOPICS: &'static [Topic] = &[Topic::ChatCursors];
    const HAS_PAST: bool = false;
    const IRREPLACEABLE: &'static [(&'static str, &'static str)] = &[("chat_cursor", "chat_id, user_id")];

    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, Cursor>(&self).await
    }
}

impl Input<Cursor> for CursorReplay {
    const LOOP: &'static str = "cursor-replay";
    const LAG_METRIC: &'static str = metrics::CURSOR_LAG;
    type State = Cursors;

    fn state(&self) -> Cursors {
        Cursors::default()
    }

    async fn load(&self, transaction: &Transaction<'_>, cursors: &[Cursor], state: &mut Cursors) -> Result<(), Error> {
        load(transaction, cursors.iter().map(|cursor| (&cursor.chat_id, &cursor.user_id)), state).await
    }

    /// Merged already, by one writer at a time: the newest is the highest.
    fn apply(state: &mut Cursors, cursor: &Cursor) -> Result<Applied, Refusal> {
        let Cursor { delivered_seq, read_seq, updated_at, .. } = *cursor;
        state.set((cursor.chat_id.clone(), cursor.user_id.clone()), Reached { delivered_seq, read_seq, updated_at });
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Cursors) -> Result<(), Error> {
        store(transaction, state).await
    }

    fn size(state: &Cursors) -> usize {
        state.len()
    }

    fn settle(state: &mut Cursors) {
        state.settle();
    }
}
