//! An installation of its own for one test: prefix, databases, topics, schemas, slot. Gone when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Names, Secret};
use tokio_postgres::Client;
use uuid::Uuid;

use super::process::RoleProcess;
use super::{Servers, logs_dir, program};

/// How long cleaning up may take before it is left to the next start of the servers.
const CLEANING: Duration = Duration::from_secs(20);

/// One installation on some servers.
pub struct Installation {
    servers: Servers,
    names: Names,
    variables: BTreeMap<String, String>,
    logs: PathBuf,
    processes: AtomicUsize,
}

impl Installation {
    /// One on the shared servers, migrated. `test` names its folder of logs.
    pub async fn make(test: &str) -> Result<Self> {
        Self::make_on(Servers::shared()?, test, &[]).await
    }

    /// One on given servers, with settings of its own: `("limits.commands_per_s", "5")`.
    pub async fn make_on(servers: Servers, test: &str, settings: &[(&str, &str)]) -> Result<Self> {
        // The tests' own HTTP client needs one, though nothing here speaks TLS.
        runtime::tls::install_provider();
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..10]);
        let names = Names::new(prefix.clone());
        let fixed = [
            ("development", "true".to_owned()),
            ("names.prefix", prefix),
            ("postgres.truth_url", servers.database(&names.database(Database::Truth))),
            ("postgres.read_url", servers.database(&names.database(Database::Read))),
            ("kafka.brokers", servers.kafka.clone()),
            ("kafka.partitions", "3".to_owned()),
            ("kafka.replication_factor", "1".to_owned()),
            ("kafka.min_insync_replicas", "1".to_owned()),
            ("registry.url", servers.registry.clone()),
            ("redis.url", servers.redis.clone()),
            ("auth.hs256_secret", "a secret that only tests sign their tokens with".to_owned()),
            ("gateway.listen", "127.0.0.1:0".to_owned()),
            ("ops.listen", "127.0.0.1:0".to_owned()),
            ("postgres.pool_size", "6".to_owned()),
            ("log.filter", "info".to_owned()),
            // They have tests of their own, and every other one would pay for them.
            ("operators.enabled", "false".to_owned()),
            // Tests share one address.
            ("limits.requests_per_s", "10000".to_owned()),
            ("limits.requests_burst", "10000".to_owned()),
        ];
        let mut variables: BTreeMap<String, String> =
            fixed.into_iter().map(|(key, value)| (variable(key), value)).collect();
        variables.extend(settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())));
        let installation = Self { servers, names, variables, logs: logs_dir(test)?, processes: AtomicUsize::new(0) };
        installation.migrate().await?;
        Ok(installation)
    }

    async fn migrate(&self) -> Result<()> {
        let mut command = self.command()?;
        command.args(["migrate", "--create-databases"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "waltalkie migrate: {}\n{said}", output.status);
        Ok(())
    }

    /// The executable with this installation's configuration, and with no other of this machine.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WALTALKIE_") {
                command.env_remove(name);
            }
        }
        // No waltalkie.toml there.
        command.envs(&self.variables).current_dir(&self.logs);
        Ok(command)
    }

    /// Runs roles in a process of their own, and waits until they are ready.
    pub async fn run(&self, roles: &[&str]) -> Result<RoleProcess> {
        self.run_with(roles, &[]).await
    }

    /// The same, with settings for this process.
    pub async fn run_with(&self, roles: &[&str], settings: &[(&str, &str)]) -> Result<RoleProcess> {
        let mut command = self.command()?;
        command.arg("run").args(roles);
        command.envs(settings.iter().map(|(key, value)| (variable(key), *value)));
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let log = self.logs.join(format!("{number:02}-{}.log", roles.join("-")));
        let process = RoleProcess::start(
            command,
            &roles.join(" "),
            &log,
            roles.iter().any(|role| ["gateway", "all"].contains(role)),
        )?;
        process.ready().await?;
        Ok(process)
    }

    /// The effective configuration.
    pub fn config(&self) -> Result<Config> {
        Ok(runtime::config::load(None, self.variables.clone())?)
    }

    /// The configuration as variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Names of topics, slot and the rest.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The servers.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Where its processes log.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A connection to the source of truth.
    pub async fn truth(&self) -> Result<Client> {
        connect(self.servers.database(&self.names.database(Database::Truth))).await
    }

    /// A connection to the read models.
    pub async fn read(&self) -> Result<Client> {
        connect(self.servers.database(&self.names.database(Database::Read))).await
    }

    async fn clean(servers: Servers, names: Names, config: Option<Config>) -> Result<()> {
        let client = connect(servers.database("postgres")).await?;
        let slot = names.slot();
        // The holder's connection dies with its process; on a busy machine that takes a moment.
        client
            .execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", &[&slot])
            .await?;
        super::until("the slot to be dropped", CLEANING / 2, async || {
            let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
            client.execute(sql, &[&slot]).await?;
            Ok(Some(()))
        })
        .await?;
        for kind in [Database::Truth, Database::Read] {
            let name = names.database(kind);
            client.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
        }
        if let Some(config) = config {
            Admin::new(&config.kafka)?.delete_topics(&names).await?;
        }
        Ok(())
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let (servers, names, config) = (self.servers.clone(), self.names.clone(), self.config().ok());
        // A runtime of its own: this may be a panic inside another one.
        let cleaning = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let cleaned = runtime.block_on(async {
                tokio::time::timeout(CLEANING, Self::clean(servers, names, config)).await.context("too slow")?
            });
            runtime.shutdown_background();
            cleaned
        });
        match cleaning.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("installation {} is not cleaned up: {error:#}", self.names.prefix()),
            Err(_) => eprintln!("installation {} is not cleaned up", self.names.prefix()),
        }
    }
}

/// `limits.commands_per_s` as a variable's name.
fn variable(key: &str) -> String {
    format!("WALTALKIE_{}", key.replace('.', "__").to_uppercase())
}

async fn connect(url: String) -> Result<Client> {
    let parsed = runtime::postgres::parse(&Secret::new(url), "the tests' database")?;
    Ok(runtime::postgres::connect(&parsed).await?)
}
