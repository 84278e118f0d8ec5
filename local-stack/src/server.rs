//! One server from nothing to ready and back: the same way for all four.
//!
//! *Progress*: the record of a process is written right after it is started and removed after it has ended; between
//! the two, whoever comes after a killed holder finds it. (Killed in the instant between start and record, it leaves a
//! server that the next start cannot know: the lock files of `PostgreSQL` and Kafka then keep a second one from the data,
//! and the error shows that.) *Failure*: a process that ends, or does not answer in time,
//! is an error with the end of its log; it stays in our hands, so that stopping the stack ends it too.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::command::{detach, tail};
use crate::error::Error;
use crate::holder;
use crate::process::Process;
use crate::progress::Arrival;
use crate::readiness::NotYet;
use crate::record::Record;
use crate::service::Service;

/// Between two questions to a server that is not ready.
const PAUSE: Duration = Duration::from_millis(25);
/// One question may take this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a server is started again that ends at once because of something that passes by itself.
const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// How long a recovery may take until its server is started without it.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// A process that has to do its work on the data of a killed server before that starts again.
pub(crate) struct Recovery {
    pub(crate) command: Command,
    /// Whether its log says that it has done it; it is stopped then.
    pub(crate) is_done: fn(&str) -> bool,
}

/// What differs between the servers.
pub(crate) trait Part {
    const SERVICE: Service;
    /// Asks the server to end in an orderly way.
    const STOP: Signal = Signal::TERM;
    /// How long starting may take on a slow machine, after a crash.
    const START_DEADLINE: Duration;
    /// How long ending may take before it is killed.
    const STOP_DEADLINE: Duration;

    /// Makes folders and configuration. Called before each start; what exists stays.
    async fn prepare(&self) -> crate::Result<()>;
    /// What has to be done first if the server was killed.
    fn recovery(&self) -> crate::Result<Option<Recovery>> {
        Ok(None)
    }
    /// The server's command line and environment.
    fn command(&self) -> crate::Result<Command>;
    /// What the command line does not show of the configuration.
    fn configuration(&self) -> String {
        String::new()
    }
    /// Asks the server whether it is ready for work.
    async fn probe(&self) -> Result<(), NotYet>;
    /// What has to exist inside before others use it.
    async fn furnish(&self) -> crate::Result<()> {
        Ok(())
    }
    /// True if the log of a server that ended at once says that its predecessor is not quite gone.
    fn should_try_again(&self, log: &str) -> bool {
        let _ = log;
        false
    }
}

