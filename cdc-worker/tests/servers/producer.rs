//! The transactional producer on real brokers: what it writes and what others read, who is fenced, older transactions,
//! logins and TLS.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{self, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use cdc_worker::producer::{Options, ProduceError, Producer, Record};
use local_stack::LoneKafka;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Secret;
use runtime::config::{Compression, Kafka};
use runtime::kafka::admin::Admin;
use runtime::names::Names;
use schemas::topics::Topic;

const PASSWORD: &str = "secret";
const USER: &str = "publisher";

/// Topics of an installation of its own on a broker; gone with it, or at the end.
struct Site {
    kafka: Kafka,
    names: Names,
}

impl Site {
    async fn shared() -> Result<Self> {
        let config = support::Stack::draft("postgres://nobody@127.0.0.1/none");
        Self { kafka: config.kafka.clone(), names: config.names() }.made().await
    }

    async fn on(broker: &LoneKafka) -> Result<Self> {
        let config = support::Stack::draft("postgres://nobody@127.0.0.1/none");
        let kafka = Kafka { brokers: broker.admin_brokers(), ..config.kafka.clone() };
        Self { kafka, names: config.names() }.made().await
    }

    /// Makes the topics, and waits until the broker knows of them.
    async fn made(self) -> Result<Self> {
        let admin = Admin::new(&self.kafka)?;
        admin.make_topics(&self.kafka, &self.names).await?;
        for topic in [Topic::ChatEvents, Topic::CdcPositions] {
            let name = self.names.topic(topic);
            support::eventually(&name, async || Ok(admin.topic_facts(&name).await?.partitions > 0)).await?;
        }
        Ok(self)
    }

    fn topic(&self) -> String {
        self.names.topic(Topic::ChatEvents)
    }

    fn options(&self, compression: Compression) -> Options {
        Options {
            transactional_id: self.names.transactional_id("test"),
            transaction_timeout: Duration::from_secs(10),
            topics: vec![self.topic(), self.names.topic(Topic::CdcPositions)],
            compression,
        }
    }

    /// A producer; it blocks, as the others' calls do.
    fn take_over(&self, compression: Compression) -> Result<Producer, ProduceError> {
        Producer::take_over(&self.kafka, &self.options(compression))
    }

    async fn clear(self) -> Result<()> {
        Ok(Admin::new(&self.kafka)?.delete_topics(&self.names).await?)
    }
}

/// A record as a consumer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    partition: i32,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
    headers: Vec<(String, Vec<u8>)>,
}

/// All committed records, by partition in their order.
fn read_committed(site: &Site, topic: &str, partitions: i32) -> Result<Vec<Read>> {
    let consumer: BaseConsumer = runtime::kafka::client_config(&site.kafka)
        .set("group.id", "none")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut records, mut ended) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while ended < partitions {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(Read {
                partition: message.partition(),
                key: message.key().unwrap_or_default().to_owned(),
                value: message.payload().map(<[u8]>::to_owned),
                timestamp_ms: message.timestamp().to_millis(),
                headers: message
                    .headers()
                    .map(|headers| {
                        headers
                            .iter()
                            .map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_owned()))
                            .collect()
                    })
                    .unwrap_or_default(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => bail!(error),
            None => ensure!(Instant::now() < deadline, "a partition doesn't end"),
        }
    }
    Ok(records)
}

fn keys(records: &[Read]) -> Vec<&[u8]> {
    records.iter().map(|record| record.key.as_slice()).collect()
}

