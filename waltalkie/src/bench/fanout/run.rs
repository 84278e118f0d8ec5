//! Loads of several rates, one after another over the same connections, against nodes or against the floor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::FanoutArgs;
use super::report::{Figures, Ran};
use crate::bench::audience::{Audience, FIRST_SEQ, Tables};
use crate::bench::bare::{self, Bare};
use crate::bench::feed::Feed;
use crate::bench::figures::Percentiles;
use crate::bench::node::{self, Node};
use crate::bench::place::Place;
use crate::bench::processes::Watch;
use crate::bench::readers::{Connect, Readers};
use crate::bench::schedule::{Schedule, now_us};
use crate::bench::stages::Stages;
use crate::bench::{files, progress, tokens};

/// Between setting a run's clock and its first message.
const LEAD_US: u64 = 200_000;
const LOOK: Duration = Duration::from_millis(20);

/// The rates' runs.
pub(super) type Loads = Vec<Vec<Figures>>;

/// What sends a run's messages.
enum Source<'a> {
    Nodes { nodes: Vec<Node>, feed: Option<Feed>, tables: Tables<'a> },
    Bare(Bare),
}

/// Against the gateway.
pub(super) async fn waltalkie(
    args: &FanoutArgs,
    audience: &Audience,
    place: &Place,
    servers: &[(String, u32)],
) -> Result<Loads> {
    files::allow(audience.people)?;
    let client = place.connect().await?;
    let tables = Tables { client: &client, audience };
    tables.write().await?;
    let feed = Some(Feed::new(&place.config, audience).await?);
    let mut nodes = Vec::new();
    for _ in 0..args.nodes {
        nodes.push(Node::start(&place.config).await?);
    }
    let urls = nodes.iter().map(|node| node.url.clone()).collect();
    let mut roles = servers.to_vec();
    for node in &nodes {
        roles.push((node::ROLE.to_owned(), node.pid()?));
    }
    roles.push(("publisher".to_owned(), std::process::id()));
    let tokens = tokens::of(&place.config, audience)?;
    let mut bench = Bench::connect(args, audience, urls, tokens, roles, place.config.gateway.heartbeat_ms).await?;
    let mut source = Source::Nodes { nodes, feed, tables };
    let loads = bench.loads(&mut source).await?;
    if let Source::Nodes { nodes, .. } = source {
        for node in nodes {
            node.end().await?;
        }
    }
    Ok(loads)
}

/// Against a bare server.
pub(super) async fn floor(args: &FanoutArgs, audience: &Audience) -> Result<Loads> {
    files::allow(audience.people)?;
    let bare = Bare::start(Some(audience)).await?;
    let roles = vec![(bare::ROLE.to_owned(), bare.pid()?)];
    let tokens = (0..audience.people).map(|person| audience.user_id(person)).collect();
    let mut bench = Bench::connect(args, audience, vec![bare.url.clone()], tokens, roles, 5_000).await?;
    bench.loads(&mut Source::Bare(bare)).await
}

struct Bench<'a> {
    args: &'a FanoutArgs,
    readers: Readers,
    roles: Vec<(String, u32)>,
    /// The chats' last `seq`.
    base: i64,
    /// Deliveries of a message to every chat.
    read_each: u64,
}

impl<'a> Bench<'a> {
    async fn connect(
        args: &'a FanoutArgs,
        audience: &Audience,
        urls: Vec<String>,
        tokens: Vec<String>,
        mut roles: Vec<(String, u32)>,
        heartbeat_ms: u64,
    ) -> Result<Self> {
        let mut readers = Readers::start()?;
        roles.push(("load_client".to_owned(), readers.pid()?));
        let bar = progress(0, "connecting");
        let stalled_percent = args.stalled_percent.into();
        let connect = Connect { urls, later_url: None, tokens, per_s: args.ramp_per_s, heartbeat_ms, stalled_percent };
        readers.connect(connect, &bar).await?;
        bar.finish_and_clear();
        Ok(Self { args, readers, roles, base: FIRST_SEQ, read_each: args.read_each(audience) })
    }

