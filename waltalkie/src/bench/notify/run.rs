//! One run: the backlog first, then pushes one by one, then the same beside a large chat.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notify::fakes::PushServiceFake;
use notify::provider::web_push::VapidKey;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::{Config, clock, kafka, postgres};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatEvent, Encoder, MessageState, Origin, event_type};
use tokio_postgres::Client;
use uuid::Uuid;

use super::pushes::{self, Pushed};
use super::{NotifyArgs, rows};
use crate::bench::place::Place;
use crate::bench::processes::Watch;
use crate::bench::program::Program;
use crate::bench::progress;

const ROLE: &str = "notifier";
const LOOK: Duration = Duration::from_millis(10);
/// How long nothing may happen.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// Records under way to Kafka at once.
const AT_ONCE: usize = 1_000;

/// What came out.
pub(super) struct Measured {
    pub(super) decisions_per_s: f64,
    pub(super) decisions_per_cpu_s: f64,
    pub(super) cpu_s: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
    pub(super) alone: Pushed,
    pub(super) beside: Option<Pushed>,
}

/// The bench as it runs.
pub(super) struct Bench<'a> {
    pub(super) args: &'a NotifyArgs,
    config: &'a Config,
    pub(super) truth: Client,
    read: Client,
    pub(super) service: PushServiceFake,
    producer: FutureProducer,
    encoder: Encoder<ChatEvent>,
    /// Next seq of each chat.
    seqs: Vec<i64>,
}

pub(super) async fn measure(args: &NotifyArgs, config: &Config, servers: &[(String, u32)]) -> Result<Measured> {
    let place = Place::make(config, args.partitions).await?;
    let measured = Box::pin(on_place(args, &place, servers)).await;
    place.unmake_or_tell().await;
    measured
}

async fn on_place(args: &NotifyArgs, place: &Place, servers: &[(String, u32)]) -> Result<Measured> {
    let config = &place.config;
    let service = PushServiceFake::start().await;
    let folder = tempfile::tempdir()?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, service.ca_pem())?;
    let key = VapidKey::generate().context("no key for Web Push")?;
    let registry = Registry::new(config.registry.url.expose(), &config.names.prefix)?;
    let truth = place.connect().await?;
    let public_key = VapidKey::new(&key)?.public_key().to_owned();
    rows::write(&truth, args.chats, &service, &public_key).await?;
    let mut bench = Bench {
        args,
        config,
        truth,
        read: postgres::connect(&postgres::parse(&config.postgres.read_url, "postgres.read_url")?).await?,
        service,
        producer: kafka::producer_config(&config.kafka).create()?,
        encoder: Encoder::new(registry.id_of::<ChatEvent>().await?),
        seqs: vec![rows::FIRST_SEQ; usize::try_from(args.chats)?],
    };
    let settings = [
        ("POSTGRES__READ_URL", config.postgres.read_url.expose()),
        ("REDIS__URL", config.redis.url.expose()),
        ("NOTIFY__PUBLIC_URL", "https://chat.example"),
        ("NOTIFY__WEB_PUSH_KEY", key.expose()),
        ("NOTIFY__WEB_PUSH_CONTACT", "mailto:bench@chat.example"),
        ("NOTIFY__WEB_PUSH_ANYWHERE", "true"),
        ("NOTIFY__CA_FILE", ca_file.to_str().context("a path that is text")?),
    ];
    // Redis, as if gateways had kept it up for long: a witness that is there and not young.
    let mut redis = runtime::redis::commands(&config.redis)?;
    let witness = config.names().witness_key(0);
    redis::cmd("SET").arg(witness).arg("").exec_async(&mut redis).await?;
    // A first start notes where the topics end; the backlog comes behind that.
    let first = Program::roles(&[ROLE], config, &settings)?;
    bench.wait_for_offsets().await?;
    first.stop(STALL).await?;
    bench.write_backlog().await?;
    let mut notifier = Program::roles(&[ROLE], config, &settings)?;
    let (decisions_per_s, decisions_per_cpu_s, cpu_s) = bench.drain(&mut notifier, servers).await?;
    bench.clear().await?;
    let alone = pushes::one_by_one(&mut bench, &mut notifier, 0).await?;
    let peak_rss_bytes = notifier.peak_rss_bytes();
    let beside = if args.group_members > 0 {
        rows::write_large(&bench.truth, args.group_members, args.group_devices, &bench.service, &public_key).await?;
        Some(pushes::one_by_one(&mut bench, &mut notifier, args.group_devices).await?)
    } else {
        None
    };
    let (status, said) = notifier.stop(STALL).await?;
    ensure!(status.success(), "the notifier ended with {status}: {said}");
    Ok(Measured { decisions_per_s, decisions_per_cpu_s, cpu_s, peak_rss_bytes, alone, beside })
}

