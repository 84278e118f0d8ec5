//! Two persisters: one that was stopped in the middle of a transaction comes back and changes nothing, and two that meet
//! over the same ids neither lock each other nor both win.

use anyhow::{Context, Result, bail, ensure};
use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::{Config, clock, kafka};
use rustix::process::Signal;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, Encoder, command_type, partitioner};
use serde_json::json;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, RoleProcess, Servers, Socket, until};

const SUPERSEDED: &str = "waltalkie_persister_batches_superseded_total";
const RETRIES: &str = "waltalkie_persister_batch_retries_total";

/// Whoever gives `seq`s to these chats waits until the transaction ends.
async fn hold<'a>(client: &'a mut Client, chats: &[&str]) -> Result<Transaction<'a>> {
    let transaction = client.transaction().await?;
    let sql = "SELECT FROM chat_counter WHERE chat_id = ANY($1) ORDER BY chat_id FOR UPDATE";
    let held = transaction.execute(sql, &[&chats]).await?;
    ensure!(held == chats.len() as u64, "{held} of {chats:?} are there");
    Ok(transaction)
}

/// Waits until so many transactions of this database wait for another one.
async fn until_waiting(watcher: &Client, count: i64) -> Result<()> {
    until(&format!("{count} transactions to wait"), LONG, async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'";
        let waiting: i64 = watcher.query_one(sql, &[]).await?.get(0);
        if waiting < count {
            bail!("{waiting} wait");
        }
        Ok(Some(()))
    })
    .await
}

