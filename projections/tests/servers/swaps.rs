//! What may be lost when fresh tables take the place of the live ones: cursors, rights, and what hangs on the live ones.

use std::sync::Arc;

use projections::{Error, Shipped};

use crate::rebuild::{rebuild, rebuilder};
use crate::rest;
use crate::support::{Stack, mark, until, with_stack};

const ANOTHER_LOG: &str =
    "UPDATE consumer_offset SET log_id = 'gone/gone', next_offset = 99999 WHERE consumer = 'cursor'";
const OF_ANOTHER_LOG: &str = "SELECT count(*) FROM consumer_offset WHERE log_id = 'gone/gone'";
const ONLY_HERE: &str = "SELECT count(*) FROM chat_cursor WHERE user_id = 'only-here'";

/// Takes a mark in, beginning where the offsets are.
async fn expect_goes_on(stack: &Arc<Stack>, user: &str) {
    let projector = rest::projector(&stack.config);
    stack.mark(&mark("later", user, 7, 0)).await;
    stack
        .until_count(&format!("SELECT count(*) FROM chat_cursor WHERE user_id = '{user}' AND delivered_seq = 7"), 1)
        .await;
    projector.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_that_are_in_no_topic_are_not_given_up() {
    with_stack(|stack| async move {
        let marks = rest::marks(100);
        let projector = rest::projector(&stack.config);
        for mark in &marks {
            stack.mark(mark).await;
        }
        let expected = rest::expected_cursors(&marks);
        until("the cursors are there", || async { rest::cursors(&stack, "chat_cursor").await == expected }).await;
        projector.abort();
        // What is left of another cluster: chat.cursors doesn't have it.
        let left = "INSERT INTO chat_cursor (chat_id, user_id, delivered_seq, read_seq, updated_at)
                    VALUES ('chat0', 'only-here', 3, 2, now())";
        stack.db.batch_execute(&format!("{left}; {ANOTHER_LOG}")).await.expect("another log");
        let refused = rebuild(&stack, "cursor").await;
        let lost = matches!(refused, Err(Error::WouldLose { projection: "cursor", table: "chat_cursor", rows: 1 }));
        assert!(lost, "{refused:?}");
        assert_eq!(stack.count(ONLY_HERE).await, 1);

        // As docs/operators.md says: the rows stay, and the log of now is begun.
        stack.db.batch_execute("DELETE FROM consumer_offset WHERE consumer = 'cursor'").await.expect("forgotten");
        expect_goes_on(&stack, "first").await;
        assert_eq!(stack.count(ONLY_HERE).await, 1);

        stack.db.batch_execute(ANOTHER_LOG).await.expect("another log");
        Shipped::Cursor.rebuild(&rebuilder(&stack).losing_rows(true)).await.expect("rebuilt");
        assert_eq!((stack.count(ONLY_HERE).await, stack.count(OF_ANOTHER_LOG).await), (0, 0));
        expect_goes_on(&stack, "second").await;
    })
    .await;
}

/// Hours lie between the beginning of a rebuild and its swap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_and_made_while_a_rebuild_runs_counts_at_the_swap() {
    with_stack(|stack| async move {
        let [former, reader] = ["former", "reader"].map(|name| format!("\"{}{name}\"", stack.names.prefix()));
        stack.events(&rest::events(200)).await;
        rebuild(&stack, "chat_head").await.expect("rebuilt");
        let prepare = format!(
            "CREATE ROLE {former}; CREATE ROLE {reader}; GRANT SELECT ON chat_head TO {former};
             ALTER TABLE chat_head SET (autovacuum_enabled = off)"
        );
        stack.db.batch_execute(&prepare).await.expect("prepared");
        let holder = stack.another().await;
        let hold = "BEGIN; SELECT FROM consumer_offset WHERE consumer = 'chat_head' FOR UPDATE";
        holder.batch_execute(hold).await.expect("held");
        let rebuilding = {
            let stack = Arc::clone(&stack);
            tokio::spawn(async move { rebuild(&stack, "chat_head").await })
        };
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')
                        AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        until("it is about to swap", || async { stack.count(waits).await > 0 }).await;
        let meanwhile = format!(
            "REVOKE SELECT ON chat_head FROM {former}; GRANT SELECT, UPDATE ON chat_head TO {reader} WITH GRANT OPTION;
             ALTER TABLE chat_head RESET (autovacuum_enabled); ALTER TABLE chat_head SET (fillfactor = 60);
             CREATE VIEW ours AS SELECT chat_id FROM chat_head"
        );
        stack.db.batch_execute(&meanwhile).await.expect("changed");
        let wanted = shape(&stack).await;
        drop(holder);
        expect_obstacle(&rebuilding.await.expect("no panic"), "view ours");
        for (make, unmake, obstacle) in [
            (
                "ALTER TABLE chat_head ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE chat_head DISABLE ROW LEVEL SECURITY",
                "row-level",
            ),
            ("CREATE POLICY theirs ON chat_head USING (true)", "DROP POLICY theirs ON chat_head", "policy theirs"),
        ] {
            stack.db.batch_execute(&format!("DROP VIEW IF EXISTS ours; {make}")).await.expect(make);
            expect_obstacle(&rebuild(&stack, "chat_head").await, obstacle);
            stack.db.batch_execute(unmake).await.expect(unmake);
        }
        // It goes on with the tables that were made before all that.
        let rebuilt = rebuild(&stack, "chat_head").await;
        let found = shape(&stack).await;
        let tidy = format!("DROP OWNED BY {former}, {reader}; DROP ROLE {former}, {reader}");
        stack.db.batch_execute(&tidy).await.expect("tidied");
        assert_eq!((rebuilt.expect("rebuilt").records, found), (0, wanted));
    })
    .await;
}

fn expect_obstacle<T: std::fmt::Debug>(refused: &Result<T, Error>, wanted: &str) {
    let Err(Error::Obstacle { obstacle, .. }) = refused else { panic!("{wanted}: {refused:?}") };
    assert!(obstacle.contains(wanted), "{obstacle}");
}

async fn shape(stack: &Stack) -> String {
    let sql = "SELECT concat_ws(' ', reloptions, relacl) FROM pg_class WHERE oid = 'chat_head'::regclass";
    stack.db.query_one(sql, &[]).await.expect("a row").get(0)
}
