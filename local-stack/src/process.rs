//! One server process: known by pid and start time, whether we started it or found it.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::process_table::{Seen, children, look};

/// How often an end is looked for. Polled, since a process that was taken over is nobody's child, and since a waiting
/// task would tie the stack to the one runtime that started it (tests share a stack among several).
const GLANCE: Duration = Duration::from_millis(20);

/// Names one process for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    pub(crate) started: String,
}

impl Identity {
    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        look(pid).map(Self::from)
    }

    /// True while that very process runs.
    pub(crate) fn alive(&self) -> bool {
        self.look().is_some_and(|seen| !seen.zombie())
    }

    fn look(&self) -> Option<Seen> {
        look(self.pid).filter(|seen| seen.started == self.started)
    }

    /// Sends a signal if that very process still runs.
    fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.alive(), i32::try_from(self.pid).ok().and_then(Pid::from_raw)) {
            // It may end between the look and the signal: nothing is lost then.
            if let Err(error) = kill_process(pid, signal) {
                tracing::debug!(pid = self.pid, %error, "signal not delivered");
            }
        }
    }
}

impl From<Seen> for Identity {
    fn from(seen: Seen) -> Self {
        Self { pid: seen.pid, started: seen.started }
    }
}

/// A server process and the processes it forked.
#[derive(Debug)]
pub(crate) struct Process {
    identity: Identity,
    /// Ours to reap; `None` if it was taken over.
    child: Option<Child>,
    status: Option<String>,
}

impl Process {
    /// A child just started. `None` if it is gone without a trace already.
    pub(crate) fn spawned(child: Child) -> Option<Self> {
        // An unreaped child keeps its entry even if it ended at once.
        let identity = Identity::of(child.id())?;
        Some(Self { identity, child: Some(child), status: None })
    }

    /// A process found running.
    pub(crate) fn found(identity: Identity) -> Self {
        Self { identity, child: None, status: None }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<&str> {
        if self.status.is_none() {
            self.status = match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => Some(status.to_string()),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some(error.to_string()),
                None => (!self.identity.alive()).then(|| "exit status unknown".to_owned()),
            };
        }
        self.status.as_deref()
    }

    /// Stops it and its children where they are, as if the machine froze; sockets stay open. Returns when all stand.
    pub(crate) async fn pause(&self) {
        // The parent first, so that it forks nobody while its children are being counted.
        stop_and_wait(&self.identity).await;
        for child in self.family() {
            stop_and_wait(&child).await;
        }
    }

    /// Undoes [`Process::pause`].
    pub(crate) fn resume(&self) {
        for child in self.family() {
            child.signal(Signal::CONT);
        }
        self.identity.signal(Signal::CONT);
    }

    /// Ends it by `signal`; if it still runs after `patience`, with its children by SIGKILL.
    pub(crate) async fn end(&mut self, signal: Signal, patience: Duration) {
        if self.ended().is_some() {
            return;
        }
        self.identity.signal(signal);
        // A stopped process would receive the signal only once it goes on.
        self.resume();
        let deadline = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < deadline {
            tokio::time::sleep(GLANCE).await;
        }
        if self.ended().is_none() {
            self.kill().await;
        }
    }

    /// SIGKILL to it and its children at once, and waits until all are gone.
    pub(crate) async fn kill(&mut self) {
        let family = self.kill_now();
        while self.ended().is_none() || family.iter().any(Identity::alive) {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// SIGKILL to it and its children; tells who they were.
    pub(crate) fn kill_now(&mut self) -> Vec<Identity> {
        if self.ended().is_some() {
            return Vec::new();
        }
        self.identity.signal(Signal::STOP);
        let family = self.family();
        self.identity.signal(Signal::KILL);
        for child in &family {
            child.signal(Signal::KILL);
        }
        family
    }

    fn family(&self) -> Vec<Identity> {
        children(self.identity.pid).into_iter().map(Identity::from).collect()
    }
}

async fn stop_and_wait(process: &Identity) {
    process.signal(Signal::STOP);
    while process.look().is_some_and(|seen| !seen.stopped() && !seen.zombie()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn cat() -> Process {
        Process::spawned(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn another_start_time_is_another_process() {
        let mut process = cat();
        let stranger = Identity { started: "long ago".to_owned(), ..process.identity().clone() };
        assert!(process.identity().alive());
        assert!(!stranger.alive());
        Process::found(stranger).kill_now();
        assert!(process.identity().alive(), "a stranger's pid must not be signalled");
        process.kill().await;
        assert!(!process.identity().alive());
        assert!(process.ended().unwrap().contains('9'));
    }

    #[tokio::test]
    async fn a_paused_process_still_ends_when_asked() {
        let mut process = cat();
        process.pause().await;
        process.end(Signal::TERM, Duration::from_secs(30)).await;
        assert!(process.ended().unwrap().contains("15"), "{:?}", process.ended());
    }

    #[tokio::test]
    async fn a_found_process_is_ended_like_our_own() {
        let mut own = cat();
        let mut found = Process::found(own.identity().clone());
        assert_eq!(found.ended(), None);
        found.end(Signal::TERM, Duration::from_secs(30)).await;
        assert!(found.ended().is_some());
        assert!(own.ended().is_some());
    }
}
