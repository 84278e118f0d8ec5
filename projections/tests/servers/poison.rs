//! What is no event in the history: passed over, put aside, and in nobody's way. What may be one stops its projection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use projections::{Error, Shipped, metrics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Health, Shutdown, clock};
use schemas::topics::Topic;
use schemas::{ChatEvent, codec};

use crate::rebuild::{rebuild, verify};
use crate::support::{Stack, metric, until, with_stack};
use crate::{more, rest};

/// Those that read the history.
const READERS: [&str; 6] = ["membership", "chat_head", "inbox", "timeline", "chat_activity", "user_export"];

/// A dead letter: who put it aside, where it was, why, and its bytes.
type Letter = (String, i64, String, Option<Vec<u8>>);

fn letters(stack: &Stack) -> Vec<Letter> {
    let mut settings = runtime::kafka::client_config(&stack.config.kafka);
    let consumer: BaseConsumer = settings.set("group.id", "unused").create().expect("a consumer");
    let topic = stack.names.topic(Topic::ChatEventsDlq);
    let (_, end) = consumer.fetch_watermarks(&topic, 0, Duration::from_secs(30)).expect("the topic");
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(&topic, 0, Offset::Beginning).expect("a place");
    consumer.assign(&places).expect("assigned");
    let read = || {
        let message = consumer.poll(Duration::from_secs(30)).expect("a letter").expect("read");
        let header = |name: &str| {
            let found = message.headers().expect("headers").iter().find(|header| header.key == name);
            String::from_utf8(found.and_then(|header| header.value).expect(name).to_vec()).expect("text")
        };
        let offset = header("source_offset").parse().expect("a number");
        (header("consumer"), offset, header("reason"), message.payload().map(<[u8]>::to_vec))
    };
    (0..end).map(|_| read()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_put_aside_and_every_projection_goes_on() {
    with_stack(|stack| async move {
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let config = Arc::new(more::keeping_more(&stack));
        let role = tokio::spawn(projections::run(config, health.role("projector"), shutdown.clone()));
        let before = READERS.map(|name| metric(metrics::DEAD_LETTERS, name));
        let events = rest::events(600);
        let half = events.len() / 2;
        stack.events(&events[..half]).await;
        let strange: [&[u8]; 3] = [b"not framed", b"", b"\0\0\0"];
        for value in strange {
            stack.value::<ChatEvent>("chat0", value.to_vec(), clock::now_ms()).await;
        }
        let marks = rest::marks(100);
        for mark in &marks {
            stack.mark(mark).await;
        }
        stack.events(&events[half..]).await;
        let all = events.len() + strange.len();
        let topic = stack.names.topic(Topic::ChatEvents);
        let through = format!(
            "SELECT count(*) FROM (SELECT consumer FROM consumer_offset WHERE topic = '{topic}'
                                    GROUP BY 1 HAVING sum(next_offset) = {all}) AS through"
        );
        stack.until_count(&through, READERS.len() as i64).await;
        let expected = rest::expected_cursors(&marks);
        until("the cursors are there", || async { rest::cursors(&stack, "inbox_cursor").await == expected }).await;
        until("ready", || async { health.is_ready() }).await;

        let letters = tokio::task::block_in_place(|| letters(&stack));
        let by: BTreeSet<&str> = letters.iter().map(|(consumer, ..)| consumer.as_str()).collect();
        assert_eq!(by, BTreeSet::from(READERS));
        for (name, before) in READERS.into_iter().zip(before) {
            let of_it: Vec<&Letter> = letters.iter().filter(|(consumer, ..)| consumer == name).collect();
            let values: Vec<&[u8]> =
                of_it.iter().map(|(_, _, _, value)| value.as_deref().unwrap_or_default()).collect();
            assert_eq!(values, strange, "{name}");
            assert!(of_it.windows(2).all(|pair| pair[0].1 < pair[1].1) && of_it[0].2.contains("not Confluent framing"));
            assert!(metric(metrics::DEAD_LETTERS, name) >= before + 3.0, "{name}");
        }
        for shipped in Shipped::ALL {
            let verdict = verify(&stack, shipped.name()).await;
            let is_empty = verdict.tables.iter().all(|(_, live, _)| live.rows == 0);
            assert!(verdict.is_equal() && !is_empty, "{}: {verdict:?}", shipped.name());
        }
        rebuild(&stack, "inbox").await.expect("rebuilt past it");
        assert!(verify(&stack, "inbox").await.is_equal());

        // Under the id of our own schema it may be an event: nobody goes past it, and neither does a rebuild.
        let id = stack.wiring.registry.id_of::<ChatEvent>().await.expect("an id");
        let torn = [codec::header(id).as_slice(), b"\xff\xff\xff"].concat();
        stack.value::<ChatEvent>("chat0", torn, clock::now_ms()).await;
        let problem = || health.statuses().remove(0).problem.unwrap_or_default();
        until("every projection to stop", || async {
            READERS.iter().all(|name| problem().contains(&format!("projection {name} stopped: the record in")))
        })
        .await;
        let refused = rebuild(&stack, "chat_head").await;
        assert!(matches!(refused, Err(Error::Poison { projection: "chat_head", .. })), "{refused:?}");
        shutdown.begin();
        let failure = role.await.expect("no panic").expect_err("says why");
        assert!(matches!(failure, Error::Poison { .. }), "{failure}");
    })
    .await;
}
