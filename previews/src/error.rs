//! Why a file has no report: it is refused for what it is, it used up what a child may use, or this machine failed.

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ContentType;

/// Why a file could not be looked into.
#[derive(Debug, Error)]
pub enum Error {
    /// The file is not taken. Definite: the same file is refused again.
    #[error("the file is refused: {0}")]
    Refused(#[from] Refusal),
    /// The child came to an end before its report. Definite, but where it [may pass](ChildFailure::may_pass): the same file does it
    /// again.
    #[error("the file could not be decoded: {0}")]
    Child(#[from] ChildFailure),
    /// Something of this machine, not of the file. Transient: try again later.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the same file may pass later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::System { .. })
    }

    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// What is wrong with a file, the limit it passed, and how its sender can mend it. Texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No byte in it.
    #[error("it is empty; choose a file with something in it")]
    Empty,
    /// Longer than files may be.
    #[error("it has {bytes} bytes or more, at most {limit} are taken; send a smaller file")]
    TooLarge {
        /// What it has, or what had come when it was given up.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not as long as declared.
    #[error("it has {found} bytes, {declared} were declared; upload it again, whole and unchanged")]
    SizeMismatch {
        /// What was declared.
        declared: u64,
        /// What it has.
        found: u64,
    },
    /// Not of the declared type.
    #[error("it was declared as {declared} but its content is {}; declare the type that it has", found.mime())]
    TypeMismatch {
        /// What was declared.
        declared: String,
        /// What it is.
        found: ContentType,
    },
    /// More pixels than are decoded.
    #[error("it is {width_px} × {height_px} pixels, at most {limit} pixels are taken; send it scaled down")]
    TooManyPixels {
        /// Width.
        width_px: u32,
        /// Height.
        height_px: u32,
        /// The limit, of width times height.
        limit: u64,
    },
    /// More frames, or more pixels in all frames, than a client should paint.
    #[error(
        "its animation has {frames} frames or more, at most {limit} of this size are taken; send it shorter, or as a video"
    )]
    TooManyFrames {
        /// Frames counted.
        frames: u32,
        /// The limit for pictures of this size.
        limit: u32,
    },
    /// A colour profile or compressed text that unpacks beyond all use.
    #[error("its {part} is more than {limit} bytes unpacked; save it again without metadata")]
    MetadataTooLarge {
        /// What is too large.
        part: String,
        /// The limit.
        limit: u64,
    },
    /// Cut off, or broken.
    #[error("it is damaged or incomplete ({detail}); upload it again, or save it anew in the program that made it")]
    Damaged {
        /// What the decoder met.
        detail: String,
    },
    /// Also something else: one file that programs take for two types.
    #[error("it is {} and {other} in one; send only the one or only the other", found.mime())]
    Polyglot {
        /// What it is by its beginning.
        found: ContentType,
        /// What else is in it.
        other: String,
    },
    /// A picture that brings script.
    #[error("it holds script ({detail}); send it as PNG, or without the script")]
    Script {
        /// Where script stands in it.
        detail: String,
    },
}

impl Refusal {
    /// A short stable name, for answers and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too_large",
            Self::SizeMismatch { .. } => "size_mismatch",
            Self::TypeMismatch { .. } => "type_mismatch",
            Self::TooManyPixels { .. } => "too_many_pixels",
            Self::TooManyFrames { .. } => "too_many_frames",
            Self::MetadataTooLarge { .. } => "metadata_too_large",
            Self::Damaged { .. } => "damaged",
            Self::Polyglot { .. } => "polyglot",
            Self::Script { .. } => "script",
        }
    }
}

impl ChildFailure {
    /// Whether it may be the machine's doing: too much to do for it, or no memory left in all (Linux then kills by signal 9).
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Time { .. } | Self::Signal { signal: 9, .. })
    }
}

/// How a child ended without a report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChildFailure {
    /// Out of memory.
    #[error("it takes more than {limit_bytes} bytes of memory; send a smaller file")]
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// Out of processor time.
    #[error("it takes more than {limit_s} s of processor time; send a shorter or simpler file")]
    Cpu {
        /// The limit.
        limit_s: u64,
    },
    /// Not ready in time.
    #[error("it isn't ready after {limit_ms} ms; send a shorter or simpler file")]
    Time {
        /// The limit.
        limit_ms: u64,
    },
    /// More output than may be.
    #[error("what is made of it is more than {limit_bytes} bytes; send a shorter or simpler file")]
    Output {
        /// The limit.
        limit_bytes: u64,
    },
    /// Killed by a signal that no limit explains.
    #[error("its decoder was killed by signal {signal} ({detail}); send it in another format")]
    Signal {
        /// The number.
        signal: i32,
        /// The last line it wrote.
        detail: String,
    },
    /// Ended with an error of its own, or an answer that can't be read.
    #[error("its decoder failed ({detail}); send it in another format")]
    Answer {
        /// The last line it wrote, or what is wrong with the answer.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_busy_machine_may_have_done_may_pass() {
        let killed = |signal| ChildFailure::Signal { signal, detail: String::new() };
        assert!(ChildFailure::Time { limit_ms: 1 }.may_pass() && killed(9).may_pass());
        assert!(!killed(11).may_pass() && !killed(31).may_pass());
        assert!(!ChildFailure::Cpu { limit_s: 1 }.may_pass() && !ChildFailure::Memory { limit_bytes: 1 }.may_pass());
    }
}
