//! `--peer`: another program that drains the same backlog, measured beside the worker.
//!
//! ```text
//!   slot of the references ──copied──▶ the peer's slot ──▶ its command ──▶ <topic prefix>.public.message ──▶ read back
//! ```
//!
//! Nothing is known of the program but how it is told its orders (environment), how it is ended (SIGTERM), and that its
//! records are change events as Debezium writes them in JSON: `{"after": {"chat_id", "sequence_number", …}, …}`.
//!
//! *What counts*: the clock and the CPU time start at the first record in the log, committed or not, so that the start of
//! a JVM is in neither; they end when the last one can be read with `read_committed`. That is seen from the topic's ends,
//! since a reader of all records would take CPU time from what is measured.

mod ends;
mod process;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{BorrowedMessage, Message};
use runtime::Config;
use runtime::kafka::admin::topic_plans;
use schemas::topics::Topic;
use tokio_postgres::Client;

use ends::Ends;

use super::CdcArgs;
use super::ledger::{Counted, read_back};
use super::report::{Costs, Speed};
use super::site::{Installation, Site};
use crate::bench::peer::Peer;
use crate::bench::processes::{Usage, Watch};
use crate::bench::program::Program;
use crate::bench::progress;

/// Its process among the roles.
pub(super) const ROLE: &str = "peer";
/// How long it may take to its first record, or to end.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long there may be nothing new.
const STALL: Duration = Duration::from_secs(60);
/// Nothing new for so long when all may be there: it is done.
const QUIET: Duration = Duration::from_secs(5);
/// How often it is looked for something new.
const LOOK: Duration = Duration::from_millis(20);
const CALL: Duration = Duration::from_secs(30);

/// One drain by a peer: a slot and topics of its own under a name that no other drain has, and they are gone afterwards.
/// `source` is an installation whose slot nobody has moved.
pub(super) async fn drain(
    peer: &Peer,
    name: &str,
    args: &CdcArgs,
    source: &Installation,
    site: &Site,
) -> Result<(Speed, Costs, Counted)> {
    let task = Task::make(name, source, site).await?;
    let measured = task.measure(peer, args, site).await.with_context(|| format!("peer {:?}", peer.name));
    let unmade = task.unmake().await;
    let measured = measured?;
    unmade?;
    Ok(measured)
}

/// What one drain needs.
struct Task<'a> {
    config: &'a Config,
    publication: &'a str,
    slot: String,
    topic_prefix: String,
    topic: String,
    client: Client,
    admin: AdminClient<DefaultClientContext>,
}

