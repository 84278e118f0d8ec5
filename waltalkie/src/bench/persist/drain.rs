//! One workload: the persister over its backlog, then the bare loader.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runtime::Config;
use tokio_postgres::Client;

use super::budget::Sums;
use super::commands::Backlog;
use super::report::{Counted, Drain, Run};
use super::{PersistArgs, Workload, commands, loader};
use crate::bench::place::Place;
use crate::bench::processes::Watch;
use crate::bench::program::Program;
use crate::bench::progress;

/// Role of the measured process in accounts.
pub(super) const ROLE: &str = "persister";
/// How often it is looked how far the offsets are.
const LOOK: Duration = Duration::from_millis(10);
/// How long they may stand still, or a process take to end.
const STALL: Duration = Duration::from_secs(60);
/// Share of the sends that is persisted before the clock starts: plans, caches, connections.
const WARM_UP: f64 = 0.1;

pub(super) async fn run(
    args: &PersistArgs,
    workload: Workload,
    config: &Config,
    servers: &[(String, u32)],
) -> Result<Drain> {
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let place = Place::make(config, args.partitions).await?;
        let measured = measure(args, workload, &place, servers).await;
        place.unmake_or_tell().await;
        runs.push(measured?);
    }
    Ok(Drain::new(workload.name(), args.chats(workload), args.commands, runs))
}

async fn measure(args: &PersistArgs, workload: Workload, place: &Place, servers: &[(String, u32)]) -> Result<Run> {
    let config = &place.config;
    let chats = args.chats(workload);
    let backlog = Backlog { chats, sends: args.commands, content_bytes: args.content_bytes };
    commands::write(&backlog, config).await?;
    let client = place.connect().await?;
    let mut persister = start(config, workload.roles())?;
    let began_at = chats + (args.commands as f64 * WARM_UP) as u64;
    let all = chats + args.commands;
    let bar = progress(all, "persisting");
    let (mut seen, mut news) = (0, Instant::now());
    let (mut clock, mut watch) = (None, None);
    let (persisted, took, usage, budget) = loop {
        persister.must_run().context("the persister")?;
        let done = offsets(&client).await?;
        if done > seen {
            (seen, news) = (done, Instant::now());
            bar.set_position(done);
        }
        ensure!(news.elapsed() < STALL, "{seen} of {all} commands and then nothing: {}", persister.said());
        if clock.is_none() && done >= began_at {
            let began = Instant::now();
            let mut roles = servers.to_vec();
            roles.push((ROLE.to_owned(), persister.pid().context("the persister has no process")?));
            watch = Some(Watch::new(roles, None));
            clock = Some((began, done, Sums::of_program(&persister).await?));
        }
        if let (Some((began, from, sums)), Some(watch)) = (&clock, &mut watch) {
            if done >= all {
                let (took, usage) = (began.elapsed(), watch.end());
                break (done - from, took, usage, Sums::of_program(&persister).await?.since(sums));
            }
            watch.look();
        }
        tokio::time::sleep(LOOK).await;
    };
    bar.finish_and_clear();
    let peak_rss_bytes = persister.peak_rss_bytes();
    let (status, said) = persister.stop(STALL).await?;
    ensure!(status.success(), "the persister ended with {status}: {said}");
    let counted = count(&client, args.commands).await?;
    let loader_per_s = loader::load(&client, &backlog, config.persister.batch_commands).await?;
    Ok(Run {
        commands_per_s: persisted as f64 / took.as_secs_f64(),
        loader_per_s,
        cpu_s_per_million: usage
            .cpu_s
            .into_iter()
            .map(|(role, cpu_s)| (role, cpu_s * 1_000_000.0 / persisted as f64))
            .collect(),
        peak_rss_bytes,
        budget,
        counted,
    })
}

fn start(config: &Config, roles: &[&str]) -> Result<Program> {
    let settings = [
        ("POSTGRES__READ_URL", config.postgres.read_url.expose()),
        ("REDIS__URL", config.redis.url.expose()),
        ("OPS__LISTEN", "127.0.0.1:0"),
        ("PERSISTER__BATCH_COMMANDS", &config.persister.batch_commands.to_string()),
        // The whole backlog was issued at once.
        ("LIMITS__CHAT_SENDS_PER_S", "1000000"),
        ("LIMITS__CHAT_SENDS_BURST", "1000000"),
    ];
    Program::roles(roles, config, &settings)
}

/// Commands that are decided: a topic of its own, written without transactions, has no gaps in its offsets.
async fn offsets(client: &Client) -> Result<u64> {
    let sql = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer = 'persister'";
    let done: i64 = client.query_one(sql, &[]).await?.get(0);
    Ok(done as u64)
}

/// What became of the sends: each has one row, and each chat's `seq` is dense after the chat's own event.
async fn count(client: &Client, sends: u64) -> Result<Counted> {
    let sql = "SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(ids), 0)::bigint,
                      coalesce(sum(highest - lowest + 1 - seqs), 0)::bigint, count(*) FILTER (WHERE lowest <> 2)
                 FROM (SELECT count(*) AS rows, count(DISTINCT message_id) AS ids, count(DISTINCT sequence_number) AS seqs,
                              min(sequence_number) AS lowest, max(sequence_number) AS highest
                         FROM message GROUP BY chat_id) AS chats";
    let row = client.query_one(sql, &[]).await?;
    let number = |column| row.get::<_, i64>(column) as u64;
    Ok(Counted {
        rows: number(0),
        lost: sends.saturating_sub(number(1)),
        repeated: number(0) - number(1),
        gaps: number(2) + number(3),
    })
}
