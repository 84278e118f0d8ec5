//! One storm.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::StormArgs;
use super::reads::Reads;
use super::report::{Figures, Returned};
use crate::bench::audience::{Audience, FIRST_SEQ, Tables};
use crate::bench::bare::{self, Bare};
use crate::bench::feed::Feed;
use crate::bench::node::{self, Node};
use crate::bench::place::Place;
use crate::bench::processes::Watch;
use crate::bench::readers::{Connect, Readers};
use crate::bench::schedule::{Schedule, now_us};
use crate::bench::{files, progress, tokens};

/// People in each chat of the others.
const OTHERS_EACH: usize = 10;
/// Between setting the others' clock and their first message.
const LEAD_US: u64 = 200_000;
/// How long the others' last messages may take, beside what is measured.
const DRAIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
const CONTENT_BYTES: usize = 192;

fn crowd_of(args: &StormArgs) -> Audience {
    let chats = (args.clients * args.chats_each / args.members).max(1);
    Audience::new("crowd", args.clients, chats, args.members, CONTENT_BYTES)
}

/// The crowd's missed messages as a run: all of them due when the node is killed.
fn missed_by(args: &StormArgs, crowd: &Audience) -> Schedule {
    let chats = crowd.chats as u64;
    let count = chats * args.missed as u64;
    Schedule { start_us: now_us(), interval_us: 0.001, count, warmup: 0, chats, base: FIRST_SEQ }
}

/// Between two nodes.
pub(super) async fn waltalkie(args: &StormArgs, place: &Place, servers: &[(String, u32)]) -> Result<Figures> {
    let crowd = crowd_of(args);
    let people = args.others - args.others % OTHERS_EACH;
    let others = Audience::new("others", people, people / OTHERS_EACH, OTHERS_EACH, CONTENT_BYTES);
    files::allow(crowd.people + others.people)?;
    let client = place.connect().await?;
    let (crowd_tables, others_tables) =
        (Tables { client: &client, audience: &crowd }, Tables { client: &client, audience: &others });
    crowd_tables.write().await?;
    others_tables.write().await?;
    crowd_tables.write_messages(crowd.chats, FIRST_SEQ, args.missed as i64).await?;
    let mut schedule = Schedule::new(args.rate, 0.0, args.calm_s + args.seconds, others.chats, FIRST_SEQ);
    others_tables.write_messages(others.chats, FIRST_SEQ, schedule.each()).await?;
    let feed = Feed::new(&place.config, &others).await?;
    let (dying, living) = (Node::start(&place.config).await?, Node::start(&place.config).await?);

    let connect = |audience: &Audience, url: &str| -> Result<Connect> {
        Ok(Connect {
            urls: vec![url.to_owned()],
            later_url: Some(living.url.clone()),
            tokens: tokens::of(&place.config, audience)?,
            per_s: args.ramp_per_s,
            heartbeat_ms: place.config.gateway.heartbeat_ms,
            stalled_percent: 0,
        })
    };
    let bar = progress(0, "connecting");
    let (mut crowd_readers, mut others_readers) = (Readers::start()?, Readers::start()?);
    others_readers.connect(connect(&others, &living.url)?, &bar).await?;
    crowd_readers.connect(connect(&crowd, &dying.url)?, &bar).await?;
    bar.finish_and_clear();
    let mut roles = servers.to_vec();
    roles.push((node::ROLE.to_owned(), living.pid()?));
    roles.push(("load_client".to_owned(), crowd_readers.pid()?));

    let told_after = Duration::from_secs_f64(args.settle_s);
    tokio::time::sleep(told_after).await;
    crowd_readers.begin(missed_by(args, &crowd), false).await?;
    schedule.start_us = now_us() + LEAD_US;
    others_readers.begin(schedule, true).await?;
    let feeding = tokio::spawn(feed.run(schedule));
    let storm = async {
        tokio::time::sleep(Duration::from_secs_f64(args.calm_s)).await;
        let before = Reads::now(&client, &place.config).await?;
        let mut watch = Watch::new(roles, None);
        let cut_us = now_us();
        dying.kill().await?;
        crowd_tables.move_counters(crowd.chats, FIRST_SEQ + args.missed as i64).await?;
        let returned = back(&mut crowd_readers, args.clients, cut_us, &mut watch).await?;
        anyhow::Ok((before, Instant::now(), cut_us, returned, watch.end()))
    };
    let (before, back_at, cut_us, mut returned, usage) = storm.await?;
    feeding.await??;
    others_tables.move_counters(others.chats, schedule.end()).await?;
    let expected = schedule.count * OTHERS_EACH as u64;
    let waiting = Instant::now();
    while others_readers.look().await?.received < expected && waiting.elapsed() < DRAIN {
        tokio::time::sleep(LOOK).await;
    }
    let all_us = cut_us + (returned.all_resumed_s * 1_000_000.0) as u64;
    let others_calm = others_readers.within(schedule.start_us, cut_us).await?;
    let others_meanwhile = others_readers.within(cut_us, all_us).await?;
    let others_outcome = others_readers.outcome().await?;
    returned.add(&crowd_readers.outcome().await?, missed_by(args, &crowd).count * args.members as u64);

    tokio::time::sleep((back_at + told_after).saturating_duration_since(Instant::now())).await;
    let (told, told_at) = (Reads::now(&client, &place.config).await?, Instant::now());
    tokio::time::sleep(told_after).await;
    let quiet = Reads::now(&client, &place.config).await? - told;
    living.end().await?;
    Ok(Figures {
        returned,
        others_calm,
        others_meanwhile,
        others_lost: expected.saturating_sub(others_outcome.received),
        others_repeated: others_outcome.repeated,
        others_out_of_order: others_outcome.out_of_order,
        reads: told - before,
        reads_s: told_at.duration_since(back_at).as_secs_f64(),
        quiet_reads: quiet,
        quiet_s: args.settle_s,
        cpu_s: usage.cpu_s,
        peak_rss_bytes: usage.peak_rss_bytes,
        stolen_cpu_s: usage.stolen_cpu_s,
        busy_cpu_s: usage.busy_cpu_s,
    })
}