impl Bench<'_> {
    async fn wait_for_offsets(&self) -> Result<()> {
        let began = Instant::now();
        let sql = "SELECT count(*) FROM consumer_offset WHERE consumer = 'notifier-senders'";
        while self.read.query_one(sql, &[]).await?.get::<_, i64>(0) < i64::from(self.args.partitions) {
            ensure!(began.elapsed() < STALL, "the notifier doesn't start");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The next message of a 1:1 chat as an event; not a row.
    pub(super) fn event(&mut self, chat: u64, message_id: Uuid) -> ChatEvent {
        let seq = &mut self.seqs[chat as usize];
        *seq += 1;
        let (chat_id, sender_id, _) = rows::ids(chat);
        said(&chat_id, *seq, &sender_id, message_id)
    }

    pub(super) async fn publish(&self, event: &ChatEvent) -> Result<()> {
        let value = self.encoder.encode(event)?;
        let topic = self.config.names().topic(Topic::ChatEvents);
        let record = FutureRecord::to(&topic).key(&event.chat_id).payload(&value).timestamp(event.occurred_at);
        let sent = self.producer.send(record, Timeout::After(STALL)).await;
        sent.map(drop).map_err(|(error, _)| error).context("Kafka doesn't take an event")
    }

    async fn write_backlog(&mut self) -> Result<()> {
        let bar = progress(self.args.backlog, "writing the backlog");
        let mut done = 0;
        while done < self.args.backlog {
            let until = self.args.backlog.min(done + AT_ONCE as u64);
            let events: Vec<ChatEvent> =
                (done..until).map(|number| self.event(number % self.args.chats, Uuid::now_v7())).collect();
            futures_util::future::try_join_all(events.iter().map(|event| self.publish(event))).await?;
            done = until;
            bar.set_position(done);
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn decided(&self) -> Result<u64> {
        let topic = self.config.names().topic(Topic::ChatEvents);
        let sql = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer = 'notifier' AND topic = $1";
        Ok(self.read.query_one(sql, &[&topic]).await?.get::<_, i64>(0) as u64)
    }

    /// Decisions a second, the same by processor time, and who used how much of that.
    async fn drain(
        &self,
        notifier: &mut Program,
        servers: &[(String, u32)],
    ) -> Result<(f64, f64, BTreeMap<String, f64>)> {
        let (all, bar) = (self.args.backlog, progress(self.args.backlog, "deciding"));
        let (mut seen, mut news) = (0, Instant::now());
        let mut clock: Option<(Instant, u64, Watch)> = None;
        loop {
            notifier.must_run().context("the notifier")?;
            let done = self.decided().await?;
            if done > seen {
                (seen, news) = (done, Instant::now());
                bar.set_position(done);
            }
            ensure!(news.elapsed() < STALL, "{seen} of {all} decided and then nothing: {}", notifier.said());
            match &mut clock {
                // A tenth is for plans, caches, connections.
                None if done >= all / 10 => {
                    let mut roles = servers.to_vec();
                    roles.push((ROLE.to_owned(), notifier.pid().context("the notifier has no process")?));
                    clock = Some((Instant::now(), done, Watch::new(roles, None)));
                }
                None => {}
                Some((began, from, watch)) => {
                    if done >= all {
                        let (count, took, usage) = ((done - *from) as f64, began.elapsed(), watch.end());
                        bar.finish_and_clear();
                        let own = usage.cpu_s.get(ROLE).copied().unwrap_or_default().max(f64::MIN_POSITIVE);
                        return Ok((count / took.as_secs_f64(), count / own, usage.cpu_s));
                    }
                    watch.look();
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing of the backlog waits to be sent: its messages have no rows, so that each is cancelled.
    async fn clear(&self) -> Result<()> {
        let (mut least, mut news) = (i64::MAX, Instant::now());
        loop {
            let sql = "SELECT (SELECT count(*) FROM notify_task), (SELECT coalesce(sum(next_offset), 0)::bigint
                         FROM consumer_offset WHERE consumer = 'notifier-senders')";
            let row = self.read.query_one(sql, &[]).await?;
            let (waiting, taken): (i64, i64) = (row.get(0), row.get(1));
            let left = waiting + self.args.backlog as i64 - taken;
            if left <= 0 {
                return Ok(());
            }
            if left < least {
                (least, news) = (left, Instant::now());
            }
            ensure!(news.elapsed() < STALL, "{left} notifications wait and none of them moves");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A message as the CDC worker tells it.
pub(super) fn said(chat_id: &str, seq: i64, sender_id: &str, message_id: Uuid) -> ChatEvent {
    let now_ms = clock::now_ms();
    let message = MessageState {
        message_id: message_id.to_string(),
        message_seq: seq,
        sender_id: sender_id.to_owned(),
        content: Some("how are you?".into()),
        created_at: now_ms,
        ..MessageState::default()
    };
    ChatEvent {
        event_type: event_type::MESSAGE_PERSISTED.into(),
        message: Some(message),
        ..ChatEvent::withheld(chat_id, seq, sender_id.to_owned(), now_ms, Origin::default())
    }
}
