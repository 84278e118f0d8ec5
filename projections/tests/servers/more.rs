//! The projections that are kept where the configuration names them, and rows of an older version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use projections::rebuild::{Progress, Rebuilder};
use projections::{NEWEST, Shipped};
use runtime::Config;
use schemas::{ChatEvent, event_type};

use crate::rest;
use crate::support::{Stack, until, with_stack};

const MORE: [&str; 3] = ["timeline", "chat_activity", "user_export"];

pub(crate) fn keeping_more(stack: &Stack) -> Config {
    let mut config = (*stack.config).clone();
    config.projector.also = MORE.map(str::to_owned).to_vec();
    config.projector.batch_records = 97;
    config
}

pub(crate) async fn until_read(stack: &Stack, events: usize) {
    for name in MORE {
        let read =
            format!("SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer = '{name}'");
        stack.until_count(&read, events as i64).await;
    }
}

/// Messages by chat and `seq`, in their latest state: their sender, and their text unless they are deleted.
type Messages = BTreeMap<(String, i64), (String, Option<String>)>;

fn messages(events: &[ChatEvent]) -> Messages {
    let states = events.iter().filter_map(|event| event.message.as_ref().map(|message| (event, message)));
    states
        .map(|(event, state)| {
            let key = (event.chat_id.clone(), state.message_seq);
            (key, (state.sender_id.clone(), state.content.clone()))
        })
        .collect()
}

fn newest(messages: &Messages) -> Messages {
    let mut newest = Messages::new();
    let mut counts = BTreeMap::<&str, i64>::new();
    for (key, message) in messages.iter().rev() {
        let count = counts.entry(&key.0).or_default();
        *count += 1;
        if *count <= NEWEST {
            newest.insert(key.clone(), message.clone());
        }
    }
    newest
}

async fn rows(stack: &Stack, table: &str) -> Messages {
    let sql = format!("SELECT chat_id, message_seq, message->>'sender_id', message->>'content' FROM {table}");
    let rows = stack.db.query(&sql, &[]).await.expect("rows");
    rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect()
}

/// By chat: messages and senders. The samples' events are all of one day, or of two around midnight.
type Activity = BTreeMap<String, (i64, BTreeSet<String>)>;

fn activity(events: &[ChatEvent]) -> Activity {
    let mut activity = Activity::new();
    for event in events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
        let chat = activity.entry(event.chat_id.clone()).or_default();
        chat.0 += 1;
        chat.1.insert(event.actor_id.clone());
    }
    activity
}

async fn counted(stack: &Stack) -> Activity {
    let sql = "SELECT a.chat_id, sum(a.messages)::bigint,
                      (SELECT array_agg(DISTINCT sender_id) FROM chat_activity_sender s WHERE s.chat_id = a.chat_id)
                 FROM chat_activity a GROUP BY 1";
    let rows = stack.db.query(sql, &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get::<_, Vec<String>>(2).into_iter().collect()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_say_what_the_history_says_and_are_rebuilt_alike() {
    with_stack(|stack| async move {
        let events = rest::events(2_000);
        let all = messages(&events);
        assert!(all.len() as i64 > 3 * NEWEST, "{} messages are too few to be trimmed", all.len());
        let projector = rest::projector(&Arc::new(keeping_more(&stack)));
        stack.events(&events).await;
        until_read(&stack, events.len()).await;
        assert_eq!(rows(&stack, "user_export").await, all);
        assert_eq!(rows(&stack, "timeline").await, newest(&all));
        assert_eq!(counted(&stack).await, activity(&events));
        let senders = "SELECT count(*) FROM user_export WHERE user_id <> message->>'sender_id'";
        assert_eq!(stack.count(senders).await, 0);
        let days = "SELECT count(*) FROM chat_activity a
                     FULL JOIN (SELECT chat_id, day, sum(messages)::bigint AS messages, count(*) AS senders
                                  FROM chat_activity_sender GROUP BY 1, 2) s USING (chat_id, day)
                     WHERE (a.messages, a.senders) IS DISTINCT FROM (s.messages, s.senders)";
        assert_eq!(stack.count(days).await, 0);
        for write_every in [Duration::ZERO, Duration::from_secs(10)] {
            for name in MORE {
                let shipped = Shipped::named(name).expect(name);
                let progress = Arc::new(Progress::default());
                let rebuilder = Rebuilder::new(stack.wiring.clone(), progress).writing_every(write_every);
                shipped.rebuild(&rebuilder).await.expect(name);
                let verdict = shipped.verify(&rebuilder).await.expect(name);
                assert!(verdict.is_equal() && verdict.tables[0].1.rows > 0, "{name}: {verdict:?}");
            }
        }
        assert_eq!(rows(&stack, "timeline").await, newest(&all));
        assert_eq!(counted(&stack).await, activity(&events));
        projector.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_an_older_version_are_rebuilt_by_the_role_where_it_may() {
    with_stack(|stack| async move {
        let events = rest::events(400);
        stack.events(&events).await;
        let by_hand = Arc::new(keeping_more(&stack));
        let projector = rest::projector(&by_hand);
        until_read(&stack, events.len()).await;
        projector.abort();
        let damage =
            "DELETE FROM chat_activity; UPDATE projection_version SET version = 0 WHERE projection = 'chat_activity';
                      DELETE FROM timeline; UPDATE projection_version SET version = 99 WHERE projection = 'timeline'";
        stack.db.batch_execute(damage).await.expect("damaged");
        let version = |name: &'static str| {
            let stack = Arc::clone(&stack);
            let sql = format!("SELECT version::bigint FROM projection_version WHERE projection = '{name}'");
            async move { stack.count(&sql).await }
        };

        let projector = rest::projector(&by_hand);
        stack.event(&crate::support::created("another", &["u0"])).await;
        let goes_on =
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer = 'user_export'";
        stack.until_count(goes_on, events.len() as i64 + 1).await;
        assert_eq!(version("chat_activity").await, 0, "nobody may rebuild");
        projector.abort();

        let mut by_itself = keeping_more(&stack);
        by_itself.projector.rebuilds_itself = true;
        let by_itself = Arc::new(by_itself);
        let projectors = [rest::projector(&by_itself), rest::projector(&by_itself)];
        until("the older rows are rebuilt", || async { version("chat_activity").await == 1 }).await;
        assert_eq!(counted(&stack).await, activity(&events));
        stack.event(&crate::support::sent("another", 2, "u0")).await;
        stack.until_count("SELECT count(*) FROM chat_activity WHERE chat_id = 'another' AND messages = 1", 1).await;
        assert_eq!(version("timeline").await, 99, "newer rows are left alone");
        assert_eq!(stack.count("SELECT count(*) FROM timeline").await, 0);
        projectors.iter().for_each(tokio::task::JoinHandle::abort);
    })
    .await;
}
