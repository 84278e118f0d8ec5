//! The publisher on real servers: Kafka to Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::proxy::Proxy;
use crate::support::{env, random_prefix, stay, until};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::kafka::admin::Admin;
use runtime::redis::Heard;
use runtime::{Config, Health, Secret, Shutdown};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::wire::Relayed;
use schemas::wire::relay::Kind;
use schemas::{ChatEvent, Cursor, Encoder, Origin, event_type};
use tokio::sync::mpsc;

/// People who read one chat at the same time.
const READERS: usize = 300;

struct Stack {
    config: Arc<Config>,
    admin: Admin,
    producer: FutureProducer,
    events: Encoder<ChatEvent>,
    cursors: Encoder<Cursor>,
}

impl Stack {
    async fn start() -> Self {
        let mut config = Config { development: true, ..Config::default() };
        config.names.prefix = random_prefix();
        config.kafka.brokers = env("WALTALKIE_TEST_KAFKA");
        config.kafka.partitions = 3;
        config.kafka.replication_factor = 1;
        config.kafka.min_insync_replicas = 1;
        config.registry.url = Secret::new(env("WALTALKIE_TEST_REGISTRY"));
        config.redis.url = Secret::new(env("WALTALKIE_TEST_REDIS"));
        let names = config.names();
        let admin = Admin::new(&config.kafka).expect("admin");
        admin.make_topics(&config.kafka, &names).await.expect("topics");
        let registry = Registry::new(config.registry.url.expose(), names.prefix()).expect("registry");
        registry.register_all().await.expect("schemas");
        let events = Encoder::new(registry.id_of::<ChatEvent>().await.expect("id"));
        let cursors = Encoder::new(registry.id_of::<Cursor>().await.expect("id"));
        let producer = runtime::kafka::producer_config(&config.kafka).create().expect("producer");
        Self { config: Arc::new(config), admin, producer, events, cursors }
    }

    fn publisher(&self) -> Running {
        publisher(Arc::clone(&self.config))
    }

    async fn produce(&self, topic: Topic, key: &str, value: &[u8], event: Option<&str>) {
        let topic = self.config.names().topic(topic);
        let mut record = FutureRecord::to(&topic).key(key).payload(value);
        if let Some(event) = event {
            record = record.headers(OwnedHeaders::new().insert(Header { key: "ce_type", value: Some(event) }));
        }
        self.producer.send(record, Duration::from_secs(10)).await.expect("produced");
    }

    async fn event(&self, chat_id: &str, seq: i64, event_type: &str, members: &[&str]) {
        let event = ChatEvent {
            event_id: ChatEvent::id_of(chat_id, seq),
            event_type: event_type.into(),
            chat_id: chat_id.into(),
            seq,
            actor_id: "a".into(),
            occurred_at: 0,
            origin: Origin::default(),
            message: None,
            memberships: members.iter().map(|user_id| stay(user_id, seq, None, 1)).collect(),
            chat: None,
        };
        let value = self.events.encode(&event).expect("encoded");
        self.produce(Topic::ChatEvents, chat_id, &value, Some(event_type)).await;
    }
}

type Running = (Shutdown, Health, tokio::task::JoinHandle<Result<(), fanout::Error>>);

fn publisher(config: Arc<Config>) -> Running {
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let running = tokio::spawn(fanout::publisher::run(config, health.role("publisher"), shutdown.clone()));
    (shutdown, health, running)
}

