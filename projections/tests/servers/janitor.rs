//! The janitor on real tables.

use std::sync::Arc;

use crate::support::{until, with_stack};
use projections::janitor;
use runtime::{Health, Shutdown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_goes_and_what_waits_stays() {
    with_stack(|stack| async move {
        // 20 people with 100 rows each: half of them marked, half only passed by the cursor; 50 more really wait.
        let fill = "
            INSERT INTO inbox SELECT 'u' || u, gen_random_uuid(), 'c', s, s % 2 = 0, false, now()
              FROM generate_series(1, 20) u, generate_series(1, 100) s;
            INSERT INTO inbox_cursor SELECT 'c', 'u' || u, 100 FROM generate_series(1, 20) u;
            INSERT INTO inbox SELECT 'u1', gen_random_uuid(), 'c', s, false, false, now() FROM generate_series(101, 130) s;
            INSERT INTO inbox SELECT 'absent', gen_random_uuid(), 'c', s, false, false, now() FROM generate_series(1, 20) s";
        stack.db.batch_execute(fill).await.expect("filled");
        let truth = stack.truth().await;
        let results = "
            INSERT INTO command_result SELECT gen_random_uuid(), '{}', now() - interval '2 days' FROM generate_series(1, 350);
            INSERT INTO command_result SELECT gen_random_uuid(), '{}', now() FROM generate_series(1, 7);
            INSERT INTO idempotent_answer SELECT 'u', '', 'k' || n, '', gen_random_uuid(), NULL, now() - n * interval '1 hour'
              FROM generate_series(1, 400) n";
        truth.batch_execute(results).await.expect("filled");

        // A row that somebody else holds is left alone, and holds nobody up.
        let holder = stack.another().await;
        holder.batch_execute("BEGIN; SELECT 1 FROM inbox WHERE user_id = 'u2' AND sequence_number = 3 FOR UPDATE").await.expect("held");

        let (health, shutdown) = (Health::default(), Shutdown::new());
        let role = tokio::spawn(janitor::run(Arc::clone(&stack.config), health.role("janitor"), shutdown.clone()));
        stack.until_count("SELECT count(*) FROM inbox", 51).await;
        until("ready", || async { health.is_ready() }).await;
        holder.batch_execute("COMMIT").await.expect("let go");
        stack.until_count("SELECT count(*) FROM inbox", 50).await;
        assert_eq!(stack.count("SELECT count(*) FROM inbox WHERE is_delivered").await, 0);
        until("old results are gone", || async {
            let left: i64 = truth.query_one("SELECT count(*) FROM command_result", &[]).await.expect("count").get(0);
            left == 7
        })
        .await;
        until("old answers are gone", || async {
            let left: i64 = truth.query_one("SELECT count(*) FROM idempotent_answer", &[]).await.expect("count").get(0);
            left == 23
        })
        .await;
        shutdown.begin();
        role.await.expect("no panic").expect("ends well");
    })
    .await;
}
