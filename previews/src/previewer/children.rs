//! Children and what they hand back.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::Previewer;
use crate::error::Error;
use crate::sandbox::{Output, run};
use crate::settings::Limits;
use crate::upload::{Upload, Uploaded};
use crate::wire::{self, Answer, Job, Work};

impl Previewer {
    /// Has our own code do `work` on `file`.
    pub(super) fn ask(&self, file: &Uploaded, work: Work) -> Result<(Answer, Vec<Vec<u8>>), Error> {
        let limits = self.settings.decoding;
        let mut frame = Vec::new();
        let mut take = |piece: &[u8]| frame.extend_from_slice(piece);
        self.start(file, work, Output::Pieces(&mut take), limits)?;
        Ok(wire::read(&frame)?)
    }

    /// Runs a tool; what it writes goes to `take`, piece by piece.
    pub(super) fn pour(
        &self,
        file: &Uploaded,
        tool: &Path,
        arguments: Vec<String>,
        limits: Limits,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let work = Work::Tool { program: tool.to_owned(), arguments };
        self.start(file, work, Output::Pieces(take), limits)
    }

    /// Runs a tool and gives all that it writes.
    pub(super) fn collect(&self, file: &Uploaded, tool: &Path, arguments: Vec<String>) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        self.pour(file, tool, arguments, self.settings.tools, &mut |piece| all.extend_from_slice(piece))?;
        Ok(all)
    }

    /// Runs a tool that goes back and forth in what it writes, and gives all of it.
    pub(super) fn collect_file(&self, file: &Uploaded, tool: &Path, arguments: Vec<String>) -> Result<Vec<u8>, Error> {
        let limits = self.settings.tools;
        let mut output = output_file().map_err(Error::system("making a temporary file"))?;
        let work = Work::Tool { program: tool.to_owned(), arguments };
        self.start(file, work, Output::File(&output), limits)?;
        let mut all = Vec::new();
        let mut read = || {
            output.seek(SeekFrom::Start(0))?;
            (&mut output).take(limits.output_bytes).read_to_end(&mut all)
        };
        read().map_err(Error::system("reading a temporary file"))?;
        Ok(all)
    }

    fn start(&self, file: &Uploaded, work: Work, output: Output<'_>, limits: Limits) -> Result<(), Error> {
        let parent_pid = rustix::process::getpid().as_raw_nonzero().get();
        let job = serde_json::to_string(&Job { parent_pid, limits, work })
            .map_err(io::Error::other)
            .map_err(Error::system("writing a job"))?;
        run(&self.program, &job, &file.file, output, &limits)
    }
}

/// A file without a name that any user may write, and programs may open once more.
#[cfg(target_os = "linux")]
fn output_file() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("preview", rustix::fs::MemfdFlags::CLOEXEC)?))
}

#[cfg(not(target_os = "linux"))]
fn output_file() -> io::Result<File> {
    tempfile::tempfile()
}

impl Uploaded {
    /// Bytes of our own as if they had been uploaded.
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Upload::read_from(bytes, None, u64::MAX)
    }
}
