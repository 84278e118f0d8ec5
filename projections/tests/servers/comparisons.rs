//! Comparisons that are stopped and killed: two copies of the tables, with everybody's words, don't stay behind unseen. And one
//! that is taken again at once.

use std::sync::Arc;

use projections::rebuild::{Leftover, Verdict, leftovers};
use projections::{Error, Shipped};
use runtime::Shutdown;
use tokio::task::JoinHandle;

use crate::rebuild::{is_locked, no_schema_is_left, rebuild, rebuilder, verify};
use crate::rest;
use crate::support::{Stack, created, until, with_stack};

const HOLD_OFFSETS: &str = "BEGIN; SELECT FROM consumer_offset WHERE consumer = 'chat_head' FOR UPDATE";
const IS_FREE: &str = "SELECT pg_try_advisory_xact_lock(7768, hashtext('verify_chat_head'))";
const HOLD_FRESH: &str = "BEGIN; LOCK TABLE verify_chat_head.chat_head IN ACCESS EXCLUSIVE MODE";

/// A comparison in its middle: both copies are there, and the one that is rebuilt can't be written. Ends with the connection
/// that holds it.
async fn in_the_middle(
    stack: &Arc<Stack>,
    stop: &Shutdown,
) -> (JoinHandle<Result<Verdict, Error>>, tokio_postgres::Client) {
    let (offsets, fresh) = (stack.another().await, stack.another().await);
    offsets.batch_execute(HOLD_OFFSETS).await.expect("held");
    let comparing = {
        let rebuilder = rebuilder(stack).stopped_by(stop.clone());
        tokio::spawn(async move { Shipped::ChatHead.verify(&rebuilder).await })
    };
    let has = |schema: &str| format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
    stack.until_count(&has("verify_chat_head"), 1).await;
    fresh.batch_execute(HOLD_FRESH).await.expect("held");
    offsets.batch_execute("ROLLBACK").await.expect("let go");
    stack.until_count(&has("verify_chat_head_live"), 1).await;
    (comparing, fresh)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_leaves_nothing_and_one_that_is_killed_is_named() {
    with_stack(|stack| async move {
        stack.events(&rest::events(200)).await;
        rebuild(&stack, "chat_head").await.expect("rebuilt");

        let stop = Shutdown::new();
        let (comparing, holder) = in_the_middle(&stack, &stop).await;
        assert!(leftovers(&stack.db).await.expect("found").is_empty(), "somebody works on them");
        stop.begin();
        drop(holder);
        let stopped = comparing.await.expect("no panic");
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        no_schema_is_left(&stack).await;

        let (comparing, holder) = in_the_middle(&stack, &Shutdown::new()).await;
        comparing.abort();
        assert!(comparing.await.is_err_and(|error| error.is_cancelled()), "it was killed");
        drop(holder);
        until("its lock is free", || async { !is_locked(&stack).await }).await;
        let left = ["verify_chat_head", "verify_chat_head_live"].map(|schema| Leftover::Comparison(schema.to_owned()));
        assert_eq!(leftovers(&stack.db).await.expect("found"), left);
        // The next one takes them away.
        assert!(verify(&stack, "chat_head").await.is_equal());
        no_schema_is_left(&stack).await;
    })
    .await;
}

/// All on one thread, so that no connection of the first can end while another looks at its lock.
#[tokio::test]
async fn one_that_has_ended_holds_nobody_up() {
    with_stack(|stack| async move {
        stack.event(&created("c", &["alice"])).await;
        assert!(verify(&stack, "chat_head").await.is_equal());
        let other = Arc::clone(&stack);
        let is_free = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let db = other.another().await;
                db.query_one(IS_FREE, &[]).await.expect("looked at").get::<_, bool>(0)
            })
        });
        assert!(is_free.join().expect("no panic"), "its lock is held until its connection has ended");
        assert!(verify(&stack, "chat_head").await.is_equal());
    })
    .await;
}
