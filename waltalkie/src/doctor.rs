//! `waltalkie doctor`: looks at each part and says how to mend what is wrong.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use migrations::PublicationProblem;
use projections::rebuild::Leftover;
use runtime::{Config, Secret, clock, postgres};
use schemas::registry::{Compatibility, Registry};
use schemas::timestamp;
use serde::Serialize;

use crate::durability;

mod failover;
mod media;
mod notifications;
mod stream_operators;
mod topics;

/// A difference between clocks that is worth a word.
const CLOCK_DIFFERENCE_MS: i64 = 2_000;
/// WAL kept for the slot that is worth a word.
const WAL_BYTES: i64 = 4 << 30;
const PATIENCE: Duration = Duration::from_secs(15);

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
}

/// What was found of one part.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    is_well: bool,
    /// What is seen where it is well, what is wrong and how to mend it where not.
    details: Vec<String>,
}

pub(crate) async fn run(config: &Config, args: &DoctorArgs) -> Result<ExitCode> {
    let findings = [
        check("configuration", std::future::ready(Ok(configuration(config)))).await,
        check("Postgres", truth(config)).await,
        check("replication slot", slot(config)).await,
        check("failover", failover::look(config)).await,
        check("read models", read_models(config)).await,
        check("Kafka", topics::look(config)).await,
        check("schema registry", registry(config)).await,
        check("Redis", redis_server(config)).await,
        check("media", media::look(config)).await,
        check("durability", durable(config)).await,
        check("notifications", notifications::look(config)).await,
        check("stream operators", stream_operators::look(config)).await,
    ];
    let is_well = findings.iter().all(|finding| finding.is_well);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{} {}", if finding.is_well { "✓" } else { "✗" }, finding.part);
            for detail in &finding.details {
                println!("    {detail}");
            }
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a look at a part comes to: what is seen, and what is wrong.
type Looked = Result<(Vec<String>, Vec<String>)>;

async fn check(part: &'static str, look: impl Future<Output = Looked>) -> Finding {
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok((seen, wrong))) if wrong.is_empty() => Finding { part, is_well: true, details: seen },
        Ok(Ok((_, wrong))) => Finding { part, is_well: false, details: wrong },
        Ok(Err(error)) => Finding { part, is_well: false, details: vec![format!("{error:#}")] },
        Err(_) => {
            let silent =
                format!("no answer in {} s: is it running, and may this machine reach it?", PATIENCE.as_secs());
            Finding { part, is_well: false, details: vec![silent] }
        }
    }
}

fn configuration(config: &Config) -> (Vec<String>, Vec<String>) {
    let mut wrong = Vec::new();
    let named = [
        ("postgres.truth_url", config.postgres.truth_url.is_empty()),
        ("postgres.read_url", config.postgres.read_url.is_empty()),
        ("kafka.brokers", config.kafka.brokers.is_empty()),
        ("registry.url", config.registry.url.is_empty()),
        ("redis.url", config.redis.url.is_empty()),
        ("auth.public_key_pem", config.auth.public_key_pem.is_empty() && config.auth.hs256_secret.is_empty()),
    ];
    for (key, _) in named.iter().filter(|(_, is_missing)| *is_missing) {
        wrong.push(format!("{key} isn't set: put it into waltalkie.toml, or into the environment"));
    }
    (vec![format!("development = {}", config.development)], wrong)
}

async fn truth(config: &Config) -> Looked {
    let client = connect(&config.postgres.truth_url, "postgres.truth_url").await?;
    let mut wrong = migrations::server_problems(&client).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), clock_timestamp(), to_regclass('message') IS NOT NULL",
            &[],
        )
        .await?;
    if !row.get::<_, bool>(2) {
        wrong.push("the tables aren't there: run `waltalkie migrate`".into());
    }
    let apart_ms = (timestamp::from_offset(row.get(1)) - clock::now_ms()).abs();
    if apart_ms > CLOCK_DIFFERENCE_MS {
        wrong.push(format!("its clock and this machine's are {apart_ms} ms apart: let NTP set both"));
    }
    Ok((vec![format!("PostgreSQL {}, clocks {apart_ms} ms apart", row.get::<_, String>(0))], wrong))
}

