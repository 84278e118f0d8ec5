//! An installation for the workers alone: database, topics, schemas, publication and slot under a random prefix.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Secret, postgres};
use schemas::registry::Registry;

use super::Shared;

/// How long the slot's last holder may take to let go of it.
const CLEARING: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    pub(super) config: Shared,
    server_url: Secret,
}

impl Stage {
    pub(super) async fn build(config: &Config) -> Result<Self> {
        let mut config = config.clone();
        config.names.prefix = format!("chaos{:08x}-", rand::random::<u32>());
        let names = config.names();
        let (server, _) =
            config.postgres.truth_url.expose().rsplit_once('/').context("postgres.truth_url names no database")?;
        let (server_url, database) = (Secret::new(format!("{server}/postgres")), names.database(Database::Truth));
        config.postgres.truth_url = Secret::new(format!("{server}/{database}"));
        migrations::ensure_database(&server_url, &database).await?;
        let stage = Self { config: Arc::new(config), server_url };
        match stage.furnish().await {
            Ok(()) => Ok(stage),
            Err(error) => {
                // What was made so far is nobody's.
                let _ = stage.clear().await;
                Err(error)
            }
        }
    }

    async fn furnish(&self) -> Result<()> {
        let (config, names) = (&self.config, self.config.names());
        migrations::migrate_truth(&config.postgres.truth_url).await?;
        Admin::new(&config.kafka)?.make_topics(&config.kafka, &names).await?;
        Registry::new(config.registry.url.expose(), names.prefix())?.register_all().await?;
        let client = self.connect().await?;
        let problems = migrations::server_problems(&client).await?;
        ensure!(problems.is_empty(), "Postgres isn't set up for replication:\n  {}", problems.join("\n  "));
        migrations::ensure_publication(&client, &names).await?;
        let slot = migrations::ensure_slot(&client, &names).await?.context("the slot is there already")?;
        Ok(cdc_worker::write_first_position(config, slot).await?)
    }

    async fn connect(&self) -> Result<tokio_postgres::Client> {
        let url = postgres::parse(&self.config.postgres.truth_url, "postgres.truth_url")?;
        Ok(postgres::connect(&url).await?)
    }

    /// Takes everything away again but the schemas, which a registry keeps.
    pub(super) async fn clear(&self) -> Result<()> {
        let names = self.config.names();
        let database = names.database(Database::Truth);
        let client = postgres::connect(&postgres::parse(&self.server_url, "postgres.truth_url")?).await?;
        let deadline = Instant::now() + CLEARING;
        loop {
            client
                .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", &[&database])
                .await?;
            let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
            match client.execute(drop, &[&names.slot()]).await {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => bail!(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        client.batch_execute(&format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)")).await?;
        Ok(Admin::new(&self.config.kafka)?.delete_topics(&names).await?)
    }
}
