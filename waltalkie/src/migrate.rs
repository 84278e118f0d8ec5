//! `waltalkie migrate`: everything that must be there before roles run. May be run again at any time.

mod print;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, postgres};
use schemas::registry::Registry;

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Make the two databases too, where the role may
    #[arg(long)]
    create_databases: bool,
    /// Change nothing: print what has to be there as SQL and shell, all of it or one part, for somebody else to apply
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "all", conflicts_with = "create_databases")]
    print: Option<print::Part>,
}

/// Migrates, saying what was done.
pub(crate) async fn run(config: &Config, args: &MigrateArgs) -> Result<ExitCode> {
    if let Some(part) = args.print {
        print!("{}", print::script(config, part)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.create_databases {
        create_databases(config).await?;
    }
    for line in all(config).await? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings everything to what this version needs; returns a line for each thing that was made.
pub(crate) async fn all(config: &Config) -> Result<Vec<String>> {
    let names = config.names();
    let mut done = Vec::new();
    for (place, migrated) in [
        ("truth", migrations::migrate_truth(&config.postgres.truth_url).await?),
        ("read models", migrations::migrate_read(&config.postgres.read_url).await?),
    ] {
        done.extend(migrated.into_iter().map(|migration| format!("{place}: {migration}")));
    }
    let admin = Admin::new(&config.kafka)?;
    let topics = admin.make_topics(&config.kafka, &names).await?;
    done.extend(topics.into_iter().map(|topic| format!("topic {topic}")));
    for (difference, is_set) in admin.mend_topics(&config.kafka, &names).await? {
        let command = difference.command(&config.kafka.brokers);
        done.push(if is_set {
            format!("{difference}: set")
        } else {
            format!("{difference}, and this login may not set it: {command}")
        });
    }
    let registry = Registry::new(config.registry.url.expose(), names.prefix())?;
    for (subject, id) in registry.register_all().await.context("registering the schemas")? {
        done.push(format!("schema {subject} has id {id}"));
    }
    let client = postgres::connect(&postgres::parse(&config.postgres.truth_url, "postgres.truth_url")?).await?;
    migrations::Installation::open(&client, &names).await?;
    let problems = migrations::server_problems(&client).await?;
    anyhow::ensure!(problems.is_empty(), "Postgres isn't set up for replication:\n  {}", problems.join("\n  "));
    migrations::ensure_publication(&client, &names).await?;
    if let Some(slot) = migrations::ensure_slot(&client, &names).await? {
        cdc_worker::write_first_position(config, slot).await?;
        done.push(format!("slot {}", names.slot()));
    } else if cdc_worker::ensure_first_position(config).await? {
        done.push(format!("first position of slot {}", names.slot()));
    }
    Ok(done)
}

/// Makes the databases that the URLs name.
pub(crate) async fn create_databases(config: &Config) -> Result<()> {
    for (url, setting, kind) in [
        (&config.postgres.truth_url, "postgres.truth_url", Database::Truth),
        (&config.postgres.read_url, "postgres.read_url", Database::Read),
    ] {
        let parsed = postgres::parse(url, setting)?;
        let name = parsed.get_dbname().map_or_else(|| config.names().database(kind), str::to_owned);
        let server =
            postgres::with_database(url, "postgres").with_context(|| format!("{setting} names no database"))?;
        migrations::ensure_database(&server, &name).await?;
    }
    Ok(())
}
