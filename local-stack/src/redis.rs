//! Redis: routes, sessions, presence and fan-out, none of which outlives it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::IoContext;
use crate::readiness::{self, NotYet};
use crate::server::Part;
use crate::service::Service;

#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) binary: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) port: u16,
}

impl Part for Redis {
    const SERVICE: Service = Service::Redis;
    const START_DEADLINE: Duration = Duration::from_secs(30);
    const STOP_DEADLINE: Duration = Duration::from_secs(10);

    async fn prepare(&self) -> crate::Result<()> {
        fs::create_dir_all(&self.home).context("create", &self.home)
    }

    fn command(&self) -> crate::Result<Command> {
        let mut command = Command::new(&self.binary);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no"])
            // A subscriber that cannot keep up is cut off and heals by resuming, rather than filling memory.
            .args(["--client-output-buffer-limit", "pubsub", "32mb", "8mb", "60"])
            .arg("--dir")
            .arg(&self.home)
            .current_dir(&self.home);
        Ok(command)
    }

    async fn probe(&self) -> Result<(), NotYet> {
        readiness::redis(self.port).await
    }
}
