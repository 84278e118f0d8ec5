//! An installation of its own on the test servers: prefix, topics, schemas; gone afterwards, also on panic.

pub(crate) mod history;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use operators::Error;
use operators::failpoint::{Act, Failpoints, Point};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::config::{Kafka, NamesConfig, Operators, RegistryConfig};
use runtime::kafka::Received;
use runtime::kafka::admin::Admin;
use runtime::kafka::partition::{self, PartitionReader, Span};
use runtime::{Config, Health, Names, Secret, Shutdown, telemetry};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatEvent, Decoder, Encoder, OperatorState, Record};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What the operators write for everybody.
pub(crate) const OUTPUTS: [Topic; 2] = [Topic::ChatActivity, Topic::ChatAbuse];
/// Partitions of the test's topics.
pub(crate) const PARTITIONS: i32 = 3;

/// The installation.
pub(crate) struct Stack {
    pub(crate) config: Arc<Config>,
    pub(crate) names: Names,
    pub(crate) registry: Arc<Registry>,
    producer: FutureProducer,
    events: Encoder<ChatEvent>,
}

pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test, which starts the servers"))
}

/// Runs a test in an installation of its own.
pub(crate) async fn with_stack<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Arc<Stack>) -> F) {
    telemetry::init_logs(
        runtime::config::LogFormat::Text,
        &std::env::var("WALTALKIE_TEST_LOG").unwrap_or("off".into()),
    );
    telemetry::metrics();
    let stack = Arc::new(Stack::set_up().await);
    let outcome = tokio::spawn(test(Arc::clone(&stack))).await;
    let admin = Admin::new(&stack.config.kafka).expect("admin");
    admin.delete_topics(&stack.names).await.expect("deleted");
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

impl Stack {
    async fn set_up() -> Self {
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..10]);
        let names = Names::new(prefix.clone());
        let config = Config {
            names: NamesConfig { prefix: prefix.clone() },
            kafka: Kafka {
                brokers: server("WALTALKIE_TEST_KAFKA"),
                partitions: PARTITIONS as u16,
                replication_factor: 1,
                min_insync_replicas: 1,
                ..Kafka::default()
            },
            registry: RegistryConfig {
                url: Secret::new(server("WALTALKIE_TEST_REGISTRY")),
                ..RegistryConfig::default()
            },
            operators: Operators { gather_ms: 20, ..Operators::default() },
            ..Config::default()
        };
        let registry = Arc::new(Registry::new(config.registry.url.expose(), &prefix).expect("registry"));
        registry.register_all().await.expect("schemas");
        Admin::new(&config.kafka).expect("admin").make_topics(&config.kafka, &names).await.expect("topics");
        Self {
            events: Encoder::new(registry.id_of::<ChatEvent>().await.expect("id")),
            producer: runtime::kafka::producer_config(&config.kafka).create().expect("producer"),
            registry,
            config: Arc::new(config),
            names,
        }
    }

    /// The same with other settings of the operators.
    pub(crate) fn config_with(&self, change: impl FnOnce(&mut Config)) -> Arc<Config> {
        let mut config = (*self.config).clone();
        change(&mut config);
        Arc::new(config)
    }

    /// Writes events in this order.
    pub(crate) async fn events(&self, events: &[ChatEvent]) {
        let topic = self.names.topic(Topic::ChatEvents);
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

    /// Any record in a partition of a topic.
    pub(crate) async fn raw(&self, topic: Topic, partition: i32, key: &str, value: Option<&[u8]>) {
        let topic = self.names.topic(topic);
        let mut record = FutureRecord::<str, [u8]>::to(&topic).partition(partition).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.producer.send(record, Duration::from_secs(10)).await.expect("written");
    }

    /// Committed records of a topic up to its present end, by partition.
    pub(crate) async fn read(&self, topic: Topic) -> BTreeMap<i32, Vec<Received>> {
        let topic = self.names.topic(topic);
        let ends = partition::ends(&self.config.kafka, &topic).await.expect("ends");
        let mut read = BTreeMap::new();
        for (number, (_, end)) in ends {
            let span =
                Span { topic: topic.clone(), partition: number, from: 0, until: Some(end), chunk_records: 10_000 };
            let client = runtime::kafka::client_config(&self.config.kafka);
            let mut reader = PartitionReader::start(client, "test", span).expect("reader");
            let mut records = Vec::new();
            while let Some(chunk) = reader.next().await.expect("read") {
                records.extend(chunk.records);
                if chunk.is_end {
                    break;
                }
            }
            read.insert(number, records);
        }
        read
    }

    /// What each partition of each output topic holds: keys, values and timestamps in their order.
    pub(crate) async fn outputs(&self) -> BTreeMap<(Topic, i32), Vec<Output>> {
        let mut outputs = BTreeMap::new();
        for topic in OUTPUTS {
            for (number, records) in self.read(topic).await {
                let records = records.into_iter().map(|record| (record.key, record.value, record.timestamp_ms));
                outputs.insert((topic, number), records.collect());
            }
        }
        outputs
    }

    /// The rows of a topic, partition by partition.
    pub(crate) async fn rows<R: Record>(&self) -> Vec<R> {
        let decoder = Decoder::<R>::new(Arc::clone(&self.registry), self.registry.id_of::<R>().await.expect("id"));
        let mut rows = Vec::new();
        for record in self.read(R::TOPIC).await.into_values().flatten() {
            rows.push(decoder.decode(&record.value.expect("a value")).await.expect("a row"));
        }
        rows
    }

    /// Whether all of `chat.events` is committed in the changelog.
    pub(crate) async fn is_done(&self) -> bool {
        let id = self.registry.id_of::<OperatorState>().await.expect("id");
        let decoder = Decoder::<OperatorState>::new(Arc::clone(&self.registry), id);
        let ends = partition::ends(&self.config.kafka, &self.names.topic(Topic::ChatEvents)).await.expect("ends");
        for (number, records) in self.read(Topic::OperatorsState).await {
            let mut next = 0;
            for record in records.iter().filter(|record| record.key.as_deref() == Some(b"progress")) {
                let state = decoder.decode(record.value.as_deref().expect("a value")).await.expect("a state");
                next = state.progress.expect("progress").next_offset;
            }
            if next < ends[&number].1 {
                return false;
            }
        }
        true
    }

    /// Waits until all of `chat.events` was taken in.
    pub(crate) async fn until_done(&self) {
        until("everything taken in", || self.is_done()).await;
    }

    /// Takes the operators' own topics away and makes them anew.
    pub(crate) async fn forget_rows(&self) {
        let client: AdminClient<DefaultClientContext> =
            runtime::kafka::client_config(&self.config.kafka).create().expect("admin");
        let own = [Topic::ChatActivity, Topic::ChatAbuse, Topic::OperatorsState, Topic::ChatEventsDlq];
        let named = own.map(|topic| self.names.topic(topic));
        let names: Vec<&str> = named.iter().map(String::as_str).collect();
        let admin = Admin::new(&self.config.kafka).expect("admin");
        let before = ids(&admin, &named).await;
        client.delete_topics(&names, &AdminOptions::new()).await.expect("deleted");
        until("the topics to be made anew", || async {
            // For a moment the broker still tells of those that were deleted.
            let made = admin.make_topics(&self.config.kafka, &self.names).await;
            let now = ids(&admin, &named).await;
            made.is_ok() && now.iter().zip(&before).all(|(now, before)| now.is_some() && now != before)
        })
        .await;
    }

    /// Makes a topic anew with another number of partitions.
    pub(crate) async fn reshape(&self, topic: Topic, partitions: i32) {
        let client: AdminClient<DefaultClientContext> =
            runtime::kafka::client_config(&self.config.kafka).create().expect("admin");
        let name = self.names.topic(topic);
        client.delete_topics(&[name.as_str()], &AdminOptions::new()).await.expect("deleted");
        until("the topic to be made anew", || async {
            let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
            let made = client.create_topics([&new], &AdminOptions::new()).await.expect("asked");
            made.iter().all(Result::is_ok)
        })
        .await;
        let admin = Admin::new(&self.config.kafka).expect("admin");
        // For a moment the broker still tells of the one that was deleted.
        until("the broker to know it", || async {
            admin.topic_facts(&name).await.is_ok_and(|facts| facts.partitions == partitions as usize)
        })
        .await;
    }
}

