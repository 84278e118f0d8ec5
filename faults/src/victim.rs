//! A process that reports the points of its work, one JSON object a line, and is killed and stopped there.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How often a report is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long a process may take over what a signal told it.
const OBEYS: Duration = Duration::from_secs(10);

/// A running process. Dropped, it is killed.
pub struct Victim {
    child: Child,
    orders: ChildStdin,
    reports: Arc<Mutex<Vec<Value>>>,
    log: PathBuf,
}

impl Victim {
    /// Starts a command; what it writes beside reports goes to a file.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let orders = child.stdin.take().context("no way to give orders")?;
        let output = child.stdout.take().context("no reports")?;
        let reports = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reports);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let report = serde_json::from_str(&line).unwrap_or(Value::String(line));
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            }
        });
        Ok(Self { child, orders, reports, log: log.to_owned() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has reported so far.
    pub fn reports(&self) -> Vec<Value> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a report, also one that was made before.
    pub async fn report(&self, what: &str, limit: Duration, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = self.reports().into_iter().find(|report| is_it(report)) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!(
                    "process {} reported no {what} in {limit:?}: {:?}\n{}",
                    self.id(),
                    self.reports(),
                    self.log_end()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.orders, "{line}").with_context(|| format!("telling process {} to {line}", self.id()))
    }

    /// Whether it still runs, or is stopped.
    pub fn is_there(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// SIGKILL, and its end, which must be of that.
    pub async fn kill(&mut self) -> Result<()> {
        ensure!(self.is_there()?, "process {} has ended already\n{}", self.id(), self.log_end());
        self.signal(Signal::KILL)?;
        self.was_killed().await
    }

    /// Waits until it is dead, of SIGKILL and nothing else.
    pub async fn was_killed(&mut self) -> Result<()> {
        let status = self.ended().await?;
        ensure!(status.signal() == Some(9), "process {} was not killed: {status}\n{}", self.id(), self.log_end());
        Ok(())
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + OBEYS * 3;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "process {} doesn't end\n{}", self.id(), self.log_end());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGSTOP; returns when the whole process stands.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + OBEYS;
        while !self.all_threads_stand()? {
            ensure!(Instant::now() < deadline, "process {} doesn't stop", self.id());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.id() as i32).context("no process has id 0")?;
        Ok(kill_process(pid, signal)?)
    }

    fn all_threads_stand(&self) -> Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let status = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            if !status.lines().any(|line| line.starts_with("State:") && line.contains("T (")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The most memory it ever had resident, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
        Ok(kib * 1_024)
    }

    /// The last lines of what it wrote beside reports.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Gone already, or now; also one that is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
