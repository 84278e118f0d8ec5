//! A process with roles: started, watched until ready, killed, frozen, and never left behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::wait::{LONG, until};

/// How long a role may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// `waltalkie run …` as a process.
pub struct RoleProcess {
    child: Child,
    roles: String,
    log: PathBuf,
    /// Where the gateway listens, if it is one of the roles.
    pub gateway_url: Option<String>,
    /// Where operators ask.
    pub ops_url: String,
}

impl RoleProcess {
    /// Starts it; returns when it listens.
    pub(super) fn start(mut command: Command, roles: &str, log: &Path, is_gateway: bool) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file.try_clone()?);
        let mut child = command.spawn().context("starting waltalkie")?;
        let lines = lines_of(&mut child, file)?;
        let mut process =
            Self { child, roles: roles.to_owned(), log: log.to_owned(), gateway_url: None, ops_url: String::new() };
        while process.ops_url.is_empty() || (is_gateway && process.gateway_url.is_none()) {
            let Ok(line) = lines.recv_timeout(LONG) else {
                bail!("{roles} didn't start:\n{}", process.log_end());
            };
            match line.split_once(" listening on ") {
                Some(("gateway", url)) => process.gateway_url = Some(url.to_owned()),
                Some(("ops", url)) => url.clone_into(&mut process.ops_url),
                _ => {}
            }
        }
        Ok(process)
    }

    /// Where the gateway listens.
    pub fn gateway(&self) -> Result<&str> {
        self.gateway_url.as_deref().with_context(|| format!("{} has no gateway", self.roles))
    }

    /// Waits until every role does its work.
    pub async fn ready(&self) -> Result<()> {
        let http = reqwest::Client::new();
        let what = format!("{} to be ready", self.roles);
        let ready = until(&what, LONG, async || {
            let answer = http.get(format!("{}/readyz", self.ops_url)).send().await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(Some(()));
            }
            bail!("{status}: {}", answer.text().await?)
        });
        ready.await.with_context(|| format!("log {}:\n{}", self.log.display(), self.log_end()))
    }

    /// Whether every role does its work just now.
    pub async fn is_ready(&self) -> bool {
        self.ask("/readyz").await.is_some_and(|status| status.is_success())
    }

    /// Whether it answers anything at all.
    pub async fn answers(&self) -> bool {
        self.ask("/healthz").await.is_some()
    }

    async fn ask(&self, path: &str) -> Option<reqwest::StatusCode> {
        let asked = reqwest::Client::new().get(format!("{}{path}", self.ops_url)).timeout(ANSWER).send().await;
        asked.ok().map(|answer| answer.status())
    }

    /// The value of a metric, summed over its labels; 0 if there is none yet.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = reqwest::get(format!("{}/metrics", self.ops_url)).await?.text().await?;
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// Sends a signal.
    pub fn signal(&self, wanted: Signal) -> Result<()> {
        signal(self.child.id(), wanted)
    }

    /// SIGKILL; returns when the process is gone, with the proof that it was killed.
    pub fn kill(&mut self) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended before it was to be killed: {status}\n{}", self.roles, self.log_end());
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.signal() == Some(9), "{} was not killed: {status}", self.roles);
        Ok(())
    }

    /// SIGTERM, as an operator stops it.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let child = &mut self.child;
        until("the process to end", LONG, async || Ok(child.try_wait()?)).await
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        // Gone already, or now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, wanted: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has id 0")?;
    Ok(kill_process(pid, wanted)?)
}

/// Lines of the process' output, which also go to its log.
fn lines_of(child: &mut Child, mut log: File) -> Result<Receiver<String>> {
    let output = child.stdout.take().context("no output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
            // Nobody listens any more once it has started; the pipe must be drained all the same.
            let _ = sender.send(line);
        }
    });
    Ok(lines)
}
