//! What is found out about a file.

use crate::sandbox::{Proofs, Sandbox};
use crate::{ContentType, Kind};

/// What a file is, and what was made of it. Sizes of pictures and films are those that are seen: turned upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// By content.
    pub content_type: ContentType,
    /// What to show it as.
    pub kind: Kind,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Of pictures and films.
    pub width_px: Option<u32>,
    /// Of pictures and films.
    pub height_px: Option<u32>,
    /// Of films and sound.
    pub duration_ms: Option<u64>,
    /// Frames, of a picture that moves.
    pub frames: Option<u32>,
    /// [ThumbHash](https://evanw.github.io/thumbhash/): at most 25 bytes of a picture, drawn until the preview is there.
    pub thumbhash: Option<Vec<u8>>,
    /// Of sound: 64 peaks from 0 to 255, the loudest 255.
    pub waveform: Option<Vec<u8>>,
    /// Pictures, smallest first, then the clip. None: show an icon with name and size.
    pub previews: Vec<Preview>,
    /// What couldn't be made, and why.
    pub notes: Vec<Note>,
    /// The most memory that the decoding child held at a time, in bytes, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// Something smaller to show in a file's place. Made anew, without metadata: safe to serve in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Preview {
    /// What it is.
    pub kind: PreviewKind,
    /// In pixels.
    pub width_px: u32,
    /// In pixels.
    pub height_px: u32,
    /// The whole file.
    pub bytes: Vec<u8>,
}

/// What a preview is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewKind {
    /// A picture, the poster of a film, or the first page of a document: JPEG.
    Picture,
    /// The beginning of a film, without sound: MP4 with H.264, to be looped.
    Clip,
}

impl PreviewKind {
    /// The media type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Picture => "image/jpeg",
            Self::Clip => "video/mp4",
        }
    }
}

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}×{}, {} bytes", self.kind, self.width_px, self.height_px, self.bytes.len())
    }
}

/// A part of a report that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The program that makes it isn't installed.
    ToolMissing {
        /// Its name.
        tool: &'static str,
        /// What it would have made.
        part: &'static str,
    },
    /// The program that makes it failed on this file.
    NotMade {
        /// What it would have made.
        part: &'static str,
        /// What it said.
        detail: String,
    },
    /// The sound is longer than waveforms are drawn for.
    TooLong,
}

/// What this machine can do. For `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// The fence, as a child found it.
    pub sandbox: Sandbox,
    /// What a child tried behind it.
    pub proofs: Proofs,
    /// Whether a tool reads its input and no file of the system; nothing if there was no tool to try it with.
    pub tools_confined: Option<bool>,
    /// Programs: name, what it makes, and whether it is there.
    pub tools: Vec<ToolState>,
}

/// A program that makes previews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolState {
    /// Its name.
    pub name: &'static str,
    /// What is missing without it.
    pub makes: &'static str,
    /// The Debian package that has it.
    pub debian_package: &'static str,
    /// Where it is.
    pub path: Option<std::path::PathBuf>,
}
