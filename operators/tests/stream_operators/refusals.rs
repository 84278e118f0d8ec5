//! What the operators refuse to go on from, and how they say so.

use operators::Error;
use operators::failpoint::Failpoints;
use schemas::topics::Topic;
use schemas::{Encoder, OperatorProgress, OperatorState};

use crate::support::history::history;
use crate::support::{Running, with_stack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_another_log_are_refused() {
    with_stack(|stack| async move {
        stack.events(&history(1, 20)).await;
        let progress =
            OperatorProgress { topic_log: "another/log".into(), next_offset: 5, watermark_at: Some(1_767_225_600_000) };
        let id = stack.registry.id_of::<OperatorState>().await.expect("id");
        let state = OperatorState { progress: Some(progress), open_window: None };
        let value = Encoder::new(id).encode(&state).expect("fits");
        stack.raw(Topic::OperatorsState, 1, OperatorState::PROGRESS_KEY, Some(&value)).await;
        let failure = Running::start(&stack.config, Failpoints::default()).ended().await.expect_err("refused");
        assert!(matches!(&failure, Error::OtherLog { partition: 1, recorded, .. } if recorded == "another/log"));
        assert!(failure.to_string().contains("made anew"), "{failure}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changelog_that_is_not_ours_is_refused() {
    with_stack(|stack| async move {
        stack.raw(Topic::OperatorsState, 0, "progress", Some(b"not ours")).await;
        let failure = Running::start(&stack.config, Failpoints::default()).ended().await.expect_err("refused");
        assert!(matches!(&failure, Error::State { partition: 0, key, .. } if key == "progress"), "{failure}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_with_other_partitions_are_refused() {
    with_stack(|stack| async move {
        stack.reshape(Topic::ChatAbuse, 2).await;
        let failure = Running::start(&stack.config, Failpoints::default()).ended().await.expect_err("refused");
        assert!(matches!(&failure, Error::Partitions { found: 2, wanted: 3, .. }), "{failure}");
        assert!(failure.to_string().contains("kafka.partitions = 3"), "{failure}");
    })
    .await;
}