async fn slot(config: &Config) -> Looked {
    let client = connect(&config.postgres.truth_url, "postgres.truth_url").await?;
    let name = config.names().slot();
    let row = client
        .query_opt(
            "SELECT active, coalesce(wal_status, ''), (pg_current_wal_lsn() - restart_lsn)::bigint
               FROM pg_replication_slots WHERE slot_name = $1",
            &[&name],
        )
        .await?;
    let Some(row) = row else {
        return Ok((
            Vec::new(),
            vec![format!(
                "slot {name} isn't there: run `waltalkie migrate`; if there are rows already, `waltalkie cdc resnapshot` makes it \
             and completes the history"
            )],
        ));
    };
    let (is_active, wal_status): (bool, String) = (row.get(0), row.get(1));
    let kept = row.get::<_, Option<i64>>(2).unwrap_or_default();
    let mut wrong = Vec::new();
    if wal_status == "lost" {
        wrong.push(format!(
            "slot {name} has lost its WAL: `waltalkie cdc resnapshot` makes it anew and completes the history from the tables"
        ));
    }
    match migrations::publication_problem(&client, &config.names()).await? {
        None => {}
        Some(PublicationProblem::Missing) => {
            wrong.push(format!("publication {} isn't there: run `waltalkie migrate`", config.names().publication()));
        }
        Some(
            PublicationProblem::LeavesOut(problem)
            | PublicationProblem::More(problem)
            | PublicationProblem::MoreTables(problem),
        ) => wrong.push(problem),
    }
    if !is_active {
        wrong.push(format!("nobody reads slot {name}: start `waltalkie run cdc`; WAL piles up meanwhile"));
    }
    if kept > WAL_BYTES {
        wrong.push(format!(
            "{} MB of WAL are kept for slot {name}: look at the lag of `waltalkie cdc status`",
            kept >> 20
        ));
    }
    Ok((vec![format!("{name} is read, {} MB of WAL kept", kept >> 20)], wrong))
}

async fn read_models(config: &Config) -> Looked {
    let client = connect(&config.postgres.read_url, "postgres.read_url").await?;
    let is_there: bool = client.query_one("SELECT to_regclass('chat_head') IS NOT NULL", &[]).await?.get(0);
    let mut wrong = if is_there { Vec::new() } else { vec!["the tables aren't there: run `waltalkie migrate`".into()] };
    let mut seen = vec!["tables are there".to_owned()];
    for leftover in projections::rebuild::leftovers(&client).await? {
        match leftover {
            Leftover::Rebuild(schema) => wrong.push(format!(
                "schema {schema} is of a rebuild that was stopped: `waltalkie rebuild` goes on with it, `DROP SCHEMA {schema} \
                 CASCADE` in the read database gives it up"
            )),
            Leftover::Comparison(schema) => wrong.push(format!(
                "schema {schema} is of a comparison that was killed, with everybody's words: `DROP SCHEMA {schema} CASCADE` in \
                 the read database"
            )),
            Leftover::AsOf(schema) => seen.push(format!(
                "schema {schema} keeps a past state, with what was deleted since, until `DROP SCHEMA {schema} CASCADE`"
            )),
        }
    }
    Ok((seen, wrong))
}

async fn registry(config: &Config) -> Looked {
    let registry = Registry::new(config.registry.url.expose(), &config.names.prefix)?;
    let mut wrong = Vec::new();
    let verdicts = registry.check_all().await?;
    for (subject, verdict) in &verdicts {
        match verdict {
            Compatibility::Same => {}
            Compatibility::New | Compatibility::Compatible => {
                wrong.push(format!(
                    "{subject} isn't registered as this version has it: run `waltalkie schemas register`"
                ));
            }
            Compatibility::Incompatible(_) => {
                wrong.push(format!("{subject} is incompatible with this version: see `waltalkie schemas check`"));
            }
        }
    }
    Ok((vec![format!("{} schemas registered", verdicts.len())], wrong))
}

async fn redis_server(config: &Config) -> Looked {
    let mut redis = runtime::redis::commands(&config.redis)?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("0").trim().to_owned();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    let wrong = if major >= 7 {
        Vec::new()
    } else {
        vec![format!("Redis {version} has no sharded Pub/Sub: 7 or later is needed")]
    };
    let mut facts = vec![format!("Redis {version}")];
    let masters = redis.masters().await?;
    if masters > 1 {
        facts.push(format!("a cluster of {masters} masters"));
    }
    Ok((facts, wrong))
}

async fn durable(config: &Config) -> Looked {
    if config.development {
        return Ok((vec!["not asked for: development = true".into()], Vec::new()));
    }
    Ok((vec!["acknowledged messages are on more than one disk".into()], durability::problems(config).await?))
}

async fn connect(url: &Secret, setting: &'static str) -> Result<tokio_postgres::Client> {
    postgres::connect(&postgres::parse(url, setting)?).await.with_context(|| format!("check {setting}"))
}