/// Between two bare servers.
pub(super) async fn floor(args: &StormArgs) -> Result<Returned> {
    let crowd = crowd_of(args);
    files::allow(crowd.people)?;
    let (mut dying, mut living) = (Bare::start(Some(&crowd)).await?, Bare::start(Some(&crowd)).await?);
    living.move_heads(crowd.chats, FIRST_SEQ + args.missed as i64).await?;
    let mut readers = Readers::start()?;
    let connect = Connect {
        urls: vec![dying.url.clone()],
        later_url: Some(living.url.clone()),
        tokens: (0..crowd.people).map(|person| crowd.user_id(person)).collect(),
        per_s: args.ramp_per_s,
        heartbeat_ms: 5_000,
        stalled_percent: 0,
    };
    let bar = progress(0, "connecting");
    readers.connect(connect, &bar).await?;
    bar.finish_and_clear();
    readers.begin(missed_by(args, &crowd), false).await?;
    let mut watch = Watch::new(vec![(bare::ROLE.to_owned(), living.pid()?)], None);
    let cut_us = now_us();
    dying.kill().await?;
    let mut returned = back(&mut readers, args.clients, cut_us, &mut watch).await?;
    returned.add(&readers.outcome().await?, missed_by(args, &crowd).count * args.members as u64);
    Ok(returned)
}

/// Waits until everybody is back.
async fn back(readers: &mut Readers, clients: usize, cut_us: u64, watch: &mut Watch) -> Result<Returned> {
    let bar = progress(clients as u64, "clients back");
    // At first all stand whose connection hasn't been seen to be gone.
    readers.until("clients back", &bar, |look| (look.returned.min(look.standing) as u64, clients as u64)).await?;
    bar.finish_and_clear();
    watch.look();
    let (times, look) = (readers.returned_us().await?, readers.look().await?);
    let since = |place: usize| -> Result<f64> {
        let at_us = times.get(place).context("a return without its time")?;
        Ok(at_us.saturating_sub(cut_us) as f64 / 1_000_000.0)
    };
    Ok(Returned {
        half_resumed_s: since(clients.div_ceil(2) - 1)?,
        all_resumed_s: since(times.len() - 1)?,
        refused_handshakes: look.refused,
        ..Returned::default()
    })
}
