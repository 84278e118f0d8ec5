//! What can go wrong, in words that say how to mend it.

use std::path::PathBuf;
use std::time::Duration;

use crate::holder::Holder;
use crate::service::Service;

/// Every error is definite: the caller shows it and stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be made, read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be run at all.
    #[error("cannot run {program}")]
    Spawn {
        /// The program's name or path.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A configured port is taken.
    #[error("{service} is configured for port {port}, which is in use by {}", described(holder.as_ref()))]
    PortInUse {
        /// Who wanted it.
        service: Service,
        /// The port.
        port: u16,
        /// Who has it, if the system tells.
        holder: Option<Holder>,
    },
    /// No free port was found.
    #[error("no free port found for {service}")]
    NoPort {
        /// Who wanted one.
        service: Service,
    },
    /// Another process runs this data directory's stack.
    #[error("the stack in {} is already running, held by {}", data_dir.display(), pid.map_or("a process it does not name".to_owned(), |pid| format!("process {pid}")))]
    AlreadyRunning {
        /// The data directory.
        data_dir: PathBuf,
        /// The holder, as it wrote itself down.
        pid: Option<u32>,
    },
    /// A server ended before or while it was needed.
    #[error("{service} ended ({status}); the end of its log {}:\n{tail}", log.display())]
    Exited {
        /// Which.
        service: Service,
        /// Its exit status or signal, if known.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A server runs but does not answer.
    #[error("{service} did not answer within {} s ({last}); the end of its log {}:\n{tail}", waited.as_secs(), log.display())]
    NotReady {
        /// Which.
        service: Service,
        /// How long it was given.
        waited: Duration,
        /// What the last question was answered.
        last: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A one-off tool (initdb, Kafka's format) failed.
    #[error("{tool} failed ({status}):\n{output}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// Exit status or signal.
        status: String,
        /// The last lines it said.
        output: String,
    },
    /// Maven did not bring the servers.
    #[error("Maven could not fetch the servers ({status}); run again to go on where it stopped. It said:\n{output}")]
    Maven {
        /// Exit status or signal.
        status: String,
        /// Its error lines.
        output: String,
    },
    /// What Maven brought is not what was expected.
    #[error("the fetched servers are not as expected: {0}")]
    Parts(String),
    /// A program that is needed is missing.
    #[error("{0}")]
    Missing(String),
    /// There are no binaries for this machine.
    #[error(
        "there is no local stack for {os} on {arch}: use Linux or macOS on x86-64 or arm64, or name external servers"
    )]
    Platform {
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
    },
    /// `PostgreSQL` runs as another user, who cannot get into a folder.
    #[error("PostgreSQL does not run as root but as {user}, who cannot enter {}: {mend}", folder.display())]
    Unreachable {
        /// The user.
        user: String,
        /// The first folder that bars the way.
        folder: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// The user that `PostgreSQL` should run as does not exist.
    #[error("there is no user {0} for PostgreSQL to run as")]
    NoSuchUser(String),
    /// A file that remembers something is not readable as such.
    #[error("{} is damaged: move it away to start afresh", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The registry's schemas are in the `PostgreSQL` that is no longer wanted.
    #[error(
        "the registry of {} keeps its schemas in the stack's own PostgreSQL, which is now configured as external: name an external registry too, or use another data directory",
        data_dir.display()
    )]
    RegistryStorage {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A question to the running `PostgreSQL` failed.
    #[error("PostgreSQL refused to {action}")]
    Postgres {
        /// What was asked.
        action: &'static str,
        /// Why not.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The service is external: this stack has no hand on it.
    #[error("{0} is external to this stack")]
    External(Service),
}

fn described(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "a process that cannot be identified".to_owned(), ToString::to_string)
}

/// Adds action and path to an I/O error.
pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: &std::path::Path) -> crate::Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn context(self, action: &'static str, path: &std::path::Path) -> crate::Result<T> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