impl<'a> Task<'a> {
    async fn make(name: &str, source: &'a Installation, site: &Site) -> Result<Self> {
        let config = &source.config;
        let topic_prefix = format!("{}peer-{name}", config.names.prefix);
        let topic = format!("{topic_prefix}.public.message");
        let client = site.connect().await?;
        let admin: AdminClient<DefaultClientContext> = runtime::kafka::client_config(&config.kafka).create()?;
        // As the worker's topic is made, so that the broker has the same to do.
        let names = config.names();
        let plans = topic_plans(&config.kafka, &names);
        let plan = plans.iter().find(|plan| plan.name == names.topic(Topic::ChatEvents)).context("no plan")?;
        let copies = TopicReplication::Fixed(i32::from(plan.replicas));
        let new = NewTopic::new(&topic, i32::from(plan.partitions), copies);
        let new = plan.config.iter().fold(new, |topic, (key, value)| topic.set(key, value));
        for made in admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(CALL))).await? {
            made.map_err(|(topic, code)| anyhow!("topic {topic} can't be made: {code}"))?;
        }
        let slot = format!("{}_peer_{name}", source.slot);
        client.execute("SELECT pg_copy_logical_replication_slot($1, $2)", &[&source.slot, &slot]).await?;
        Ok(Self { config, publication: &source.publication, slot, topic_prefix, topic, client, admin })
    }

    async fn measure(&self, peer: &Peer, args: &CdcArgs, site: &Site) -> Result<(Speed, Costs, Counted)> {
        let written = Ends::of(self, "read_uncommitted").await?;
        let readable = Ends::of(self, "read_committed").await?;
        let mut process = process::start(peer, self, args.events)?;
        let started = Instant::now();
        while written.total()? == 0 {
            process.must_run()?;
            ensure!(started.elapsed() < PATIENCE, "no record within {} s: {}", PATIENCE.as_secs(), process.said());
            tokio::time::sleep(LOOK).await;
        }
        let mut roles = site.servers.clone();
        roles.push((ROLE.to_owned(), process.pid().context("the peer has no process")?));
        let mut watch = Watch::new(roles, None);
        let (took, usage) = self.until_done(args.events, &readable, &mut process, &mut watch).await?;
        // Whatever it ends with: a JVM that was told to stop calls that a failure.
        process.stop(PATIENCE).await?;
        let (config, topic, events, chats) = (self.config.clone(), self.topic.clone(), args.events, args.chats);
        let counted = tokio::task::spawn_blocking(move || read_back(&config, &topic, events, chats, place)).await??;
        let speed = Speed { seconds: took.as_secs_f64(), events_per_s: args.events as f64 / took.as_secs_f64() };
        let peak_rss_bytes = usage.peak_rss_bytes.get(ROLE).copied().unwrap_or(0);
        let costs = Costs { cpu_s: usage.cpu_s, peak_rss_bytes, transactions: 0, busy_cpu_s: usage.busy_cpu_s };
        Ok((speed, costs, counted))
    }

    /// The time to the last thing that came to be readable, and what was used until then.
    async fn until_done(
        &self,
        events: u64,
        readable: &Ends,
        process: &mut Program,
        watch: &mut Watch,
    ) -> Result<(Duration, Usage)> {
        let began = Instant::now();
        let bar = progress(events, "a peer drains");
        let (mut seen, mut news, mut used) = (0, began, None);
        loop {
            watch.look();
            let total = readable.total()?;
            if total > seen {
                (seen, news) = (total, Instant::now());
                bar.set_position(seen);
                // Ends count the markers of transactions too, so there is more than one end that may be the last.
                if seen >= events {
                    used = Some(watch.end());
                }
            } else if let Some(used) = used.take_if(|_| news.elapsed() >= QUIET) {
                bar.finish_and_clear();
                return Ok((news - began, used));
            }
            ensure!(news.elapsed() < STALL, "{seen} of {events} records and then nothing: {}", process.said());
            process.must_run()?;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn unmake(self) -> Result<()> {
        let began = Instant::now();
        // A connection that was cut off is noticed by its server a moment later.
        let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        while self.client.query_one(active, &[&self.slot]).await?.get(0) {
            ensure!(began.elapsed() < CALL, "slot {} is still in use after its peer has ended", self.slot);
            tokio::time::sleep(LOOK).await;
        }
        self.client.execute("SELECT pg_drop_replication_slot($1)", &[&self.slot]).await?;
        let metadata = tokio::task::block_in_place(|| self.admin.inner().fetch_metadata(None, CALL))?;
        let topics = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
        let own: Vec<&str> = topics.filter(|topic| topic.starts_with(&self.topic_prefix)).collect();
        self.admin.delete_topics(&own, &AdminOptions::new()).await?;
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    after: Row<'a>,
}

#[derive(serde::Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    chat_id: Cow<'a, str>,
    sequence_number: u64,
}

/// The event's id, from a change event.
fn place<'a>(message: &'a BorrowedMessage<'_>) -> Option<(Cow<'a, str>, u64)> {
    let change: Change<'a> = serde_json::from_slice(message.payload()?).ok()?;
    Some((change.after.chat_id, change.after.sequence_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_change_events() {
        let text = br#"{"before":null,"after":{"content":"x","chat_id":"bench-1","sequence_number":7},"op":"c"}"#;
        let change: Change<'_> = serde_json::from_slice(text).unwrap();
        assert_eq!((change.after.chat_id.as_ref(), change.after.sequence_number), ("bench-1", 7));
    }
}
