//! A single `PostgreSQL` beside the stack, of any version that the pipeline runs on: for tests and benches that need
//! another version, other settings, or a server of their own to stop and kill.
//!
//! It is durable and ready for logical decoding like the stack's own, and has a data directory of its own, which one
//! holder has at a time. A version is fetched when it is first wanted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::error::{Error, IoContext};
use crate::fetch::fetch_postgres;
use crate::lock::DataDirLock;
use crate::memory::Memory;
use crate::options::{Options, default_cache_dir};
use crate::os_user::OsUser;
use crate::plan::{make_folders, open_cache, open_way};
use crate::postgres::{self, Postgres};
use crate::process::Process;
use crate::progress::Silent;
use crate::record::Record;
use crate::server::{Part, Server};
use crate::service::Service;

/// How long a dropped server's processes may take to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// A major version of `PostgreSQL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostgresVersion {
    /// 15, the oldest that the pipeline runs on.
    V15,
    /// 16.
    V16,
    /// 17, the first whose slots can be kept on a standby.
    V17,
    /// 18, the stack's own.
    V18,
}

impl PostgresVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V15, Self::V16, Self::V17, Self::V18];

    /// Its number.
    pub fn major(self) -> u32 {
        match self {
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// The artifact's version.
    pub(crate) fn artifact(self) -> &'static str {
        match self {
            Self::V15 => "15.15.0",
            Self::V16 => "16.11.0",
            Self::V17 => "17.7.0",
            Self::V18 => "18.1.0",
        }
    }
}

/// A running server, or one that was stopped and can be started again.
///
/// Dropped, it is killed: its data survives.
pub struct LonePostgres {
    server: Server<Postgres>,
    data_dir: PathBuf,
    /// Let go of last.
    _lock: DataDirLock,
}

impl std::fmt::Debug for LonePostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server holds a password.
        f.debug_struct("LonePostgres").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl LonePostgres {
    /// Fetches the version if need be, makes a cluster in the folder unless it has one, starts it on a port that it
    /// keeps from one start to the next, and returns when it answers.
    ///
    /// Settings go before the usual ones. As root the server runs as `nobody`, who must be able to enter the folder's
    /// parents; the folder itself is opened.
    pub async fn start(
        version: PostgresVersion,
        data_dir: impl AsRef<Path>,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir.as_ref()).context("find", data_dir.as_ref())?;
        let cache_dir = default_cache_dir();
        make_folders(&data_dir)?;
        let lock = DataDirLock::take(&data_dir)?;
        let parts = fetch_postgres(version, &cache_dir, &Silent).await?;
        let os_user = OsUser::needed(&Options::new(&data_dir).postgres_os_user)?;
        if let Some(user) = &os_user {
            open_cache(user, &parts, &cache_dir)?;
            if let Some(folder) = open_way(user, &data_dir, &data_dir)? {
                let mend = "choose a data directory that everybody may enter";
                return Err(Error::Unreachable { user: user.name.clone(), folder, mend });
            }
        }
        if let Some(record) = Record::left_over(&data_dir, Service::Postgres)? {
            Process::found(record.identity).end(Postgres::STOP, Postgres::STOP_DEADLINE).await;
        }
        let mut memory = Memory::load(&data_dir)?;
        let port = memory.choose_port(Service::Postgres.key(), Service::Postgres)?;
        memory.save(&data_dir)?;
        let part = Postgres {
            binaries: parts.postgres(),
            home: data_dir.join(Service::Postgres.key()),
            port,
            password: postgres::password(&data_dir)?,
            os_user,
            database: None,
            settings: settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let mut lone = Self { server: Server::new(part, &data_dir, port), data_dir, _lock: lock };
        lone.server.start().await?;
        Ok(lone)
    }

    /// The URL of one of its databases, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        let password = &self.server.part().password;
        format!("postgres://{}:{password}@127.0.0.1:{}/{database}", postgres::USER, self.port())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The folder all of it lives in.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The cluster itself (`PGDATA`), with `pg_hba.conf` and the like.
    pub fn cluster_dir(&self) -> PathBuf {
        self.server.part().data()
    }

    /// The folder of the server's programs (`postgres`, `pg_ctl`).
    pub fn bin_dir(&self) -> PathBuf {
        self.server.part().binaries.join("bin")
    }

    /// Its log.
    pub fn log_path(&self) -> PathBuf {
        self.server.log()
    }

    /// A fast shutdown: clients are cut off, everything is written.
    pub async fn stop(&mut self) -> Result<()> {
        self.server.stop().await.map(drop)
    }

    /// SIGKILL to it and its processes; returns when they are gone.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.server.process() {
            process.kill().await;
        }
        Ok(())
    }

    /// Starts it on its port and data, and returns when it answers. Does nothing if it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.server.is_up() { Ok(()) } else { self.server.start().await }
    }
}

impl Drop for LonePostgres {
    fn drop(&mut self) {
        self.server.kill_and_forget(DROP_PATIENCE);
    }
}