    async fn loads(&mut self, source: &mut Source<'_>) -> Result<Loads> {
        let mut loads = Vec::new();
        for deliveries_per_s in &self.args.deliveries_per_s {
            let mut runs = Vec::new();
            for _ in 0..self.args.runs {
                runs.push(self.run(source, *deliveries_per_s).await?);
            }
            loads.push(runs);
        }
        Ok(loads)
    }

    async fn run(&mut self, source: &mut Source<'_>, deliveries_per_s: f64) -> Result<Figures> {
        let args = self.args;
        let messages_per_s = deliveries_per_s / args.members as f64;
        let mut schedule = Schedule::new(messages_per_s, args.warmup_s, args.seconds, args.chats, self.base);
        self.base = schedule.end();
        source.prepare(schedule).await?;
        let expected = schedule.each() as u64 * self.read_each;
        let mut watch = Watch::new(self.roles.clone(), None);
        schedule.start_us = now_us() + LEAD_US;
        self.readers.begin(schedule, false).await?;
        let before = source.stages().await?;
        let bar = progress(schedule.count, "messages");
        let mut is_warm = false;
        let look = || {
            if !is_warm && now_us() >= schedule.warm_us() {
                is_warm = true;
                watch.begin();
            }
            watch.look();
            bar.set_position(schedule.due_by(now_us()));
        };
        source.send(schedule, look).await?;
        let sent_at = Instant::now();
        let measured_s = (now_us().saturating_sub(schedule.warm_us())) as f64 / 1_000_000.0;
        // Whoever was closed as slow comes back, resumes, and may still get what is missing.
        while self.readers.look().await?.received < expected && sent_at.elapsed().as_secs_f64() < args.drain_s {
            watch.look();
            tokio::time::sleep(LOOK).await;
        }
        let drain_s = sent_at.elapsed().as_secs_f64();
        let usage = watch.end();
        bar.finish_and_clear();
        let outcome = self.readers.outcome().await?;
        let mut read_again = BTreeMap::new();
        for (before, after) in before.iter().zip(source.stages().await?) {
            for (what, count) in after.read_again_since(before) {
                *read_again.entry(what).or_default() += count;
            }
        }
        let ran = Ran { measured_s, drain_s, usage, handed: source.handed(), read_again };
        Ok(Figures::new(deliveries_per_s, expected, &outcome, ran))
    }
}

impl Source<'_> {
    /// What the run needs before its clock starts.
    async fn prepare(&mut self, schedule: Schedule) -> Result<()> {
        match self {
            Self::Nodes { tables, .. } => {
                tables.write_messages(schedule.chats as usize, schedule.base, schedule.each()).await
            }
            Self::Bare(bare) => bare.prepare(schedule).await,
        }
    }

    /// Sends everything when it is due; looks now and then meanwhile.
    async fn send(&mut self, schedule: Schedule, look: impl FnMut()) -> Result<()> {
        match self {
            Self::Nodes { nodes, feed, tables } => {
                let sending = feed.take().context("an earlier run hasn't ended")?.run(schedule);
                *feed = Some(looking(tokio::spawn(sending), look).await??);
                for node in nodes {
                    node.must_run()?;
                }
                tables.move_counters(schedule.chats as usize, schedule.end()).await
            }
            Self::Bare(bare) => looking(bare.run(schedule), look).await,
        }
    }

    /// What each node's metrics say of itself.
    async fn stages(&self) -> Result<Vec<Stages>> {
        let Self::Nodes { nodes, .. } = self else { return Ok(Vec::new()) };
        let mut stages = Vec::with_capacity(nodes.len());
        for node in nodes {
            stages.push(node.stages().await?);
        }
        Ok(stages)
    }

    /// The bench's own delay, where it is known.
    fn handed(&self) -> Option<Percentiles> {
        match self {
            Self::Nodes { feed, .. } => feed.as_ref().map(Feed::handed),
            Self::Bare(_) => None,
        }
    }
}

/// Waits for something, and looks now and then meanwhile.
async fn looking<T>(awaited: impl Future<Output = T>, mut look: impl FnMut()) -> T {
    tokio::pin!(awaited);
    loop {
        tokio::select! {
            biased;
            done = &mut awaited => return done,
            () = tokio::time::sleep(LOOK) => look(),
        }
    }
}
