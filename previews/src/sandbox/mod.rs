//! The fence around a child: what keeps a decoder that a hostile file has taken over from doing harm.
//!
//! ```text
//!  parent                               child
//!  new process group, no environment,   closes what it inherited, dies with its parent,
//!  another user if it is root      ───▶ rlimits, Landlock, seccomp ───▶ reads the file
//!  reads bounded output in bounded time, kills the group
//! ```
//!
//! The child puts up the fence itself, before it reads a byte of the file: all that runs until then is this crate. What a
//! kernel doesn't have is told in [`Sandbox`] and done without; resource limits are everywhere.

mod confine;
#[cfg(target_os = "linux")]
mod landlock;
mod program;
mod run;
#[cfg(target_os = "linux")]
mod seccomp;

use serde::{Deserialize, Serialize};

pub(crate) use confine::{confine, cut_off, prove};
pub use program::ChildProgram;
pub(crate) use run::{Output, run};

/// How much a child may do beside computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// Reads its input and writes its answer: opens no file, starts nothing.
    Decoder,
    /// Becomes another program: that may read what programs need to run, and its input, and start threads.
    Tool,
}

/// One part of the fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// As meant.
    Full,
    /// Weaker than meant, and why.
    Partial(String),
    /// Not there, and why.
    Missing(String),
}

/// What fences a child in on this machine. For `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Memory, processor time, files' size and number, core dumps.
    pub resource_limits: Layer,
    /// Runs as a user who owns nothing. A parent that isn't root shares its user with the child.
    pub user: Layer,
    /// Holds no descriptor but input, answer and errors, and dies with its parent.
    pub inheritance: Layer,
    /// Landlock: no file, no TCP.
    pub files: Layer,
    /// Seccomp: no socket, no process, no signal to others.
    pub system_calls: Layer,
}

/// What a fenced child tried, and whether it was kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proofs {
    /// To open a socket.
    pub network_refused: bool,
    /// To read a file of the system.
    pub reading_refused: bool,
    /// To make a file.
    pub writing_refused: bool,
    /// To start a program.
    pub processes_refused: bool,
    /// To reach its parent with a signal.
    pub signals_refused: bool,
    /// To take more memory than it may.
    pub memory_refused: bool,
    /// Whether its environment is empty.
    pub environment_empty: bool,
}

impl Sandbox {
    /// Each part with its name, in the order in which they stand in the way.
    pub fn layers(&self) -> [(&'static str, &Layer); 5] {
        [
            ("resource limits", &self.resource_limits),
            ("user", &self.user),
            ("inheritance", &self.inheritance),
            ("files (Landlock)", &self.files),
            ("system calls (seccomp)", &self.system_calls),
        ]
    }

    /// Whether everything is as meant.
    pub fn is_full(&self) -> bool {
        self.layers().iter().all(|(_, layer)| **layer == Layer::Full)
    }
}
