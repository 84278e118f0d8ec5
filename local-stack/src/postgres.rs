//! PostgreSQL: durable (fsync and synchronous commit on) and ready for logical decoding.
//!
//! The superuser's password is made once and kept in the data directory, readable by its owner only. As root the
//! server runs as another user (it refuses root), who owns its folder.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::Rng;
use rustix::process::Signal;
use tokio_postgres::{Config, NoTls};

use crate::command::run_tool;
use crate::error::{Error, IoContext};
use crate::os_user::OsUser;
use crate::readiness::{self, NotYet};
use crate::server::Part;
use crate::service::Service;

/// The superuser.
pub(crate) const USER: &str = "waltalkie";

/// What the pipeline needs, and what a machine that also runs everything else can give.
const SETTINGS: [(&str, &str); 14] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_connections", "300"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_compression", "on"),
    ("shared_buffers", "256MB"),
    // A transaction of a million messages is decoded without being spilled to disk and read again.
    ("logical_decoding_work_mem", "1GB"),
    ("max_wal_size", "2GB"),
    ("log_line_prefix", "%m [%p] %q%u@%d/%a "),
    ("logging_collector", "off"),
];

#[derive(Debug)]
pub(crate) struct Postgres {
    /// The folder of `bin`, `lib` and `share`.
    pub(crate) binaries: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) port: u16,
    pub(crate) password: String,
    pub(crate) os_user: Option<OsUser>,
    /// A database to make at the first start.
    pub(crate) database: Option<&'static str>,
    /// Settings beyond the usual ones, or instead of them.
    pub(crate) settings: Vec<(String, String)>,
}

impl Postgres {
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join("bin").join(name));
        // On macOS the server refuses to start in a locale of the system's choice.
        command.env("LC_ALL", "C").current_dir(&self.home);
        if let Some(user) = &self.os_user {
            user.take_on(&mut command);
        }
        command
    }

    fn client(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(USER)
            .password(&self.password)
            .dbname(database)
            .application_name("waltalkie-local-stack");
        config
    }

    /// Makes a folder of the server's user.
    fn make_own(&self, folder: &Path, mode: u32) -> crate::Result<()> {
        fs::create_dir_all(folder).context("create", folder)?;
        fs::set_permissions(folder, Permissions::from_mode(mode)).context("change the mode of", folder)?;
        self.os_user.as_ref().map_or(Ok(()), |user| user.own(folder))
    }

    /// Makes the cluster under another name first: an interrupted initdb is thrown away.
    async fn init(&self) -> crate::Result<()> {
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).context("remove", &new)?;
        }
        self.make_own(&new, 0o700)?;
        let password_file = self.home.join("password");
        write_secret(&password_file, &self.password)?;
        if let Some(user) = &self.os_user {
            user.own(&password_file)?;
        }
        let mut initdb = self.program("initdb");
        initdb
            .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"])
            .arg("--no-instructions")
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&new);
        let result = run_tool("initdb", initdb).await;
        fs::remove_file(&password_file).context("remove", &password_file)?;
        result?;
        fs::rename(&new, self.data()).context("rename", &new)
    }
}

/// The folder of a server's Unix socket, which costs half of what TCP does where messages are small: its home, which nobody
/// else may enter, if the system and the setting, a list, take its name.
pub(crate) fn socket_folder(home: &Path) -> Option<&str> {
    /// What is left of the least that systems allow, 104 with the final zero, for `/.s.PGSQL.65535`.
    const MOST_BYTES: usize = 104 - 1 - 15;
    let is_plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    home.to_str().filter(|text| text.starts_with('/') && text.len() <= MOST_BYTES).filter(is_plain)
}

impl Part for Postgres {
    const SERVICE: Service = Service::Postgres;
    /// A fast shutdown: clients are cut off, everything is written.
    const STOP: Signal = Signal::INT;
    /// After a crash, WAL is replayed first.
    const START_DEADLINE: Duration = Duration::from_mins(2);
    const STOP_DEADLINE: Duration = Duration::from_secs(20);

    async fn prepare(&self) -> crate::Result<()> {
        self.make_own(&self.home, 0o700)?;
        if self.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        self.init().await
    }

    fn command(&self) -> crate::Result<Command> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-c", &format!("port={}", self.port)]);
        let sockets = socket_folder(&self.home).unwrap_or_default();
        command.args(["-c", &format!("unix_socket_directories={sockets}")]);
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // The last one counts.
        for (name, value) in SETTINGS.into_iter().chain(own) {
            command.args(["-c", &format!("{name}={value}")]);
        }
        Ok(command)
    }

    async fn probe(&self) -> Result<(), NotYet> {
        readiness::postgres(&self.client("postgres")).await
    }

    async fn furnish(&self) -> crate::Result<()> {
        let Some(database) = self.database else { return Ok(()) };
        let action = "make the registry's database";
        let (client, connection) =
            self.client("postgres").connect(NoTls).await.map_err(|source| Error::Postgres { action, source })?;
        let make = async {
            let client = client;
            let found = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database]).await?;
            if found.is_none() {
                client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
            }
            Ok(())
        };
        let (made, _) = tokio::join!(make, connection);
        made.map_err(|source| Error::Postgres { action, source })
    }

    fn should_try_again(&self, log: &str) -> bool {
        // Children of a killed server take a moment to notice.
        log.contains("pre-existing shared memory block") || log.contains("lock file \"postmaster.pid\" already exists")
    }
}

/// The superuser's password of a data directory, made at the first start.
pub(crate) fn password(data_dir: &Path) -> crate::Result<String> {
    let path = data_dir.join("postgres.password");
    if path.exists() {
        return Ok(fs::read_to_string(&path).context("read", &path)?.trim().to_owned());
    }
    // Letters and digits need no escaping in a URL.
    let password: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect();
    let new = path.with_extension("new");
    write_secret(&new, &password)?;
    fs::rename(&new, &path).context("rename", &new)?;
    Ok(password)
}

fn write_secret(path: &Path, secret: &str) -> crate::Result<()> {
    if path.exists() {
        fs::remove_file(path).context("remove", path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context("create", path)?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).context("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_is_its_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = password(dir.path()).unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(password(dir.path()).unwrap(), first);
        let mode = fs::metadata(dir.path().join("postgres.password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_server_is_durable_and_decodes_and_listens_here_only() {
        let postgres = Postgres {
            binaries: PathBuf::from("/b"),
            home: PathBuf::from("/h"),
            port: 5433,
            password: String::new(),
            os_user: None,
            database: None,
            settings: vec![("max_connections".to_owned(), "7".to_owned())],
        };
        let command = format!("{:?}", postgres.command().unwrap());
        for setting in
            ["port=5433", "wal_level=logical", "fsync=on", "synchronous_commit=on", "listen_addresses=127.0.0.1"]
        {
            assert!(command.contains(setting), "{setting} not in {command}");
        }
        assert!(command.find("max_connections=300") < command.find("max_connections=7"), "{command}");
    }
}
