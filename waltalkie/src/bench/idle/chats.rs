//! One node that follows very many chats, and Redis restarted under it.
//!
//! Each chat has one member, who is connected and in many of them. Something is said in some chats while Redis is away, which
//! Pub/Sub never brings. Measured from the moment at which Redis answers again: until every channel is subscribed, and until
//! everybody has what they missed. Afterwards something is published to every chat, and must reach its member once and in order.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use local_stack::{LocalStack, Service};
use runtime::redis::Commands;

use super::IdleArgs;
use super::report::{Followed, Restart};
use crate::bench::audience::{Audience, FIRST_SEQ, Tables};
use crate::bench::feed::Feed;
use crate::bench::figures::round;
use crate::bench::node::Node;
use crate::bench::place::Place;
use crate::bench::readers::{Connect, Readers};
use crate::bench::schedule::{Schedule, now_us};
use crate::bench::{files, progress, tokens};

/// Chats of one person.
const CHATS_EACH: usize = 1_000;
/// Handshakes a second: each brings a thousand subscriptions.
const PER_S: f64 = 20.0;
/// Chats that are published to before all of it has to have come.
const AT_A_TIME: usize = 5_000;
/// How long anything after the restart may take.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

struct Bench<'a> {
    args: &'a IdleArgs,
    audience: &'a Audience,
    tables: Tables<'a>,
    redis: Commands,
    feed: Feed,
    readers: Readers,
    node: Node,
}

pub(super) async fn run(
    args: &IdleArgs,
    chats: usize,
    place: &Place,
    stack: Option<&mut LocalStack>,
) -> Result<Followed> {
    let people = chats.div_ceil(CHATS_EACH);
    let audience = Audience::new("many", people, chats, 1, 192);
    files::allow(people)?;
    let client = place.connect().await?;
    let tables = Tables { client: &client, audience: &audience };
    tables.write().await?;
    let each = 2;
    tables.write_messages(chats, FIRST_SEQ, each).await?;
    let feed = Feed::new(&place.config, &audience).await?;
    let node = Node::start(&place.config).await?;
    let rss_before_bytes = node.rss_bytes();
    let mut readers = Readers::start()?;
    let began = Instant::now();
    let connect = Connect {
        urls: vec![node.url.clone()],
        later_url: None,
        tokens: tokens::of(&place.config, &audience)?,
        per_s: PER_S,
        heartbeat_ms: place.config.gateway.heartbeat_ms,
        stalled_percent: 0,
    };
    let bar = progress(0, "connecting");
    readers.connect(connect, &bar).await?;
    bar.finish_and_clear();
    let following_s = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs_f64(args.settle_s)).await;
    let rss_after_bytes = node.rss_bytes();
    let redis = runtime::redis::commands(&place.config.redis)?;
    let mut bench = Bench { args, audience: &audience, tables, redis, feed, readers, node };
    let restart = match stack {
        Some(stack) => Some(bench.restart(stack).await?),
        None => None,
    };
    bench.node.end().await?;
    Ok(Followed::new(chats, people, (rss_before_bytes, rss_after_bytes), following_s, restart))
}

impl Bench<'_> {
    async fn restart(&mut self, stack: &mut LocalStack) -> Result<Restart> {
        let (chats, missed) = (self.audience.chats, self.args.missed);
        // What isn't missed comes before: from then on all chats have the same end.
        self.begin(FIRST_SEQ).await?;
        self.publish_to(missed..chats, FIRST_SEQ + 1).await?;
        let channels = subscribed(&mut self.redis).await?;

        let killed_at = Instant::now();
        stack.kill(Service::Redis).await?;
        self.tables.move_counters(chats, FIRST_SEQ + 1).await?;
        tokio::time::sleep(Duration::from_secs_f64(self.args.away_s)).await;
        stack.start_again(Service::Redis).await?;
        let back_at = Instant::now();
        let away_s = back_at.duration_since(killed_at).as_secs_f64();
        let (mut resubscribed_s, mut healed_s) = (None, None);
        while resubscribed_s.is_none() || healed_s.is_none() {
            self.node.must_run()?;
            if healed_s.is_none() && self.readers.look().await?.received >= chats as u64 {
                healed_s = Some(back_at.elapsed().as_secs_f64());
            }
            // The connection for questions was lost as well.
            let now = if resubscribed_s.is_none() { subscribed(&mut self.redis).await.unwrap_or(0) } else { 0 };
            if now >= channels {
                resubscribed_s = Some(back_at.elapsed().as_secs_f64());
            }
            ensure!(
                back_at.elapsed() < PATIENCE,
                "after {} s {now} of {channels} channels are subscribed and {} of {chats} events have come",
                PATIENCE.as_secs(),
                self.readers.look().await?.received
            );
            tokio::time::sleep(LOOK).await;
        }
        let before = self.readers.outcome().await?;

        self.begin(FIRST_SEQ + 1).await?;
        self.publish_to(0..chats, FIRST_SEQ + 2).await?;
        self.tables.move_counters(chats, FIRST_SEQ + 2).await?;
        let after = self.readers.outcome().await?;
        let both = 2 * chats as u64;
        Ok(Restart {
            missed,
            away_s: round(away_s),
            resubscribed_s: round(resubscribed_s.unwrap_or_default()),
            healed_s: round(healed_s.unwrap_or_default()),
            lost: both.saturating_sub(before.received + after.received),
            repeated: before.repeated + after.repeated,
            out_of_order: before.out_of_order + after.out_of_order,
            closed_connections: before.closed_connections + after.closed_connections,
            rss_bytes: self.node.rss_bytes(),
        })
    }

    /// One message a chat is waited for from here on.
    async fn begin(&mut self, base: i64) -> Result<()> {
        let chats = self.audience.chats;
        let schedule = Schedule { start_us: now_us(), ..Schedule::new(chats as f64, 0.0, 1.0, chats, base) };
        self.readers.begin(schedule, false).await
    }

    /// One message a chat, until all have come. Some at a time: Redis cuts a subscriber off for whom 32 MB wait, and what it
    /// loses by that can't be read again before the counters have moved.
    async fn publish_to(&mut self, chats: Range<usize>, seq: i64) -> Result<()> {
        let bar = progress(chats.len() as u64, "events");
        let mut published = 0;
        for from in chats.clone().step_by(AT_A_TIME) {
            let part = from..chats.end.min(from + AT_A_TIME);
            published += part.len() as u64;
            self.feed.publish_to(part, seq).await?;
            self.readers.until("events", &bar, |look| (look.received, published)).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Sharded channels that somebody has subscribed, of the whole server.
async fn subscribed(redis: &mut Commands) -> Result<u64> {
    let info: String = redis::cmd("INFO").arg("stats").query_async(redis).await?;
    let count = info.lines().find_map(|line| line.strip_prefix("pubsubshard_channels:")?.trim().parse().ok());
    count.context("Redis doesn't tell how many channels are subscribed; 7.0.3 and later do")
}
