//! A program under measurement, as a process with a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime::Config;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Lines of its log that an error shows.
const LINES: usize = 20;

/// The process. Dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Program {
    /// Starts what `command` makes of the program's folder.
    pub(crate) fn start(command: impl FnOnce(&Path) -> Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = command(folder.path());
        let log = folder.path().join("log");
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let child =
            command.spawn().with_context(|| format!("starting {}", command.as_std().get_program().display()))?;
        Ok(Self { child, log, _folder: folder })
    }

    /// Starts this program's own roles, as in service: with these settings and nothing else of the surrounding configuration.
    pub(crate) fn roles(roles: &[&str], config: &Config, settings: &[(&str, &str)]) -> Result<Self> {
        let arguments: Vec<&str> = std::iter::once("run").chain(roles.iter().copied()).collect();
        Self::ours(&arguments, config, settings)
    }

    /// The same with any arguments.
    pub(crate) fn ours(arguments: &[&str], config: &Config, settings: &[(&str, &str)]) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        Self::start(|folder| {
            let mut command = Command::new(program);
            command.current_dir(folder).args(arguments);
            let shared = [
                ("DEVELOPMENT", "true"),
                ("NAMES__PREFIX", config.names.prefix.as_str()),
                ("POSTGRES__TRUTH_URL", config.postgres.truth_url.expose()),
                ("POSTGRES__READ_URL", config.postgres.read_url.expose()),
                ("POSTGRES__REPLICATION_URL", config.postgres.replication_url.expose()),
                ("KAFKA__BROKERS", &config.kafka.brokers),
                ("KAFKA__PARTITIONS", &config.kafka.partitions.to_string()),
                ("REGISTRY__URL", config.registry.url.expose()),
                ("OPS__LISTEN", ""),
                ("LOG__FILTER", "warn"),
            ];
            for (name, value) in shared.iter().chain(settings) {
                command.env(format!("WALTALKIE_{name}"), value);
            }
            command
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The most memory that it has held.
    pub(crate) fn peak_rss_bytes(&self) -> u64 {
        self.pid().map_or(0, |pid| status_bytes(pid, "VmHWM:"))
    }

    /// The memory that it holds now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.pid().map_or(0, rss_bytes)
    }

    /// The rest of the first line of its log that begins so.
    pub(crate) fn line_after(&self, start: &str) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        // A line that isn't whole yet may be a part of what it will be.
        log.split_inclusive('\n').find_map(|line| Some(line.strip_prefix(start)?.strip_suffix('\n')?.to_owned()))
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Fails with what it said if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended ({status}): {}", self.said()),
            None => Ok(()),
        }
    }

    /// With what it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Tells it to end (SIGTERM) and waits; whatever it ends with, and what it said.
    pub(crate) async fn stop(mut self, patience: Duration) -> Result<(ExitStatus, String)> {
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        let status = ended.with_context(|| format!("it doesn't end when told to: {}", self.said()))??;
        Ok((status, self.said()))
    }

    /// The end of its log.
    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Resident memory of a process.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// A size in `/proc/…/status`; 0 where there is none.
fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}
