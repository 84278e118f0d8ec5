//! The parent's side: starts a child, reads what it says within its bounds, and sees to its end.
//!
//! *Failure.* Whatever the child does, [`run`] comes back after its time on the wall at the latest, holds no more than
//! its output may be, and leaves no process: the whole group is killed before the child is reaped, so that its number
//! can't belong to anybody else yet.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::ChildProgram;
use crate::error::{ChildFailure, Error};
use crate::settings::Limits;

/// What is kept of what a child says about its troubles, and the most it may say.
const COMPLAINTS_KEPT_BYTES: usize = 2 << 10;
const COMPLAINTS_BYTES: u64 = 1 << 20;

/// The user and group who own nothing, on every Linux and BSD.
const NOBODY: u32 = 65_534;

/// Where a child's output goes.
pub(crate) enum Output<'a> {
    /// To this function, piece by piece, `output_bytes` in all.
    Pieces(&'a mut dyn FnMut(&[u8])),
    /// Into this file, whose size the child's own limit bounds.
    File(&'a File),
}

/// Runs `program` with `job` on `input` until it ends. `Ok` is an exit with 0; everything else is told by its cause.
pub(crate) fn run(
    program: &ChildProgram,
    job: &str,
    input: &File,
    mut output: Output<'_>,
    limits: &Limits,
) -> Result<(), Error> {
    let deadline = Instant::now() + limits.wall();
    let mut running = Running { child: start(program, job, input, &output)?, reaped: false };
    let mut complaints = Complaints::default();
    let mut taken: u64 = 0;
    let mut out = running.child.stdout.take();
    let mut err = running.child.stderr.take();
    let mut piece = vec![0; 64 << 10];
    while out.is_some() || err.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ChildFailure::Time { limit_ms: limits.wall_ms }.into());
        }
        let (out_ready, err_ready) = ready(out.as_ref(), err.as_ref(), left)?;
        if out_ready && let Some(read) = read_piece(&mut out, &mut piece)? {
            taken += read as u64;
            if taken > limits.output_bytes {
                return Err(ChildFailure::Output { limit_bytes: limits.output_bytes }.into());
            }
            if let Output::Pieces(take) = &mut output {
                take(&piece[..read]);
            }
        }
        if err_ready && let Some(read) = read_piece(&mut err, &mut piece)? {
            complaints.take(&piece[..read]);
            if complaints.bytes > COMPLAINTS_BYTES {
                return Err(ChildFailure::Output { limit_bytes: COMPLAINTS_BYTES }.into());
            }
        }
    }
    let Some(status) = running.end(deadline)? else {
        return Err(ChildFailure::Time { limit_ms: limits.wall_ms }.into());
    };
    judge(status, &complaints, limits)
}

fn start(program: &ChildProgram, job: &str, input: &File, output: &Output<'_>) -> Result<Child, Error> {
    let starting = "starting the child that looks into files";
    let spawn = |as_nobody: bool| {
        let mut input = input.try_clone()?;
        input.seek(SeekFrom::Start(0))?;
        let mut command = Command::new(program.executable());
        command.arg0(program.path()).args(program.arguments()).arg(job);
        command.env_clear().current_dir("/").process_group(0);
        command.stdin(input).stderr(Stdio::piped()).stdout(match output {
            Output::Pieces(_) => Stdio::piped(),
            Output::File(file) => file.try_clone()?.into(),
        });
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.spawn()
    };
    if rustix::process::geteuid().is_root() {
        match spawn(true) {
            // Root without the right to become somebody else, as in some containers: the child tells it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => return other.map_err(Error::system(starting)),
        }
    }
    spawn(false).map_err(Error::system(starting))
}

/// Waits until one of the pipes has something or is closed, no longer than `left`.
fn ready(
    out: Option<&std::process::ChildStdout>,
    err: Option<&std::process::ChildStderr>,
    left: Duration,
) -> Result<(bool, bool), Error> {
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut watched = Vec::with_capacity(2);
    watched.extend(out.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    watched.extend(err.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Error::system("waiting for the child that looks into files")(error.into())),
    }
    let mut fired = watched.iter().map(|watched| !watched.revents().is_empty());
    let out_ready = out.is_some() && fired.next().unwrap_or(false);
    let err_ready = err.is_some() && fired.next().unwrap_or(false);
    Ok((out_ready, err_ready))
}

/// Reads once; at its end the pipe is let go.
fn read_piece<R: Read>(pipe: &mut Option<R>, piece: &mut [u8]) -> Result<Option<usize>, Error> {
    let Some(open) = pipe else { return Ok(None) };
    match open.read(piece) {
        Ok(0) => {
            *pipe = None;
            Ok(None)
        }
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(Error::system("reading from the child that looks into files")(error)),
    }
}

/// A child that doesn't outlive its handle.
struct Running {
    child: Child,
    reaped: bool,
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, or nothing if it hasn't by `deadline`.
    fn end(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, Error> {
        let pid = self.pid();
        let (ended, wait) = mpsc::channel();
        let in_time = std::thread::scope(|scope| {
            // Waits without reaping: the number stays the child's until the group is dead.
            scope.spawn(move || {
                let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), end) {}
                let _ = ended.send(());
            });
            let in_time = wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
            self.kill();
            in_time
        });
        let status = self.reap().map_err(Error::system("waiting for the end of the child that looks into files"))?;
        Ok(in_time.then_some(status))
    }

    /// Ends the child and whatever it may have started.
    fn kill(&mut self) {
        // Nothing left to kill is the usual case.
        let _ = kill_process_group(self.pid(), Signal::KILL);
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After it was reaped its number may be somebody else's.
        if !self.reaped {
            self.kill();
            let _ = self.reap();
        }
    }
}

/// The end of what a child wrote about its troubles.
#[derive(Default)]
struct Complaints {
    bytes: u64,
    tail: Vec<u8>,
}

impl Complaints {
    fn take(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.tail.extend_from_slice(piece);
        let excess = self.tail.len().saturating_sub(COMPLAINTS_KEPT_BYTES);
        self.tail.drain(..excess);
    }

    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.tail).contains(text)
    }

    /// The last line with something in it, without characters that a terminal obeys.
    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        line.trim().chars().filter(|c| !c.is_control()).take(300).collect()
    }
}

fn judge(status: ExitStatus, complaints: &Complaints, limits: &Limits) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    let failure = if is(Signal::XCPU) {
        ChildFailure::Cpu { limit_s: limits.cpu_s }
    } else if is(Signal::XFSZ) {
        ChildFailure::Output { limit_bytes: limits.output_bytes }
    } else if complaints.has("memory allocation of") || complaints.has("Cannot allocate memory") {
        ChildFailure::Memory { limit_bytes: limits.memory_bytes }
    } else if let Some(signal) = status.signal() {
        ChildFailure::Signal { signal, detail: complaints.last_line() }
    } else {
        ChildFailure::Answer { detail: complaints.last_line() }
    };
    Err(failure.into())
}
