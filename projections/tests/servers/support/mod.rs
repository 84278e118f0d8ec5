//! An installation of its own on the test servers: prefix, topics, schemas, databases; gone afterwards, also on panic.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use projections::Wiring;
use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::config::{Janitor, Kafka, NamesConfig, Postgres, Projector, RegistryConfig};
use runtime::kafka::admin::Admin;
use runtime::{Config, Names, Secret, clock, postgres, telemetry};
use schemas::registry::Registry;
use schemas::{ChatEvent, Encoder, Mark, Membership, MessageState, Origin, Record, event_type};
use tokio_postgres::Client;
use uuid::Uuid;

/// The installation.
pub(crate) struct Stack {
    pub(crate) config: Arc<Config>,
    pub(crate) names: Names,
    pub(crate) wiring: Wiring,
    pub(crate) db: Client,
    producer: FutureProducer,
    events: Encoder<ChatEvent>,
    marks: Encoder<Mark>,
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test, which starts the servers"))
}

fn of_database(url: &str, name: &str) -> Secret {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    Secret::new(format!("{server}/{name}"))
}

/// Runs a test in an installation of its own.
pub(crate) async fn with_stack<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Arc<Stack>) -> F) {
    telemetry::init_logs(
        runtime::config::LogFormat::Text,
        &std::env::var("WALTALKIE_TEST_LOG").unwrap_or("off".into()),
    );
    telemetry::metrics();
    let stack = Arc::new(Stack::set_up().await);
    tracing::info!(prefix = stack.names.prefix(), "set up");
    let outcome = tokio::spawn(test(Arc::clone(&stack))).await;
    tracing::info!(prefix = stack.names.prefix(), "test over");
    stack.tear_down().await;
    tracing::info!(prefix = stack.names.prefix(), "torn down");
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

impl Stack {
    async fn set_up() -> Self {
        let server_url = server("WALTALKIE_TEST_POSTGRES_URL");
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..10]);
        let names = Names::new(prefix.clone());
        let (read, truth) =
            (names.database(runtime::names::Database::Read), names.database(runtime::names::Database::Truth));
        let config = Config {
            names: NamesConfig { prefix: prefix.clone() },
            kafka: Kafka {
                brokers: server("WALTALKIE_TEST_KAFKA"),
                partitions: 3,
                replication_factor: 1,
                min_insync_replicas: 1,
                ..Kafka::default()
            },
            postgres: Postgres {
                read_url: of_database(&server_url, &read),
                truth_url: of_database(&server_url, &truth),
                ..Postgres::default()
            },
            registry: RegistryConfig {
                url: Secret::new(server("WALTALKIE_TEST_REGISTRY")),
                ..RegistryConfig::default()
            },
            projector: Projector { batch_records: 50, inbox_delay_ms: 20, ..Projector::default() },
            janitor: Janitor { interval_ms: 50, batch_rows: 100, ..Janitor::default() },
            ..Config::default()
        };
        for name in [&read, &truth] {
            migrations::ensure_database(&Secret::new(server_url.clone()), name).await.expect("database");
        }
        migrations::migrate_read(&config.postgres.read_url).await.expect("migrated");
        migrations::migrate_truth(&config.postgres.truth_url).await.expect("migrated");
        let registry = Registry::new(config.registry.url.expose(), &prefix).expect("registry");
        registry.register_all().await.expect("schemas");
        Admin::new(&config.kafka).expect("admin").make_topics(&config.kafka, &names).await.expect("topics");
        let producer = runtime::kafka::producer_config(&config.kafka).create().expect("producer");
        let config = Arc::new(config);
        Self {
            events: Encoder::new(registry.id_of::<ChatEvent>().await.expect("id")),
            marks: Encoder::new(registry.id_of::<Mark>().await.expect("id")),
            wiring: Wiring::new(Arc::clone(&config)).expect("wiring"),
            db: open(&config.postgres.read_url).await,
            config,
            names,
            producer,
        }
    }

    async fn tear_down(&self) {
        let admin = open(&Secret::new(server("WALTALKIE_TEST_POSTGRES_URL"))).await;
        for kind in [runtime::names::Database::Read, runtime::names::Database::Truth] {
            let drop = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.names.database(kind));
            admin.batch_execute(&drop).await.expect("dropped");
        }
        Admin::new(&self.config.kafka).expect("admin").delete_topics(&self.names).await.expect("deleted");
    }

    /// A connection to the source of truth.
    pub(crate) async fn truth(&self) -> Client {
        open(&self.config.postgres.truth_url).await
    }

    /// Another connection to the read models.
    pub(crate) async fn another(&self) -> Client {
        open(&self.config.postgres.read_url).await
    }

    pub(crate) async fn event(&self, event: &ChatEvent) {
        self.value::<ChatEvent>(&event.chat_id, self.events.encode(event).expect("fits"), event.occurred_at).await;
    }

    /// Many at once, in this order.
    pub(crate) async fn events(&self, events: &[ChatEvent]) {
        let topic = self.names.topic(ChatEvent::TOPIC);
        let mut deliveries = Vec::with_capacity(events.len());
        for event in events {
            let value = self.events.encode(event).expect("fits");
            let record = FutureRecord::to(&topic).key(&event.chat_id).payload(&value).timestamp(event.occurred_at);
            deliveries.push(self.producer.send_result(record).map_err(|(error, _)| error).expect("queued"));
        }
        for delivery in deliveries {
            delivery.await.expect("not cancelled").map_err(|(error, _)| error).expect("written");
        }
    }

    pub(crate) async fn mark(&self, mark: &Mark) {
        self.value::<Mark>(&mark.chat_id, self.marks.encode(mark).expect("fits"), mark.marked_at).await;
    }

    /// Any bytes in the topic of a record.
    pub(crate) async fn value<R: Record>(&self, key: &str, value: Vec<u8>, at_ms: i64) {
        let topic = self.names.topic(R::TOPIC);
        let record = FutureRecord::to(&topic).key(key).payload(&value).timestamp(at_ms);
        self.producer.send(record, Duration::from_secs(10)).await.expect("written");
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.db.query_one(sql, &[]).await.expect(sql).get(0)
    }

    /// Waits until a query that counts gives this.
    pub(crate) async fn until_count(&self, sql: &str, wanted: i64) {
        until(sql, || async { self.count(sql).await == wanted }).await;
    }
}

