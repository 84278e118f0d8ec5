//! A projection of one's own whose next version has other columns.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use projections::rebuild::{Pass, Replay};
use projections::{Applied, Error, Input, Projection, Refusal, Rows};
use schemas::ChatEvent;
use tokio_postgres::Error as PgError;

use crate::rebuild::{no_schema_is_left, rebuilder};
use crate::rest;
use crate::support::with_stack;

/// Events by chat; the second version also knows the newest `seq`.
struct Lengths<const VERSION: u32>;

const FIRST: &str = "CREATE TABLE IF NOT EXISTS lengths (chat_id text PRIMARY KEY, events bigint NOT NULL)";
const SECOND: &str = "
    CREATE TABLE IF NOT EXISTS lengths (chat_id text PRIMARY KEY, events bigint NOT NULL, newest bigint NOT NULL);
    CREATE INDEX IF NOT EXISTS lengths_by_newest ON lengths (newest)";

impl<const VERSION: u32> Projection for Lengths<VERSION> {
    const NAME: &'static str = "lengths";
    const VERSION: u32 = VERSION;
    const TABLES: &'static [&'static str] = &["lengths"];
}

impl<const VERSION: u32> Input<ChatEvent> for Lengths<VERSION> {
    const LOOP: &'static str = "lengths";
    const LAG_METRIC: &'static str = "lengths_lag_records";
    type State = Rows<String, (i64, i64)>;

    fn state(&self) -> Self::State {
        Rows::default()
    }

    /// Rebuilt in one go, and never live.
    async fn load(&self, _: &Transaction<'_>, _: &[ChatEvent], _: &mut Self::State) -> Result<(), PgError> {
        Ok(())
    }

    fn apply(state: &mut Self::State, event: &ChatEvent) -> Result<Applied, Refusal> {
        let events = state.get(&event.chat_id).map_or(0, |row| row.0);
        state.set(event.chat_id.clone(), (events + 1, event.seq));
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Self::State) -> Result<(), PgError> {
        for (chat, (events, newest)) in state.changed() {
            if VERSION == 1 {
                transaction.execute("INSERT INTO lengths VALUES ($1, $2)", &[chat, events]).await?;
            } else {
                transaction.execute("INSERT INTO lengths VALUES ($1, $2, $3)", &[chat, events, newest]).await?;
            }
        }
        Ok(())
    }

    fn size(state: &Self::State) -> usize {
        state.len()
    }

    fn settle(state: &mut Self::State) {
        state.settle();
    }
}

impl<const VERSION: u32> Replay for Lengths<VERSION> {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_with_other_columns_is_rebuilt_by_its_own_sql() {
    with_stack(|stack| async move {
        let events = rest::events(300);
        stack.events(&events).await;
        stack.db.batch_execute(FIRST).await.expect("made");
        let patient = || rebuilder(&stack).writing_every(std::time::Duration::from_mins(1));
        patient().making_tables(FIRST).rebuild(Lengths::<1>).await.expect("rebuilt");
        assert_eq!(stack.count("SELECT sum(events)::bigint FROM lengths").await, events.len() as i64);
        patient().making_tables(SECOND).rebuild(Lengths::<2>).await.expect("rebuilt in another shape");
        let newest = "SELECT sum(newest)::bigint FROM lengths";
        assert_eq!(stack.count(newest).await, events.len() as i64, "seqs are dense");
        let index =
            "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() AND indexname = 'lengths_by_newest'";
        assert_eq!(stack.count(index).await, 1);
        let verdict = patient().making_tables(SECOND).verify(Lengths::<2>).await.expect("compared");
        assert!(verdict.is_equal(), "{verdict:?}");
        no_schema_is_left(&stack).await;
    })
    .await;
}
