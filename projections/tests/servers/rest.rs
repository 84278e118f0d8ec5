//! Two projectors under faults, then rest: the tables are a function of the history and the cursors.

#[path = "../../src/samples.rs"]
#[allow(dead_code, reason = "the unit tests use the rest")]
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::support::{Stack, mark, metric, until, with_stack};
use projections::{Error, janitor, metrics};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use runtime::{Config, Health, Shutdown, clock};
use schemas::topics::Topic;
use schemas::{ChatEvent, Mark, event_type};
use tokio::task::JoinHandle;

pub(crate) type Task = JoinHandle<Result<(), Error>>;

pub(crate) fn projector(config: &Arc<Config>) -> Task {
    let config = Arc::clone(config);
    tokio::spawn(async move {
        let health = Health::default();
        projections::run(config, health.role("projector"), Shutdown::new()).await
    })
}

/// Marks of the same chats and people as the samples', in no order.
pub(crate) fn marks(count: i64) -> Vec<Mark> {
    let one = |at: i64| {
        let (chat, user, seq) = (at % 2, at / 2 % 4, at * 37 % 150);
        mark(&format!("chat{chat}"), &format!("u{user}"), seq, if at % 3 == 0 { seq / 2 } else { 0 })
    };
    (0..count).map(one).collect()
}

/// A history of about so many events.
pub(crate) fn events(count: usize) -> Vec<ChatEvent> {
    let mut random = TestRunner::deterministic();
    let actions = proptest::collection::vec(samples::actions(2), count).prop_map(|parts| parts.concat());
    let actions = actions.new_tree(&mut random).expect("a sample").current();
    let now = clock::now_ms();
    samples::history(&actions).into_iter().map(|event| ChatEvent { occurred_at: now, ..event }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_cut_projectors_leave_what_the_history_says() {
    with_stack(|stack| async move {
        let events = events(900);
        let marks = marks(300);
        assert!(events.len() > marks.len(), "only {} events", events.len());

        let mut config = (*stack.config).clone();
        config.projector.batch_records = 5;
        let config = Arc::new(config);
        let (health, end) = (Health::default(), Shutdown::new());
        let cleaning = tokio::spawn(janitor::run(Arc::clone(&stack.config), health.role("janitor"), end.clone()));
        let mut projectors = vec![projector(&config), projector(&config)];
        let writing = tokio::spawn({
            let (stack, events, marks) = (Arc::clone(&stack), events.clone(), marks.clone());
            async move {
                for (at, event) in events.iter().enumerate() {
                    stack.event(event).await;
                    if let Some(mark) = marks.get(at) {
                        stack.mark(mark).await;
                    }
                }
            }
        });
        // Connections are cut in mid-transaction, and some projectors are killed. Not for ever: the cursor's transactions
        // wait for Kafka, and would be cut every time.
        let hits = || metric(metrics::RETRIES, "") + metric(metrics::MISMATCHES, "");
        let mut faults = 0;
        until("enough faults have hit", || {
            faults += 1;
            if faults % 40 == 0 && faults <= 160 {
                projectors.remove(0).abort();
                projectors.push(projector(&config));
            }
            let stack = &stack;
            async move {
                cut_a_transaction(stack).await;
                hits() >= 30.0
            }
        })
        .await;
        writing.await.expect("written");
        until("all is read", || is_read(&stack, events.len() as i64, marks.len() as i64)).await;
        assert_eq!(membership(&stack).await, expected_membership(&events));
        assert_eq!(heads(&stack).await, expected_heads(&events));
        assert_eq!(cursors(&stack, "chat_cursor").await, expected_cursors(&marks));
        until("the inbox has read the cursors", || async {
            cursors(&stack, "inbox_cursor").await == expected_cursors(&marks)
        })
        .await;
        let wanted = expected_inbox(&events, &expected_cursors(&marks));
        assert!(!wanted.is_empty());
        until("the inbox is at rest", || async { inbox(&stack).await == wanted }).await;
        for name in crate::rebuild::NAMES {
            let verdict = crate::rebuild::verify(&stack, name).await;
            assert!(verdict.is_equal(), "{name}: {verdict:?}");
        }
        assert!(projectors.iter().all(|task| !task.is_finished()), "a projector gave up");
        for projector in projectors {
            projector.abort();
        }
        end.begin();
        cleaning.await.expect("no panic").expect("ends well");
    })
    .await;
}

/// Ends a connection that is in the middle of a transaction, if there is one at this moment.
async fn cut_a_transaction(stack: &Stack) {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM (
                   SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                      AND xact_start IS NOT NULL ORDER BY random() LIMIT 1) AS victim";
    stack.count(cut).await;
}

/// Whether all projections are through. The topics hold records only, no markers, so offsets count them.
pub(crate) async fn is_read(stack: &Stack, events: i64, marks: i64) -> bool {
    let sql =
        "SELECT consumer, sum(next_offset)::bigint FROM consumer_offset WHERE topic = ANY($1) GROUP BY 1 ORDER BY 1";
    let topics = [Topic::ChatEvents, Topic::ChatMarks].map(|topic| stack.names.topic(topic));
    let rows = stack.db.query(sql, &[&topics.as_slice()]).await.expect("rows");
    let read: Vec<(&str, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    read == [("chat_head", events), ("cursor", marks), ("inbox", events), ("membership", events)]
}

/// Somebody leaves who was there from the beginning.
pub(crate) fn left(chat: &str, seq: i64, user: &str) -> ChatEvent {
    let mut event = crate::support::event(chat, seq, event_type::MEMBER_LEFT);
    let stay = crate::support::created(chat, &[user]).memberships.remove(0);
    event.memberships = vec![schemas::Membership { left_seq: Some(seq), ..stay }];
    event
}

/// The same where nobody marks anything.
pub(crate) async fn is_read_but_for_cursors(stack: &Stack, events: i64) -> bool {
    let sql = "SELECT count(*) FROM (SELECT consumer FROM consumer_offset WHERE topic = $1
                GROUP BY consumer HAVING sum(next_offset)::bigint = $2) AS through";
    let topic = stack.names.topic(Topic::ChatEvents);
    stack.db.query_one(sql, &[&topic, &events]).await.expect("rows").get::<_, i64>(0) == 3
}

pub(crate) type Stays = BTreeMap<(String, String, i64), (Option<i64>, i64, String)>;

pub(crate) async fn membership(stack: &Stack) -> Stays {
    let sql = "SELECT chat_id, user_id, joined_seq, left_seq, visible_from_seq, member_role FROM membership";
    let rows = stack.db.query(sql, &[]).await.expect("rows");
    rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), (row.get(3), row.get(4), row.get(5)))).collect()
}

