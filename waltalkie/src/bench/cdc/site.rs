//! Where a workload is measured: a database of its own, and in it an installation for each run.

use anyhow::{Context, Result};
use runtime::kafka::admin::Admin;
use runtime::{Config, Secret, postgres};
use schemas::registry::Registry;
use tokio_postgres::Client;
use uuid::Uuid;

use super::CdcArgs;

/// A workload's database and servers.
pub(super) struct Site {
    config: Config,
    /// Processes of the servers by role.
    pub(super) servers: Vec<(String, u32)>,
    name: String,
}

/// An installation: prefix, slot, publication, topics, schemas.
pub(super) struct Installation {
    pub(super) config: Config,
    pub(super) slot: String,
    pub(super) publication: String,
}

impl Site {
    /// Makes the database and its tables.
    pub(super) async fn make(config: &Config, args: &CdcArgs, servers: &[(String, u32)]) -> Result<Self> {
        let name = format!("b{}", &Uuid::new_v4().simple().to_string()[..8]);
        let mut config = config.clone();
        let (server, _) = config.postgres.truth_url.expose().rsplit_once('/').unwrap_or_default();
        config.postgres.truth_url = Secret::new(format!("{server}/{name}"));
        config.kafka.partitions = args.partitions;
        config.ops.listen.clear();
        config.cdc.compression = args.compression.unwrap_or(config.cdc.compression);
        let site = Self { config, servers: servers.to_vec(), name };
        migrations::ensure_database(&site.maintenance_url(), &site.name).await?;
        migrations::migrate_truth(&site.config.postgres.truth_url).await?;
        Ok(site)
    }

    /// Removes the database. Its installations must have been removed.
    pub(super) async fn unmake(self) -> Result<()> {
        let client = postgres::connect(&postgres::parse(&self.maintenance_url(), "postgres.truth_url")?).await?;
        Ok(client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?)
    }

    fn maintenance_url(&self) -> Secret {
        let (server, _) = self.config.postgres.truth_url.expose().rsplit_once('/').unwrap_or_default();
        Secret::new(format!("{server}/postgres"))
    }

    pub(super) async fn connect(&self) -> Result<Client> {
        Ok(postgres::connect(&postgres::parse(&self.config.postgres.truth_url, "postgres.truth_url")?).await?)
    }

    /// Makes an installation. Before any row is written: a slot shows what comes after it.
    pub(super) async fn install(&self, number: usize) -> Result<Installation> {
        let mut config = self.config.clone();
        config.names.prefix = format!("{}-{number}-", self.name);
        let names = config.names();
        Admin::new(&config.kafka)?.make_topics(&config.kafka, &names).await?;
        Registry::new(config.registry.url.expose(), names.prefix())?.register_all().await?;
        let client = self.connect().await?;
        migrations::ensure_publication(&client, &names).await?;
        let slot = migrations::ensure_slot(&client, &names).await?.context("the slot is there already")?;
        cdc_worker::write_first_position(&config, slot).await?;
        Ok(Installation { slot: names.slot(), publication: names.publication(), config })
    }

    /// Removes an installation: its slot keeps WAL, its topics fill the disk.
    pub(super) async fn remove(&self, installation: &Installation) -> Result<()> {
        let client = self.connect().await?;
        client.execute("SELECT pg_drop_replication_slot($1)", &[&installation.slot]).await?;
        Admin::new(&installation.config.kafka)?.delete_topics(&installation.config.names()).await?;
        Ok(())
    }
}