/// Key, value and timestamp.
pub(crate) type Output = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// What tells topics from those that had their names before; `None` for one that isn't there.
async fn ids(admin: &Admin, names: &[String]) -> Vec<Option<String>> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(admin.log_id(name).await.ok());
    }
    ids
}

/// Operators that run.
pub(crate) struct Running {
    pub(crate) health: Health,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) fn start(config: &Arc<Config>, failpoints: Failpoints) -> Self {
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let running = operators::run_with(Arc::clone(config), health.role("operators"), shutdown.clone(), failpoints);
        Self { task: tokio::spawn(running), health, shutdown }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// How it ended by itself.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(Duration::from_mins(1), self.task).await.expect("ends").expect("no panic")
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        self.ended().await.expect("a good end");
    }

    /// Waits until it does its work.
    pub(crate) async fn ready(&self) {
        until("ready", || async { self.health.is_ready() }).await;
    }

    /// What is in its way.
    pub(crate) fn problem(&self) -> String {
        self.health.statuses().remove(0).problem.unwrap_or_default()
    }
}

/// Dies at a point, the so many-th time that it is passed; tells whether it did.
pub(crate) fn dying_at(point: Point, times: usize) -> (Failpoints, Arc<AtomicBool>) {
    let (left, has_died) = (Mutex::new(times), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&has_died);
    let hook = move |passed: Point, _: i32| {
        let mut left = left.lock().expect("no panic");
        if passed != point || *left == 0 {
            return Act::Continue;
        }
        *left -= 1;
        if *left > 0 {
            return Act::Continue;
        }
        told.store(true, Ordering::SeqCst);
        Act::Die
    };
    (Failpoints::new(Arc::new(hook)), has_died)
}

/// Waits for a condition, a minute at most.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_mins(1), waiting).await;
    assert!(outcome.is_ok(), "waited in vain: {what}");
}
