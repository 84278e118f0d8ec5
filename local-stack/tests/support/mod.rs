//! Data to be lost or found again in each of the servers, and a witness of how servers came up.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use local_stack::{Arrival, Endpoints, Progress, Service};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

const TOPIC: &str = "kept";
const SCHEMA: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"Kept\",\"fields\":[]}"}"#;
const LIMIT: Duration = Duration::from_mins(1);

/// Remembers how each server came up.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Vec<(Service, Arrival)>>);

impl Witness {
    pub(crate) fn arrivals(&self) -> Vec<(Service, Arrival)> {
        let mut arrivals = std::mem::take(&mut *self.0.lock().expect("no holder panics"));
        arrivals.sort_by_key(|(service, _)| *service);
        arrivals
    }
}

impl Progress for Witness {
    fn ready(&self, service: Service, arrival: Arrival, port: u16, took: Duration) {
        println!("{service:<16} {port:>5} {arrival:?} {:.2} s", took.as_secs_f64());
        self.0.lock().expect("no holder panics").push((service, arrival));
    }

    fn stopped(&self, service: Service, took: Duration) {
        println!("{service:<16} stopped {:.2} s", took.as_secs_f64());
    }
}

/// Puts one thing into each server that keeps things.
pub(crate) async fn put(endpoints: &Endpoints) -> Result<()> {
    postgres(endpoints, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)").await?;

    let brokers = endpoints.kafka_brokers.as_deref().context("no kafka")?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let producer: FutureProducer = config.set("acks", "all").create()?;
    let record = FutureRecord::<(), str>::to(TOPIC).payload("42");
    producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;

    register(endpoints).await?;
    Ok(())
}

/// Finds what [`put`] put.
pub(crate) async fn find(endpoints: &Endpoints) -> Result<()> {
    let rows = postgres(endpoints, "SELECT n FROM kept").await?;
    ensure!(rows == ["42"], "rows {rows:?}");
    find_message(endpoints).await?;
    find_schema(endpoints).await
}

pub(crate) async fn find_schema(endpoints: &Endpoints) -> Result<()> {
    let versions = registry(endpoints, "GET", "/subjects/kept/versions", "").await?;
    ensure!(versions == "[1]", "versions {versions}");
    Ok(())
}

/// Registers the one schema; gives its id as JSON.
pub(crate) async fn register(endpoints: &Endpoints) -> Result<String> {
    registry(endpoints, "POST", "/subjects/kept/versions", SCHEMA).await
}

async fn find_message(endpoints: &Endpoints) -> Result<()> {
    let brokers = endpoints.kafka_brokers.clone().context("no kafka")?;
    let read = move || -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "finder")
            .set("isolation.level", "read_committed")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
        consumer.assign(&partitions)?;
        let message = consumer.poll(LIMIT).context("no message came")??;
        ensure!(message.payload() == Some(b"42"), "another message");
        Ok(())
    };
    tokio::task::spawn_blocking(read).await?
}

/// Runs SQL; gives the first column of all rows.
pub(crate) async fn postgres(endpoints: &Endpoints, sql: &str) -> Result<Vec<String>> {
    let url = endpoints.postgres_url("postgres").context("no postgres")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let query = async {
        let client = client;
        client.simple_query(sql).await
    };
    let (messages, _) = tokio::join!(query, connection);
    let rows = messages?.into_iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.collect())
}

/// One request to the registry; gives the body of a 200.
async fn registry(endpoints: &Endpoints, method: &str, path: &str, body: &str) -> Result<String> {
    let url = endpoints.registry_url.as_deref().context("no registry")?;
    let (host, root) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("odd url")?;
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "{method} /{root}{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{method} {path}: {answer}");
    Ok(body.trim().to_owned())
}