async fn open(url: &Secret) -> Client {
    postgres::connect(&postgres::parse(url, "test").expect("URL")).await.expect("connection")
}

/// Waits for a condition, a minute at most.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_mins(1), waiting).await;
    assert!(outcome.is_ok(), "waited in vain: {what}");
}

/// A counter's value, summed over its labels where none is given.
pub(crate) fn metric(name: &str, label: &str) -> f64 {
    let text = telemetry::metrics().render();
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

pub(crate) fn event(chat: &str, seq: i64, event_type: &str) -> ChatEvent {
    ChatEvent {
        event_id: ChatEvent::id_of(chat, seq),
        event_type: event_type.to_owned(),
        chat_id: chat.to_owned(),
        seq,
        actor_id: "alice".to_owned(),
        occurred_at: clock::now_ms(),
        origin: Origin::default(),
        message: None,
        memberships: vec![],
        chat: None,
    }
}

/// A chat with these members, at `seq` 1.
pub(crate) fn created(chat: &str, users: &[&str]) -> ChatEvent {
    let memberships = users
        .iter()
        .map(|user| Membership {
            user_id: (*user).to_owned(),
            member_role: "member".to_owned(),
            joined_seq: 1,
            left_seq: None,
            visible_from_seq: 1,
        })
        .collect();
    ChatEvent { memberships, ..event(chat, 1, event_type::CHAT_CREATED) }
}

pub(crate) fn sent(chat: &str, seq: i64, sender: &str) -> ChatEvent {
    let base = event(chat, seq, event_type::MESSAGE_PERSISTED);
    let message = MessageState {
        message_id: Uuid::new_v4().to_string(),
        message_seq: seq,
        sender_id: sender.to_owned(),
        content: Some(format!("text {seq}")),
        created_at: base.occurred_at,
        ..MessageState::default()
    };
    ChatEvent { actor_id: sender.to_owned(), message: Some(message), ..base }
}

pub(crate) fn mark(chat: &str, user: &str, delivered: i64, read: i64) -> Mark {
    Mark {
        chat_id: chat.to_owned(),
        user_id: user.to_owned(),
        delivered_seq: Some(delivered),
        read_seq: (read > 0).then_some(read),
        marked_at: clock::now_ms(),
    }
}
