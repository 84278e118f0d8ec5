//! Programs that print and don't end: their lines, until one is seen; then they are killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// Lines that may wait for the reader.
const WAITING: usize = 10_000;

/// A running program, with its children in a process group of their own.
pub struct Lines {
    child: Child,
    incoming: Receiver<String>,
    what: String,
    /// What it printed so far.
    pub printed: Vec<String>,
}

impl Lines {
    /// Starts it. Both outputs are read; the second one's lines come with `! ` before them.
    pub fn of(mut command: Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let what = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("starting {what}"))?;
        let (sender, incoming) = sync_channel(WAITING);
        let outputs: [(Option<Box<dyn Read + Send>>, &str); 2] = [
            (child.stdout.take().map(|output| Box::new(output) as _), ""),
            (child.stderr.take().map(|output| Box::new(output) as _), "! "),
        ];
        for (output, mark) in outputs {
            let (output, sender) = (output.context("no output")?, sender.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // The pipe is drained also when nobody listens any more.
                    let _ = sender.try_send(format!("{mark}{line}"));
                }
            });
        }
        Ok(Self { child, incoming, what, printed: Vec::new() })
    }

    /// Waits for a line.
    pub fn wait(&mut self, fits: impl Fn(&str) -> bool, limit: Duration) -> Result<String> {
        let began = Instant::now();
        loop {
            match self.incoming.recv_timeout(limit.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    self.printed.push(line.clone());
                    if fits(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{} didn't print it:\n{}", self.what, self.printed.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{} ended with {status} before it printed it:\n{}", self.what, self.printed.join("\n"));
                }
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its end, if it has come.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait_for_end(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// SIGKILL to it alone, not to what it started.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