async fn heard(hearing: &mut mpsc::Receiver<Heard>) -> (String, Vec<u8>) {
    let next = async {
        loop {
            match hearing.recv().await.expect("the subscriber lives") {
                Heard::Message { channel, payload } => return (channel, payload),
                Heard::Subscribed(_) | Heard::Lost => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("a message in time")
}

#[tokio::test]
async fn events_go_out_once_a_chat_and_a_restart_goes_on_where_it_was() {
    let stack = Stack::start().await;
    let names = stack.config.names();
    let registry = Arc::new(Registry::new(stack.config.registry.url.expose(), names.prefix()).expect("registry"));
    let decoder = schemas::Decoder::<ChatEvent>::new(registry, u32::MAX);
    let life = Shutdown::new();
    let (subscriptions, mut hearing) = runtime::redis::subscriber(&stack.config.redis, &life).expect("a subscriber");
    let channels = [names.chat_channel("c"), names.user_channel("bob")];
    for channel in &channels {
        subscriptions.subscribe(channel.clone()).await;
        loop {
            match hearing.recv().await.expect("the subscriber lives") {
                Heard::Subscribed(subscribed) if subscribed == *channel => break,
                _ => {}
            }
        }
    }

    let (shutdown, health, running) = stack.publisher();
    // A first start begins at the end, so something is sent until it is there; what was sent before may be heard too.
    let mut first = 0;
    'sending: loop {
        first += 1;
        stack.event("c", first, event_type::MESSAGE_PERSISTED, &[]).await;
        while let Ok(Some(heard)) = tokio::time::timeout(Duration::from_millis(500), hearing.recv()).await {
            let Heard::Message { payload, .. } = heard else { continue };
            let relayed = Relayed::from_bytes(&payload).expect("envelope");
            if decoder.decode(relayed.value).await.expect("decoded").seq == first {
                break 'sending;
            }
        }
        assert!(first < 100, "nothing ever came");
    }
    for seq in first + 1..first + 50 {
        stack.event("c", seq, event_type::MESSAGE_PERSISTED, &[]).await;
    }
    let mut last = None;
    for seq in first + 1..first + 50 {
        let (channel, payload) = heard(&mut hearing).await;
        let relayed = Relayed::from_bytes(&payload).expect("envelope");
        assert_eq!((channel.as_str(), relayed.kind), (channels[0].as_str(), Kind::Event));
        let event = decoder.decode(relayed.value).await.expect("decoded");
        assert_eq!(event.seq, seq, "in order, once");
        assert!(last.is_none_or(|last| relayed.offset > last));
        last = Some(relayed.offset);
    }
    assert!(health.is_ready());
    stack.event("c", first + 50, event_type::MEMBER_JOINED, &["bob"]).await;
    let (to_user, to_chat) = (heard(&mut hearing).await, heard(&mut hearing).await);
    assert_eq!((to_user.0.as_str(), to_chat.0.as_str()), (channels[1].as_str(), channels[0].as_str()));
    assert_eq!(to_user.1, to_chat.1);

    let cursor = |delivered_seq, read_seq| Cursor {
        chat_id: "c".into(),
        user_id: "bob".into(),
        delivered_seq,
        read_seq,
        updated_at: 0,
    };
    // Many readers of one chat, some of them several times.
    let began = Instant::now();
    let readers: Vec<Vec<u8>> = (0..READERS)
        .map(|reader| Cursor { user_id: format!("reader-{reader}"), ..cursor(10, 9) })
        .chain((1..=10).map(|n| cursor(n, n - 1)))
        .map(|cursor| stack.cursors.encode(&cursor).expect("encoded"))
        .collect();
    let producing = readers.iter().map(|value| stack.produce(Topic::ChatCursors, "c/bob", value, None));
    futures_util::future::join_all(producing).await;
    let mut told = std::collections::HashSet::new();
    let mut envelopes = 0;
    loop {
        let (channel, payload) = heard(&mut hearing).await;
        let relayed = Relayed::from_bytes(&payload).expect("envelope");
        assert_eq!((channel.as_str(), relayed.kind), (channels[0].as_str(), Kind::Receipts));
        envelopes += 1;
        let receipts: serde_json::Value = serde_json::from_slice(relayed.value).expect("JSON");
        let farthest = serde_json::json!({"delivered_seq": 10, "read_seq": 9});
        let users = receipts["users"].as_object().expect("users");
        told.extend(users.iter().filter(|(_, marks)| **marks == farthest).map(|(user_id, _)| user_id.clone()));
        if told.len() == READERS + 1 {
            break;
        }
    }
    let seconds = began.elapsed().as_secs();
    assert!(envelopes <= 2 + seconds, "{envelopes} envelopes for {READERS} readers in {seconds} s");

    // Stopped, it commits; what is published meanwhile goes out with the next start, and nothing goes out twice.
    shutdown.begin();
    running.await.expect("joined").expect("stopped in peace");
    assert!(shutdown.finish(Duration::from_secs(10)).await);
    for seq in first + 51..first + 60 {
        stack.event("c", seq, event_type::MESSAGE_PERSISTED, &[]).await;
    }
    let (shutdown, _health, running) = stack.publisher();
    for seq in first + 51..first + 60 {
        let (_, payload) = heard(&mut hearing).await;
        let relayed = Relayed::from_bytes(&payload).expect("envelope");
        assert_eq!(decoder.decode(relayed.value).await.expect("decoded").seq, seq);
    }
    shutdown.begin();
    running.await.expect("joined").expect("stopped in peace");
    assert!(shutdown.finish(Duration::from_secs(10)).await);

    // Events that Redis hasn't taken aren't passed over: whoever publishes next begins with them.
    let proxy = Proxy::start(stack.config.redis.url.expose()).await;
    let mut behind = (*stack.config).clone();
    behind.redis.url = Secret::new(proxy.url());
    let (shutdown, health, running) = publisher(Arc::new(behind));
    stack.event("c", first + 60, event_type::MESSAGE_PERSISTED, &[]).await;
    heard(&mut hearing).await;
    proxy.close();
    for seq in first + 61..first + 70 {
        stack.event("c", seq, event_type::MESSAGE_PERSISTED, &[]).await;
    }
    until(|| async { !health.is_ready() }).await;
    shutdown.begin();
    running.await.expect("joined").expect("stopped in peace");
    assert!(shutdown.finish(Duration::from_secs(10)).await);
    let (shutdown, _health, running) = stack.publisher();
    let mut next = first + 61;
    while next < first + 70 {
        let (_, payload) = heard(&mut hearing).await;
        let seq = decoder.decode(Relayed::from_bytes(&payload).expect("envelope").value).await.expect("decoded").seq;
        // What Redis had taken may come again: how far that was, was to be kept once a second.
        assert!(seq <= next, "{seq} before {next}");
        next = next.max(seq + 1);
    }
    shutdown.begin();
    running.await.expect("joined").expect("stopped in peace");
    stack.admin.delete_topics(&names).await.expect("topics deleted");
}
