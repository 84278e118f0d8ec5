//! Which program a child is.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::child::CHILD_COMMAND;

/// The program that becomes a child: one that calls [`crate::child_main`] first thing.
///
/// Held open, so that a child is of the same build as its parent even after the file was replaced by a newer one, and can
/// be started by a user who may not look into the directory where it lies.
#[derive(Debug)]
pub struct ChildProgram {
    path: PathBuf,
    file: File,
    arguments: Vec<OsString>,
}

impl ChildProgram {
    /// This very executable.
    pub fn current() -> io::Result<Self> {
        Self::at(&std::env::current_exe()?)
    }

    /// Another executable.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::with_arguments(path, [CHILD_COMMAND])
    }

    /// Another executable and how it is called; the job follows as the last argument.
    pub fn with_arguments(path: &Path, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { path: path.to_owned(), file, arguments: arguments.into_iter().map(Into::into).collect() })
    }

    /// What to execute: the open file where the system can, else its path.
    pub(super) fn executable(&self) -> PathBuf {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let open = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
            if open.exists() {
                return open;
            }
        }
        let _ = &self.file;
        self.path.clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}
