//! A single Kafka beside the stack, whose clients log in and may only what they were given: for tests of rights.
//!
//! It has two listeners: the usual one, by which this machine's administrator comes in, and one with SASL
//! (SCRAM-SHA-512 or PLAIN, over TLS if there is a certificate), behind which nobody may anything without an ACL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::command::run_tool;
use crate::error::IoContext;
use crate::fetch::fetch;
use crate::kafka::{Kafka, Logins, new_cluster_id};
use crate::lock::DataDirLock;
use crate::memory::Memory;
use crate::options::default_cache_dir;
use crate::plan::make_folders;
use crate::process::Process;
use crate::progress::Silent;
use crate::record::Record;
use crate::server::{Part, Server};
use crate::service::Service;

/// How long a dropped broker may take to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// A running broker. Dropped, it is killed.
pub struct LoneKafka {
    server: Server<Kafka>,
    login_port: u16,
    data_dir: PathBuf,
    /// Let go of last.
    _lock: DataDirLock,
}

impl std::fmt::Debug for LoneKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server holds passwords.
        f.debug_struct("LoneKafka").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl LoneKafka {
    /// Starts a broker that knows some users by name and password, and returns when it answers. Users are written into a
    /// new data directory: one that has been used keeps those that it had.
    pub async fn start(data_dir: impl AsRef<Path>, users: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(data_dir, users, None).await
    }

    /// The same with logins over TLS, with the key and the certificate of a PEM file.
    pub async fn start_with(
        data_dir: impl AsRef<Path>,
        users: &[(&str, &str)],
        certificate: Option<&Path>,
    ) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir.as_ref()).context("find", data_dir.as_ref())?;
        make_folders(&data_dir)?;
        let lock = DataDirLock::take(&data_dir)?;
        let parts = fetch(&default_cache_dir(), &Silent).await?;
        if let Some(record) = Record::left_over(&data_dir, Service::Kafka)? {
            Process::found(record.identity).end(Kafka::STOP, Kafka::STOP_DEADLINE).await;
        }
        let mut memory = Memory::load(&data_dir)?;
        let port = memory.choose_port("kafka", Service::Kafka)?;
        let controller_port = memory.choose_port("kafka-controller", Service::Kafka)?;
        let login_port = memory.choose_port("kafka-login", Service::Kafka)?;
        let cluster_id = memory.kafka_cluster_id.get_or_insert_with(new_cluster_id).clone();
        memory.save(&data_dir)?;
        let users = users.iter().map(|&(name, password)| (name.to_owned(), password.to_owned())).collect();
        let part = Kafka {
            lib: parts.kafka_lib(),
            home: data_dir.join(Service::Kafka.key()),
            cluster_id,
            port,
            controller_port,
            logins: Some(Logins { port: login_port, users, certificate: certificate.map(Path::to_owned) }),
        };
        let mut lone = Self { server: Server::new(part, &data_dir, port), login_port, data_dir, _lock: lock };
        lone.server.start().await?;
        Ok(lone)
    }

    /// Where the administrator comes in: no login, every right.
    pub fn admin_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// Where users log in, by `sasl_plaintext`, or `sasl_ssl` if it has a certificate.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.login_port)
    }

    /// Runs one of Kafka's own tools by the name of its class, as the administrator.
    pub async fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.server.part().tool(class);
        command.args(["--bootstrap-server", &self.admin_brokers()]).args(arguments);
        run_tool("Kafka's tool", command).await
    }

    /// Its log.
    pub fn log_path(&self) -> PathBuf {
        self.server.log()
    }
}

impl Drop for LoneKafka {
    fn drop(&mut self) {
        self.server.kill_and_forget(DROP_PATIENCE);
    }
}