fn append(producer: &mut Producer, key: &str) -> Result<(), ProduceError> {
    producer.append(0, None, &Record { key: key.as_bytes(), value: Some(b"value"), timestamp_ms: 1_000, headers: &[] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_as_they_were_appended_with_every_codec() -> Result<()> {
    let site = Site::shared().await?;
    let large = vec![b'x'; 900 << 10];
    let mut expected: HashMap<Vec<u8>, Vec<Option<Vec<u8>>>> = HashMap::new();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    for (round, compression) in
        [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd].into_iter().enumerate()
    {
        let mut producer = site.take_over(compression)?;
        // More than a request holds, so that several are under way; two transactions.
        for number in 0..20_000 {
            let key = format!("chat-{}", number % 50).into_bytes();
            let text = format!("{round} {number} some text that can be compressed, some text that can be compressed");
            let value = match number {
                7 => None,
                9_000 => Some(large.as_slice()),
                _ => Some(text.as_bytes()),
            };
            let headers: [(&str, &[u8]); 2] = [("ce_id", text.as_bytes()), ("empty", b"")];
            producer.append(0, None, &Record { key: &key, value, timestamp_ms: 1_000 + number, headers: &headers })?;
            expected.entry(key).or_default().push(value.map(<[u8]>::to_owned));
            if number == 10_000 {
                producer.commit()?;
            }
        }
        producer.commit()?;
        offsets.extend(producer.last_offsets().map(|(_, partition, offset)| (partition, offset)));
    }
    let partitions = i32::from(site.kafka.partitions);
    let read = read_committed(&site, &site.topic(), partitions)?;
    ensure!(read.len() == 80_000, "{} records", read.len());
    let mut found: HashMap<Vec<u8>, Vec<Option<Vec<u8>>>> = HashMap::new();
    for record in &read {
        found.entry(record.key.clone()).or_default().push(record.value.clone());
    }
    ensure!(found == expected, "values or their order differ");
    let first = read.iter().find(|record| record.value.as_ref().is_some_and(|value| value.starts_with(b"0 49 ")));
    let first = first.context("the record 49")?;
    ensure!(first.timestamp_ms == Some(1_049) && first.headers[1] == ("empty".into(), Vec::new()), "{first:?}");
    ensure!(Some(&first.headers[0].1) == first.value.as_ref(), "{first:?}");

    // The client of others puts the same keys into the same partitions, after the last offsets.
    let other: FutureProducer = runtime::kafka::producer_config(&site.kafka).create()?;
    for record in read.iter().take(200) {
        let topic = site.topic();
        let sent = FutureRecord::to(&topic).key(&record.key).payload("other");
        let delivered = other.send(sent, PATIENCE).await.map_err(|(error, _)| error)?;
        ensure!(delivered.partition == record.partition, "{:?}", String::from_utf8_lossy(&record.key));
        // The marker of the last transaction stands between.
        let end = offsets.insert(delivered.partition, delivered.offset).context("a partition without offsets")?;
        ensure!(delivered.offset == end + 1 || delivered.offset == end + 2, "{} after {end}", delivered.offset);
    }
    site.clear().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_ends_what_was_open_and_fences() -> Result<()> {
    let site = Site::shared().await?;
    let mut old = site.take_over(Compression::Lz4)?;
    append(&mut old, "committed")?;
    old.commit()?;
    append(&mut old, "open")?;
    old.flush()?;

    let mut new = site.take_over(Compression::Lz4)?;
    append(&mut new, "new")?;
    new.commit()?;
    let partitions = i32::from(site.kafka.partitions);
    let committed = read_committed(&site, &site.topic(), partitions)?;
    let mut found = keys(&committed);
    found.sort_unstable();
    ensure!(found == [b"committed".as_slice(), b"new"], "{committed:?}");

    let error = old.commit().expect_err("the old one is fenced");
    ensure!(error.refusal().is_some() && error.is_transient() && !error.is_forbidden(), "{error:?}");
    // And the new one goes on, also after giving something up.
    append(&mut new, "given up")?;
    new.flush()?;
    new.abort()?;
    let mut last = site.take_over(Compression::Lz4)?;
    append(&mut last, "last")?;
    last.commit()?;
    ensure!(read_committed(&site, &site.topic(), partitions)?.len() == 3);
    site.clear().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_amid_a_backlog_is_given_up_at_once() -> Result<()> {
    let site = Site::shared().await?;
    // Longer than the test waits: nobody but the producer ends it.
    let options = Options { transaction_timeout: Duration::from_mins(15), ..site.options(Compression::None) };
    let mut producer = Producer::take_over(&site.kafka, &options)?;
    let (small, large) = (vec![b'x'; 1 << 10], vec![b'x'; 2 << 20]);
    let record = |value| Record { key: b"key", value: Some(value), timestamp_ms: 1_000, headers: &[] };
    let append_all = |producer: &mut Producer| {
        for value in std::iter::repeat_n(&small, 2_000).chain([&large]).chain(std::iter::repeat_n(&small, 2_000)) {
            producer.append(0, None, &record(value))?;
        }
        producer.commit()
    };
    let error = append_all(&mut producer).expect_err("a record of 2 MiB");
    ensure!(error.is_too_large(), "{error:?}");
    producer.abort()?;

    let other = Options { transactional_id: site.names.transactional_id("other"), ..options };
    let mut other = Producer::take_over(&site.kafka, &other)?;
    other.append(0, None, &record(b"behind it"))?;
    other.commit()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let committed = read_committed(&site, &site.topic(), i32::from(site.kafka.partitions))?;
        ensure!(committed.len() <= 1, "what was given up is read: {} records", committed.len());
        if committed.len() == 1 {
            return site.clear().await;
        }
        ensure!(Instant::now() < deadline, "its readers wait for the transaction");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_right_behind_a_commit_stays_in_order() -> Result<()> {
    const ROUNDS: usize = 8;
    const RECORDS: usize = 8_000;
    let site = Site::shared().await?;
    let mut producer = site.take_over(Compression::None)?;
    let padding = [b'x'; 1 << 10];
    // Kafka is still busy with the transaction before, and refuses the first batches while more are under way than it takes.
    for round in 0..ROUNDS {
        for number in 0..RECORDS {
            let value = [format!("{:08}", round * RECORDS + number).as_bytes(), padding.as_slice()].concat();
            let record = Record { key: b"key", value: Some(&value), timestamp_ms: 1_000, headers: &[] };
            producer.append(0, None, &record)?;
        }
        producer.commit()?;
    }
    let all = ROUNDS * RECORDS;
    let deadline = Instant::now() + PATIENCE;
    let committed = loop {
        let committed = read_committed(&site, &site.topic(), i32::from(site.kafka.partitions))?;
        if committed.len() >= all {
            break committed;
        }
        ensure!(Instant::now() < deadline, "{} of {all} records", committed.len());
    };
    let numbers = committed
        .iter()
        .map(|read| String::from_utf8_lossy(&read.value.as_deref().unwrap_or_default()[..8]).into_owned());
    ensure!(numbers.eq((0..all).map(|number| format!("{number:08}"))), "out of order, or twice");
    site.clear().await
}

/// The certificate authority's file, and one with the key and the certificate of a broker.
fn certificates(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let (ca_file, broker_file) = (folder.join("ca.pem"), folder.join("broker.pem"));
    fs::write(&ca_file, ca.pem())?;
    fs::write(&broker_file, format!("{}{}", key.serialize_pem(), certificate.pem()))?;
    Ok((ca_file, broker_file))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_tls_and_transactions_of_every_version() -> Result<()> {
    let (dir, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (ca_file, certificate) = certificates(files.path())?;
    let broker = LoneKafka::start_with(dir.path(), &[(USER, PASSWORD)], Some(&certificate)).await?;
    let mut site = Site::on(&broker).await?;
    for operation in ["Write", "Describe"] {
        for (kind, name) in [("--topic", "*"), ("--transactional-id", "*")] {
            let arguments =
                ["--add", "--allow-principal", &format!("User:{USER}"), "--operation", operation, kind, name];
            broker.run_tool("org.apache.kafka.tools.AclCommand", &arguments).await?;
        }
    }
    let admin = site.kafka.clone();
    let partitions = i32::from(admin.partitions);
    let mut count = 0;
    for level in ["2", "1", "0"] {
        if level != "2" {
            let feature = format!("transaction.version={level}");
            broker.run_tool("org.apache.kafka.tools.FeatureCommand", &["downgrade", "--feature", &feature]).await?;
        }
        for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
            site.kafka = Kafka {
                brokers: broker.brokers(),
                security_protocol: "sasl_ssl".into(),
                sasl_mechanism: mechanism.into(),
                sasl_username: USER.into(),
                sasl_password: Secret::new(PASSWORD),
                ca_file: ca_file.to_string_lossy().into_owned(),
                ..admin.clone()
            };
            let mut producer = site.take_over(Compression::Zstd)?;
            // One after another, so that each meets the markers of the one before.
            for number in 0..40 {
                for chat in 0..10 {
                    append(&mut producer, &format!("{level} {mechanism} {number} {chat}"))?;
                }
                producer.commit()?;
                count += 10;
            }
            append(&mut producer, "given up")?;
            producer.flush()?;
            producer.abort()?;
        }
        site.kafka = admin.clone();
        let read = read_committed(&site, &site.topic(), partitions)?;
        ensure!(read.len() == count && !keys(&read).contains(&b"given up".as_slice()), "{} of {count}", read.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_the_way_out() -> Result<()> {
    let (dir, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (ca_file, certificate) = certificates(files.path())?;
    let broker = LoneKafka::start_with(dir.path(), &[(USER, PASSWORD)], Some(&certificate)).await?;
    let site = Site::on(&broker).await?;
    let right = Kafka {
        brokers: broker.brokers(),
        security_protocol: "sasl_ssl".into(),
        sasl_username: USER.into(),
        sasl_password: Secret::new(PASSWORD),
        ca_file: ca_file.to_string_lossy().into_owned(),
        ..site.kafka.clone()
    };
    let said = |kafka: Kafka, topics: Vec<String>| {
        let options = Options { topics, ..site.options(Compression::Lz4) };
        let error = Producer::take_over(&kafka, &options).err().context("it was taken")?;
        let text = anyhow::Error::new(error);
        Ok::<_, anyhow::Error>(format!("{text:#}"))
    };
    let topics = || vec![site.topic()];
    let nobody = tempfile::NamedTempFile::new()?;
    for (kafka, topics, words) in [
        (Kafka { sasl_password: Secret::new("wrong"), ..right.clone() }, topics(), "kafka.sasl_username"),
        (Kafka { sasl_mechanism: "SCRAM-SHA-256".into(), ..right.clone() }, topics(), "it knows"),
        (Kafka { sasl_mechanism: "GSSAPI".into(), ..right.clone() }, topics(), "PLAIN, SCRAM-SHA-256"),
        (Kafka { ca_file: String::new(), ..right.clone() }, topics(), "kafka.ca_file"),
        (Kafka { ca_file: nobody.path().to_string_lossy().into_owned(), ..right.clone() }, topics(), "no certificate"),
        (Kafka { brokers: broker.admin_brokers(), ..right.clone() }, topics(), "no connection to"),
        (Kafka { brokers: "127.0.0.1:1".into(), ..right.clone() }, topics(), "127.0.0.1:1"),
        (Kafka { brokers: "nowhere".into(), ..right.clone() }, topics(), "isn't host:port"),
        (site.kafka.clone(), vec!["none".into()], "waltalkie migrate"),
        (right, topics(), "transactional id authorization failed"),
    ] {
        let text = said(kafka, topics)?;
        ensure!(text.contains(words) && !text.contains(PASSWORD), "`{words}` isn't in: {text}");
    }
    Ok(())
}