/// One server and its process, if it has one.
#[derive(Debug)]
pub(crate) struct Server<P> {
    part: P,
    data_dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl<P: Part> Server<P> {
    pub(crate) fn new(part: P, data_dir: &Path, port: u16) -> Self {
        Self { part, data_dir: data_dir.to_owned(), port, process: None }
    }

    pub(crate) fn part(&self) -> &P {
        &self.part
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    pub(crate) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Takes over what was left over if it is what we would start and answers; else ends it and starts anew.
    pub(crate) async fn bring_up(&mut self, left_over: Option<Record>) -> crate::Result<Arrival> {
        if let Some(record) = left_over {
            if self.is_as_wanted(&record).await? {
                self.process = Some(Process::found(record.identity));
                self.part.furnish().await?;
                return Ok(Arrival::TakenOver);
            }
            Process::found(record.identity).end(P::STOP, P::STOP_DEADLINE).await;
        }
        self.start().await?;
        Ok(Arrival::Started)
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn start(&mut self) -> crate::Result<()> {
        self.part.prepare().await?;
        if let Some(recovery) = self.part.recovery()? {
            self.recover(recovery).await?;
        }
        let began = Instant::now();
        self.spawn(self.part.command()?, &self.log())?;
        loop {
            match self.until_ready().await {
                Ok(()) => break,
                Err(Error::Exited { tail, .. })
                    if began.elapsed() < RETRY_WINDOW
                        && (is_port_taken(&tail) || self.part.should_try_again(&tail)) =>
                {
                    tokio::time::sleep(PAUSE).await;
                    self.spawn(self.part.command()?, &self.log())?;
                }
                Err(error) => return Err(error),
            }
        }
        self.part.furnish().await
    }

    /// Runs a recovery until it is done. One that fails is left: the server says what is wrong, if anything is.
    async fn recover(&mut self, recovery: Recovery) -> crate::Result<()> {
        let log = self.log().with_extension("recovery.log");
        self.spawn(recovery.command, &log)?;
        let began = Instant::now();
        loop {
            if fs::read_to_string(&log).is_ok_and(|said| (recovery.is_done)(&said)) {
                break;
            }
            if !self.is_up() || began.elapsed() > RECOVERY_DEADLINE {
                tracing::warn!(service = %P::SERVICE, log = %log.display(), "not recovered; starting as it is");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(process) = self.process.as_mut() {
            process.end(P::STOP, P::STOP_DEADLINE).await;
        }
        Ok(())
    }

    fn spawn(&mut self, mut command: Command, log: &Path) -> crate::Result<()> {
        detach(&mut command, log)?;
        let child = command
            .spawn()
            .map_err(|source| Error::Spawn { program: command.get_program().to_string_lossy().into_owned(), source })?;
        let process = Process::spawned(child).ok_or_else(|| self.exited("ended at once"))?;
        let record = Record { identity: process.identity().clone(), port: self.port, fingerprint: self.fingerprint()? };
        // Held before it is written down, so that it is ended should writing fail.
        self.process = Some(process);
        record.write(&self.data_dir, P::SERVICE)
    }

    /// Waits until the running process answers.
    pub(crate) async fn until_ready(&mut self) -> crate::Result<()> {
        let began = Instant::now();
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.part.probe()).await;
            // Asked of the process even after a good answer: a stranger may be the one who answers.
            self.check()?;
            let last = match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(not_yet)) => not_yet,
                Err(_) => "no answer".to_owned(),
            };
            if began.elapsed() > P::START_DEADLINE {
                let log = self.log();
                return Err(Error::NotReady {
                    service: P::SERVICE,
                    waited: P::START_DEADLINE,
                    last,
                    tail: tail(&log),
                    log,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An error if the process has ended by itself.
    pub(crate) fn check(&mut self) -> crate::Result<()> {
        match self.process.as_mut().and_then(Process::ended).map(str::to_owned) {
            Some(status) => Err(self.exited(&status)),
            None => Ok(()),
        }
    }

    /// Ends the process in an orderly way, then forgets it. True if there was one.
    pub(crate) async fn stop(&mut self) -> crate::Result<bool> {
        let Some(process) = self.process.as_mut() else { return Ok(false) };
        process.end(P::STOP, P::STOP_DEADLINE).await;
        self.process = None;
        Record::forget(&self.data_dir, P::SERVICE)?;
        Ok(true)
    }

    /// SIGKILL to the process, for when nothing can be awaited any more; gives up waiting for its end after a while.
    #[expect(clippy::disallowed_methods, reason = "nothing can be awaited here, and the wait is short and bounded")]
    pub(crate) fn kill_and_forget(&mut self, patience: Duration) {
        let Some(mut process) = self.process.take() else { return };
        process.kill_now();
        let deadline = Instant::now() + patience;
        while process.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if process.ended().is_some()
            && let Err(error) = Record::forget(&self.data_dir, P::SERVICE)
        {
            tracing::debug!(error = %error, "a record stays; the next start finds that its process is gone");
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        log_path(&self.data_dir, P::SERVICE)
    }

    async fn is_as_wanted(&self, record: &Record) -> crate::Result<bool> {
        if record.port != self.port || record.fingerprint != self.fingerprint()? {
            return Ok(false);
        }
        // If somebody else has the port, his answer says nothing about ours.
        if holder::of_port(self.port).is_some_and(|holder| holder.pid != record.identity.pid) {
            return Ok(false);
        }
        Ok(matches!(tokio::time::timeout(PATIENCE, self.part.probe()).await, Ok(Ok(()))))
    }

    fn fingerprint(&self) -> crate::Result<String> {
        let command = self.part.command()?;
        let hash =
            Sha256::new().chain_update(format!("{command:?}")).chain_update(self.part.configuration()).finalize();
        Ok(hash.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    fn exited(&self, status: &str) -> Error {
        let log = self.log();
        Error::Exited { service: P::SERVICE, status: status.to_owned(), tail: tail(&log), log }
    }
}

/// The port was free when it was chosen. Something that lasts a moment may have it: a process just forked by this one,
/// a connection under way.
fn is_port_taken(log: &str) -> bool {
    ["ddress already in use", "ddress in use"].iter().any(|words| log.contains(words))
}

/// Where a server's log is.
pub(crate) fn log_path(data_dir: &Path, service: Service) -> PathBuf {
    data_dir.join("logs").join(format!("{}.log", service.key()))
}