async fn send_all(socket: &mut Socket, chat_id: &str, count: usize) -> Result<Vec<u64>> {
    let mut asked = Vec::new();
    for number in 0..count {
        let payload =
            json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": format!("number {number}") });
        asked.push(socket.send("send_message", payload).await?);
    }
    for &id in &asked {
        socket.answer(id, |frame| frame["payload"]["state"] == "accepted").await?;
    }
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_stopped_in_a_transaction_comes_back_and_changes_nothing() -> Result<()> {
    const SENDS: usize = 20;
    let installation = Installation::make("zombie").await?;
    let gateway = installation.run(&["gateway"]).await?;
    let stopped = installation.run(&["persister"]).await?;
    let alice = Person::arrive(&installation.config()?, gateway.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let mut socket = alice.connect().await?;
    let (mut keeper, truth) = (installation.truth().await?, installation.truth().await?);

    let held = hold(&mut keeper, &[&chat_id]).await?;
    let asked = send_all(&mut socket, &chat_id, SENDS).await?;
    until_waiting(&truth, 1).await?;
    stopped.signal(Signal::STOP)?;
    // Its transaction gets the chat now, and would keep it from everybody.
    held.rollback().await?;
    let other = installation.run(&["persister"]).await?;
    until("the other one to persist everything", LONG, async || {
        let rows: i64 = truth.query_one("SELECT count(*) FROM message", &[]).await?.get(0);
        Ok((rows == SENDS as i64).then_some(()))
    })
    .await?;
    for (id, seq) in asked.into_iter().zip(2..) {
        ensure!(socket.persisted(id).await? == seq, "not in the order in which they were sent");
    }
    let offsets = "SELECT sum(next_offset)::bigint FROM consumer_offset WHERE consumer = 'persister'";
    let before: i64 = truth.query_one(offsets, &[]).await?.get(0);

    stopped.signal(Signal::CONT)?;
    until("its batch to be rolled back", LONG, async || Ok((stopped.metric(SUPERSEDED).await? > 0.5).then_some(())))
        .await?;
    let after: i64 = truth.query_one(offsets, &[]).await?.get(0);
    ensure!(after == before && other.metric(SUPERSEDED).await? < 0.5, "offsets went from {before} to {after}");
    // It goes on where the other one stops.
    ensure!(other.stop().await?.success(), "a persister ends well");
    let asked = send_all(&mut socket, &chat_id, SENDS).await?;
    for (id, seq) in asked.into_iter().zip(SENDS as i64 + 2..) {
        ensure!(socket.persisted(id).await? == seq, "something was decided twice");
    }
    let sql = "SELECT count(*), count(DISTINCT message_id), min(sequence_number), max(sequence_number) FROM message";
    let row = truth.query_one(sql, &[]).await?;
    let numbers: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    let all = 2 * SENDS as i64;
    ensure!(numbers == [all, all, 2, all + 1], "{numbers:?}");
    Ok(())
}

/// Ids that both chats are sent in one round: fewer than what makes two transactions of one batch.
const IDS: usize = 150;
const ROUNDS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn two_that_meet_over_the_same_ids_dont_lock_each_other() -> Result<()> {
    let settings =
        [("kafka.partitions", "2"), ("limits.chat_sends_per_s", "100000"), ("limits.chat_sends_burst", "100000")];
    let installation = Installation::make_on(Servers::shared()?, "key-races", &settings).await?;
    let config = installation.config()?;
    let first = installation.run(&["gateway", "persister"]).await?;
    let second = installation.run(&["persister"]).await?;
    let alice = Person::arrive(&config, first.gateway()?, "alice").await?;
    // One chat in each of the two partitions.
    let chat_in = |partition| {
        let mut ids = (0..).map(|number| format!("chat-{number}"));
        ids.find(|id| partitioner::partition_of(id.as_bytes(), 2) == partition).unwrap_or_default()
    };
    let chats = [chat_in(0), chat_in(1)];
    for chat_id in &chats {
        alice.make_group(&[], json!({ "chat_id": chat_id })).await?;
    }
    let (mut keeper, truth) = (installation.truth().await?, installation.truth().await?);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = truth.query_one(deadlocks, &[]).await?.get(0);
    let sender = Sender::new(&config).await?;
    let mut sent = 0;
    for round in 0.. {
        ensure!(round < ROUNDS, "they never met in {ROUNDS} rounds");
        let ids: Vec<Uuid> = (0..IDS).map(|_| Uuid::now_v7()).collect();
        let held = hold(&mut keeper, &[&chats[0], &chats[1]]).await?;
        sender.send(&chats[0], ids.iter()).await?;
        sender.send(&chats[1], ids.iter().rev()).await?;
        until_waiting(&truth, 2).await?;
        held.rollback().await?;
        sent += IDS as i64;
        until("one of each to be taken and the other refused", LONG, async || {
            let decided = decided(&truth).await?;
            if decided != (sent, sent) {
                bail!("{decided:?} of {sent}");
            }
            Ok(Some(()))
        })
        .await?;
        if met(&first, &second).await? >= 3.0 {
            println!("met in {} rounds of {IDS} ids", round + 1);
            break;
        }
    }
    for chat_id in &chats {
        let sql = "SELECT count(*), count(DISTINCT sequence_number), coalesce(max(sequence_number), 1)
                     FROM message WHERE chat_id = $1";
        let row = truth.query_one(sql, &[chat_id]).await?;
        let [rows, seqs, last]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        ensure!(rows == seqs && last == rows + 1, "{chat_id}: {rows} rows, {seqs} seqs up to {last}");
    }
    let after: i64 = truth.query_one(deadlocks, &[]).await?.get(0);
    ensure!(after == before, "{} deadlocks", after - before);
    for file in std::fs::read_dir(installation.logs())? {
        let log = std::fs::read_to_string(file?.path())?;
        ensure!(!log.contains("deadlock"), "{log}");
    }
    Ok(())
}

/// Batches that found one of their ids used meanwhile.
async fn met(first: &RoleProcess, second: &RoleProcess) -> Result<f64> {
    Ok(first.metric(RETRIES).await? + second.metric(RETRIES).await?)
}

/// Ids that are taken, and sends that were refused because theirs was.
async fn decided(truth: &Client) -> Result<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM message_key), count(*) FROM command_result
                WHERE answer -> 'rejection' ->> 'code' = 'message_id_conflict'";
    let row = truth.query_one(sql, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

/// Puts sends of Alice's into the log, as a gateway does.
struct Sender {
    producer: FutureProducer,
    encoder: Encoder<ChatCommand>,
    topic: String,
}

impl Sender {
    async fn new(config: &Config) -> Result<Self> {
        let registry = Registry::new(config.registry.url.expose(), config.names().prefix())?;
        Ok(Self {
            producer: kafka::producer_config(&config.kafka).create()?,
            encoder: Encoder::new(registry.id_of::<ChatCommand>().await?),
            topic: config.names().topic(Topic::ChatCommands),
        })
    }

    async fn send(&self, chat_id: &str, ids: impl Iterator<Item = &Uuid>) -> Result<()> {
        let mut waiting = Vec::new();
        for id in ids {
            let command = ChatCommand {
                command_id: Uuid::now_v7().to_string(),
                command_type: command_type::MESSAGE_SEND.into(),
                chat_id: chat_id.to_owned(),
                user_id: "alice".into(),
                session_id: chat_id.to_owned(),
                node_id: "nobody".into(),
                issued_at: clock::now_ms(),
                message_id: Some(id.to_string()),
                content: Some("the same in both chats".into()),
                ..ChatCommand::default()
            };
            let value = self.encoder.encode(&command)?;
            let record = FutureRecord::to(&self.topic).key(chat_id).payload(&value);
            let queued = self.producer.send_result(record).map_err(|(error, _)| error)?;
            waiting.push(queued);
        }
        for queued in waiting {
            let sent = tokio::time::timeout(LONG, queued).await.context("Kafka doesn't take it")??;
            sent.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}
