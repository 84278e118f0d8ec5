//! An installation of its own on the servers under test: databases, topics, schemas, publication and slot under a random
//! prefix, taken away again at the end, also after a panic.

mod compare;
pub mod completing;
pub mod history;
mod log;
pub mod moving;
pub mod program;
mod rows;
pub mod standby;
pub mod victims;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cdc_worker::failpoint::Failpoints;
use runtime::health::Health;
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Secret, Shutdown};
use schemas::registry::Registry;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

pub use compare::history_is_the_tables;
pub use log::{Logged, count_all, read_events, read_positions, read_users};
pub use rows::insert;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test, which starts the servers"))
}

pub struct Stack {
    pub config: Arc<Config>,
    pub sql: Client,
    /// Where the database has to be removed at the end.
    shared_server: Option<String>,
}

/// A worker in a task.
pub struct Running {
    pub task: tokio::task::JoinHandle<Result<(), cdc_worker::Error>>,
    pub shutdown: Shutdown,
    pub health: Health,
}

impl Stack {
    pub async fn new() -> Result<Self> {
        let server_url = env("WALTALKIE_TEST_POSTGRES_URL");
        let mut stack = Self::on(server_url.clone()).await?;
        stack.shared_server = Some(server_url);
        Ok(stack)
    }

    /// With its database on a server of one's own, which takes it along when it goes.
    pub async fn on(server_url: String) -> Result<Self> {
        Self::of(Self::draft(&server_url), server_url).await
    }

    /// The configuration of an installation under a new prefix that isn't made yet.
    pub fn draft(server_url: &str) -> Config {
        let mut config = Config::default();
        config.names.prefix = format!("t{:08x}-", rand::random::<u32>());
        let database = config.names().database(Database::Truth);
        config.postgres.truth_url = Secret::new(with_database(server_url, &database));
        config.kafka.brokers = env("WALTALKIE_TEST_KAFKA");
        config.kafka.replication_factor = 1;
        config.kafka.min_insync_replicas = 1;
        config.kafka.partitions = 3;
        config.registry.url = Secret::new(env("WALTALKIE_TEST_REGISTRY"));
        config
    }

    /// Makes what a configuration speaks of, with its own rights; the database with those of `server_url`.
    pub async fn of(config: Config, server_url: String) -> Result<Self> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("RUST_LOG").unwrap_or_default())
            .with_test_writer()
            .try_init();
        let database = config.names().database(Database::Truth);
        migrations::ensure_database(&Secret::new(server_url.clone()), &database).await?;
        migrations::migrate_truth(&config.postgres.truth_url).await?;
        Admin::new(&config.kafka)?.make_topics(&config.kafka, &config.names()).await?;
        Registry::new(config.registry.url.expose(), config.names().prefix())?.register_all().await?;
        let sql = connect(config.postgres.truth_url.expose()).await?;
        let stack = Self { config: Arc::new(config), sql, shared_server: None };
        migrations::ensure_publication(&stack.sql, &stack.config.names()).await?;
        stack.make_slot().await?;
        Ok(stack)
    }

    /// Makes the slot and its first position, as `migrate` does.
    pub async fn make_slot(&self) -> Result<()> {
        let made = migrations::ensure_slot(&self.sql, &self.config.names()).await?.context("the slot is there")?;
        cdc_worker::write_first_position(&self.config, made).await?;
        Ok(())
    }

    /// Drops the slot as soon as the server has let go of the connection that streamed it.
    pub async fn drop_slot(&self) -> Result<()> {
        eventually("the slot is free", async || {
            let dropped = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                            WHERE slot_name = $1 AND NOT active";
            match self.sql.query(dropped, &[&self.slot()]).await {
                Ok(rows) => Ok(!rows.is_empty()),
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    pub fn slot(&self) -> String {
        self.config.names().slot()
    }

    pub async fn connect(&self) -> Result<Client> {
        connect(self.config.postgres.truth_url.expose()).await
    }

    pub fn start(&self) -> Running {
        self.start_with(Failpoints::default())
    }

    pub fn start_with(&self, failpoints: Failpoints) -> Running {
        start(Arc::clone(&self.config), failpoints)
    }

    /// `confirmed_flush_lsn`, as text and number.
    pub async fn confirmed(&self) -> Result<u64> {
        let row = self
            .sql
            .query_one(
                "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1",
                &[&self.slot()],
            )
            .await?;
        Ok(row.get::<_, i64>(0) as u64)
    }

    pub async fn wal_lsn(&self) -> Result<u64> {
        let row = self.sql.query_one("SELECT (pg_current_wal_lsn() - '0/0')::bigint", &[]).await?;
        Ok(row.get::<_, i64>(0) as u64)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let (config, server_url, slot) = (Arc::clone(&self.config), self.shared_server.clone(), self.slot());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                if let Err(error) = remove(&config, server_url.as_deref(), &slot).await {
                    eprintln!("leaving {slot} behind: {error:#}");
                }
            });
        });
        let _ = removal.join();
    }
}

async fn remove(config: &Config, server_url: Option<&str>, slot: &str) -> Result<()> {
    if let Some(server_url) = server_url {
        remove_database(config, server_url, slot).await?;
    }
    Admin::new(&config.kafka)?.delete_topics(&config.names()).await?;
    Ok(())
}

async fn remove_database(config: &Config, server_url: &str, slot: &str) -> Result<()> {
    let client = connect(server_url).await?;
    let database = config.names().database(Database::Truth);
    let deadline = Instant::now() + PATIENCE;
    loop {
        client
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", &[&database])
            .await?;
        let dropped = client
            .execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
                &[&slot],
            )
            .await;
        match dropped {
            Ok(_) => break,
            Err(error) if Instant::now() > deadline => bail!(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    client.batch_execute(&format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)")).await?;
    Ok(())
}

pub fn start(config: Arc<Config>, failpoints: Failpoints) -> Running {
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let role = health.role("cdc");
    let run = cdc_worker::run_with(config, role, shutdown.clone(), failpoints);
    let task = tokio::spawn(async move {
        let outcome = run.await;
        if let Err(error) = &outcome {
            eprintln!("the worker ended: {}", error.chain());
        }
        outcome
    });
    Running { task, shutdown, health }
}

impl Running {
    /// Ends it as a signal would.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.begin();
        self.task.await??;
        Ok(())
    }

    /// Why it ended by itself, for somebody to mend.
    pub async fn refusal(self) -> Result<String> {
        let error = tokio::time::timeout(PATIENCE, self.task).await??.expect_err("the worker ends");
        ensure!(!error.is_transient(), "{}", error.chain());
        Ok(error.chain())
    }

    /// Ends it as a kill would: nothing of it runs on.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub fn with_database(server_url: &str, database: &str) -> String {
    let (front, _) = server_url.rsplit_once('/').expect("a URL with a database");
    format!("{front}/{database}")
}

pub async fn connect(url: &str) -> Result<Client> {
    let server = runtime::postgres::parse(&Secret::new(url), "the test's database")?;
    Ok(runtime::postgres::connect(&server).await?)
}

/// Asks until the answer is yes.
pub async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let deadline = Instant::now() + PATIENCE;
    while !condition().await? {
        if Instant::now() > deadline {
            bail!("waited in vain: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
