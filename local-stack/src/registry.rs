//! Apicurio Registry, used through Confluent's REST API.
//!
//! Its schemas live in a database of the stack's `PostgreSQL`, whose commits survive any kill: ids in Kafka's records
//! point at them for good. Only where `PostgreSQL` is somebody else's they live in a file of the registry's own.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::IoContext;
use crate::fetch::only_file;
use crate::prerequisites::java;
use crate::readiness::{self, NotYet};
use crate::server::Part;
use crate::service::Service;

/// Where Confluent's API begins.
pub(crate) const API: &str = "/apis/ccompat/v7";
/// The registry's database in the stack's `PostgreSQL`.
pub(crate) const DATABASE: &str = "registry";

#[derive(Debug)]
pub(crate) struct Registry {
    /// The folder of the runner jar.
    pub(crate) lib: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) port: u16,
    pub(crate) storage: Storage,
}

/// Where the schemas are.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Postgres { port: u16, user: &'static str, password: String },
    File,
}

impl Part for Registry {
    const SERVICE: Service = Service::Registry;
    const START_DEADLINE: Duration = Duration::from_mins(2);
    const STOP_DEADLINE: Duration = Duration::from_secs(15);

    async fn prepare(&self) -> crate::Result<()> {
        // Its temporary files would pile up in the system's folder each time it is killed.
        let temporary = self.home.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).context("remove", &temporary)?;
        }
        fs::create_dir_all(&temporary).context("create", &temporary)
    }

    fn command(&self) -> crate::Result<Command> {
        let jar = only_file(&self.lib, |name| name.ends_with("-runner.jar"))?;
        let mut temporary = std::ffi::OsString::from("-Djava.io.tmpdir=");
        temporary.push(self.home.join("tmp"));
        let mut command = Command::new(java());
        // Small and quick to start rather than fast: it is asked a few times at a start.
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .arg(temporary)
            .arg("-jar")
            .arg(jar);
        // The caller's own settings for such programs are not meant for this one.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("QUARKUS_") || name.starts_with("APICURIO_")) {
                command.env_remove(name);
            }
        }
        command
            .env("QUARKUS_HTTP_HOST", "127.0.0.1")
            .env("QUARKUS_HTTP_PORT", self.port.to_string())
            .env("APICURIO_STORAGE_KIND", "sql")
            .env("QUARKUS_HTTP_ACCESS_LOG_ENABLED", "false")
            // One connection instead of up to 100: the pool checks none before use, so each that broke (because
            // PostgreSQL was restarted) fails one request.
            .env("APICURIO_DATASOURCE_JDBC_INITIAL_SIZE", "1")
            .env("APICURIO_DATASOURCE_JDBC_MIN_SIZE", "1")
            .env("APICURIO_DATASOURCE_JDBC_MAX_SIZE", "1");
        match &self.storage {
            Storage::Postgres { port, user, password } => command
                .env("APICURIO_STORAGE_SQL_KIND", "postgresql")
                .env("APICURIO_DATASOURCE_URL", format!("jdbc:postgresql://127.0.0.1:{port}/{DATABASE}"))
                .env("APICURIO_DATASOURCE_USERNAME", user)
                .env("APICURIO_DATASOURCE_PASSWORD", password),
            // Without a delay a commit is in the file when it is answered.
            Storage::File => command.env("APICURIO_STORAGE_SQL_KIND", "h2").env(
                "APICURIO_DATASOURCE_URL",
                format!("jdbc:h2:file:{};WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE", self.home.join("schemas").display()),
            ),
        };
        command.current_dir(&self.home);
        Ok(command)
    }

    async fn probe(&self) -> Result<(), NotYet> {
        readiness::http(self.port, &format!("{API}/subjects")).await
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn url(storage: Storage) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x-runner.jar"), "").unwrap();
        let registry =
            Registry { lib: dir.path().to_owned(), home: PathBuf::from("/data/registry"), port: 8081, storage };
        let command = registry.command().unwrap();
        let url = command.get_envs().find(|(name, _)| *name == OsStr::new("APICURIO_DATASOURCE_URL"));
        url.unwrap().1.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn schemas_are_where_they_were_decided_to_be() {
        let postgres = Storage::Postgres { port: 5433, user: "u", password: "p".to_owned() };
        assert_eq!(url(postgres), "jdbc:postgresql://127.0.0.1:5433/registry");
        assert!(url(Storage::File).starts_with("jdbc:h2:file:/data/registry/schemas;WRITE_DELAY=0"));
    }
}