pub(crate) fn expected_membership(events: &[ChatEvent]) -> Stays {
    let stays = events.iter().flat_map(|event| event.memberships.iter().map(move |stay| (event, stay)));
    stays
        .map(|(event, stay)| {
            let key = (event.chat_id.clone(), stay.user_id.clone(), stay.joined_seq);
            (key, (stay.left_seq, stay.visible_from_seq, stay.member_role.clone()))
        })
        .collect()
}

pub(crate) type Heads = BTreeMap<String, (i64, Option<i64>, Option<String>)>;

pub(crate) async fn heads(stack: &Stack) -> Heads {
    let sql = "SELECT chat_id, head_seq, message_seq, message->>'content' FROM chat_head";
    let rows = stack.db.query(sql, &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect()
}

pub(crate) fn expected_heads(events: &[ChatEvent]) -> Heads {
    let mut heads = Heads::new();
    for event in events {
        let head = heads.entry(event.chat_id.clone()).or_default();
        head.0 = event.seq;
        if let Some(message) = &event.message
            && (event.event_type == event_type::MESSAGE_PERSISTED || head.1 == Some(message.message_seq))
        {
            (head.1, head.2) = (Some(message.message_seq), message.content.clone());
        }
    }
    heads
}

pub(crate) type Reached = BTreeMap<(String, String), i64>;

pub(crate) async fn cursors(stack: &Stack, table: &str) -> Reached {
    let sql = format!("SELECT chat_id, user_id, delivered_seq FROM {table}");
    let rows = stack.db.query(&sql, &[]).await.expect("rows");
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

pub(crate) fn expected_cursors(marks: &[Mark]) -> Reached {
    let mut reached = Reached::new();
    for mark in marks {
        let seq = reached.entry((mark.chat_id.clone(), mark.user_id.clone())).or_insert(0);
        *seq = mark.delivered_seq.unwrap_or(0).max(*seq);
    }
    reached
}

pub(crate) type Pending = BTreeSet<(String, i64, String, bool)>;

pub(crate) async fn inbox(stack: &Stack) -> Pending {
    let rows =
        stack.db.query("SELECT chat_id, sequence_number, user_id, is_deleted FROM inbox", &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

pub(crate) fn expected_inbox(events: &[ChatEvent], cursors: &Reached) -> Pending {
    let mut pending = Pending::new();
    for sent in events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
        let of_chat = || events.iter().filter(|event| event.chat_id == sent.chat_id);
        let is_deleted = of_chat()
            .filter(|event| event.event_type == event_type::MESSAGE_DELETED)
            .any(|event| event.message.as_ref().is_some_and(|message| message.message_seq == sent.seq));
        for user in ["u0", "u1", "u2", "u3"].map(str::to_owned) {
            let stay = of_chat().flat_map(|event| &event.memberships).rfind(|stay| stay.user_id == user);
            let is_member = stay.is_some_and(|stay| stay.left_seq.is_none() && stay.joined_seq < sent.seq);
            let reached = cursors.get(&(sent.chat_id.clone(), user.clone())).copied().unwrap_or(0);
            if is_member && sent.actor_id != user && reached < sent.seq {
                pending.insert((sent.chat_id.clone(), sent.seq, user, is_deleted));
            }
        }
    }
    pending
}
