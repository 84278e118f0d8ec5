//! Where a workload is measured: a database of its own, and in it an installation for each run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runtime::kafka::admin::Admin;
use runtime::{Config, Secret, postgres};
use schemas::registry::Registry;
use tokio_postgres::Client;
use uuid::Uuid;

/// How long a slot's holder may take to let go of it.
const LETTING_GO: Duration = Duration::from_secs(30);
/// How often it is tried.
const LOOK: Duration = Duration::from_millis(20);

/// A workload's database and servers.
pub(super) struct Site {
    config: Config,
    /// Processes of the servers by role.
    pub(super) servers: Vec<(String, u32)>,
    name: String,
    maintenance_url: Secret,
}

/// An installation: prefix, slot, publication, topics, schemas.
#[derive(Clone)]
pub(super) struct Installation {
    pub(super) config: Config,
    pub(super) slot: String,
    pub(super) publication: String,
}

impl Site {
    /// Makes the database and its tables.
    pub(super) async fn make(mut config: Config, servers: &[(String, u32)]) -> Result<Self> {
        let name = format!("b{}", &Uuid::new_v4().simple().to_string()[..8]);
        let server = config.postgres.truth_url.expose().rsplit_once('/').map(|(server, _)| server.to_owned());
        let server = server.context("postgres.truth_url names no database")?;
        config.postgres.truth_url = Secret::new(format!("{server}/{name}"));
        if !config.postgres.replication_url.is_empty() {
            let url = postgres::with_database(&config.postgres.replication_url, &name);
            config.postgres.replication_url = url.context("postgres.replication_url names no database")?;
        }
        let site = Self {
            config,
            servers: servers.to_vec(),
            name,
            maintenance_url: Secret::new(format!("{server}/postgres")),
        };
        migrations::ensure_database(&site.maintenance_url, &site.name).await?;
        migrations::migrate_truth(&site.config.postgres.truth_url).await?;
        Ok(site)
    }

    /// Removes the database. Its installations must have been removed.
    pub(super) async fn unmake(self) -> Result<()> {
        let client = postgres::connect(&postgres::parse(&self.maintenance_url, "postgres.truth_url")?).await?;
        Ok(client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?)
    }

    pub(super) async fn connect(&self) -> Result<Client> {
        Ok(postgres::connect(&postgres::parse(&self.config.postgres.truth_url, "postgres.truth_url")?).await?)
    }

    /// How much memory the server takes for decoding before it spills to disk: what a large transaction hangs on.
    pub(super) async fn decoding_memory(&self) -> Result<String> {
        let client = postgres::connect(&cdc_worker::slot_server(&self.config)?).await?;
        Ok(client.query_one("SHOW logical_decoding_work_mem", &[]).await?.get(0))
    }

    /// Makes an installation. Before any row is written: a slot shows what comes after it.
    pub(super) async fn install(&self, number: usize) -> Result<Installation> {
        let mut config = self.config.clone();
        config.names.prefix = format!("{}-{number}-", self.name);
        let names = config.names();
        Admin::new(&config.kafka)?.make_topics(&config.kafka, &names).await?;
        Registry::new(config.registry.url.expose(), names.prefix())?.register_all().await?;
        let client = self.connect().await?;
        let problems = migrations::server_problems(&client).await?;
        ensure!(problems.is_empty(), "Postgres isn't set up for replication:\n  {}", problems.join("\n  "));
        migrations::ensure_publication(&client, &names).await?;
        let slot = migrations::ensure_slot(&client, &names).await?.context("the slot is there already")?;
        cdc_worker::write_first_position(&config, slot).await?;
        Ok(Installation { slot: names.slot(), publication: names.publication(), config })
    }

    /// Removes an installation: its slot keeps WAL, its topics fill the disk. Whoever still streams is ended.
    pub(super) async fn remove(&self, installation: &Installation) -> Result<()> {
        let client = self.connect().await?;
        let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active";
        let drop = "SELECT pg_drop_replication_slot($1)";
        let began = Instant::now();
        while let Err(error) = client.execute(drop, &[&installation.slot]).await {
            if began.elapsed() > LETTING_GO {
                return Err(error).with_context(|| format!("dropping slot {}", installation.slot));
            }
            client.execute(end, &[&installation.slot]).await?;
            tokio::time::sleep(LOOK).await;
        }
        Admin::new(&installation.config.kafka)?.delete_topics(&installation.config.names()).await?;
        Ok(())
    }
}
