//! What parent and child say to each other: the job as one argument, the answer as one frame on the child's output.
//!
//! ```text
//!  ┌─────────────────┬──────────────┬──────────────────────────────┐
//!  │ length, u32 LE  │ answer, JSON │ pictures, one after the other │
//!  └─────────────────┴──────────────┴──────────────────────────────┘
//! ```
//!
//! The parent believes nothing of it: lengths are checked against what came, and a frame that doesn't add up is an error.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ContentType;
use crate::error::{ChildFailure, Refusal};
use crate::sandbox::{Proofs, Sandbox};
use crate::settings::{Limits, PictureSettings};

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub parent_pid: i32,
    pub limits: Limits,
    pub work: Work,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Decode a picture and make its previews.
    Picture { content_type: ContentType, settings: PictureSettings },
    /// Decode sound and draw its waveform.
    Sound { max_ms: u64 },
    /// Look for script in an SVG.
    Svg { max_bytes: u64 },
    /// See whether a file has come whole.
    Whole { content_type: ContentType },
    /// Try the fence.
    Prove,
    /// Become this program.
    Tool { program: PathBuf, arguments: Vec<String> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub sandbox: Sandbox,
    /// The most memory that the child held at a time, where the system tells.
    pub peak_rss_bytes: Option<u64>,
    pub outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Refused(Refusal),
    Picture(PictureFound),
    Sound(SoundFound),
    /// Sound in a form that isn't decoded here.
    UnknownSound,
    Clean,
    Proved(Proofs),
}

/// A picture as it is shown: turned upright.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PictureFound {
    pub width_px: u32,
    pub height_px: u32,
    pub frames: u32,
    pub thumbhash: Vec<u8>,
    /// Previews as JPEG, smallest first; their bytes follow the answer.
    pub previews: Vec<PreviewHead>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreviewHead {
    pub width_px: u32,
    pub height_px: u32,
    pub bytes: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SoundFound {
    pub duration_ms: Option<u64>,
    pub waveform: Option<Vec<u8>>,
}

/// Writes a frame.
pub(crate) fn write(to: &mut impl Write, answer: &Answer, pictures: &[Vec<u8>]) -> io::Result<()> {
    let json = serde_json::to_vec(answer)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&json)?;
    for picture in pictures {
        to.write_all(picture)?;
    }
    to.flush()
}

/// Reads a frame that has come whole: the answer, and the pictures that it announces.
pub(crate) fn read(frame: &[u8]) -> Result<(Answer, Vec<Vec<u8>>), ChildFailure> {
    let broken = |detail: &str| ChildFailure::Answer { detail: detail.to_owned() };
    let (length, rest) = frame.split_first_chunk::<4>().ok_or_else(|| broken("it ended without an answer"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let json = rest.get(..length).ok_or_else(|| broken("its answer is cut off"))?;
    let answer: Answer = serde_json::from_slice(json).map_err(|_| broken("its answer can't be read"))?;
    let mut rest = &rest[length..];
    let mut pictures = Vec::new();
    if let Outcome::Picture(found) = &answer.outcome {
        for preview in &found.previews {
            let bytes = usize::try_from(preview.bytes).unwrap_or(usize::MAX);
            let picture = rest.get(..bytes).ok_or_else(|| broken("its previews are cut off"))?;
            // It is served as what it says it is, so that it must begin as one at least.
            if !picture.starts_with(b"\xff\xd8\xff") {
                return Err(broken("its previews aren't pictures"));
            }
            pictures.push(picture.to_vec());
            rest = &rest[bytes..];
        }
    }
    if !rest.is_empty() {
        return Err(broken("its answer is longer than it says"));
    }
    Ok((answer, pictures))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::sandbox::Layer;
    use proptest::prelude::*;

    fn answer(outcome: Outcome) -> Answer {
        let sandbox = Sandbox {
            resource_limits: Layer::Full,
            user: Layer::Full,
            inheritance: Layer::Full,
            files: Layer::Missing("x".into()),
            system_calls: Layer::Full,
        };
        Answer { sandbox, peak_rss_bytes: Some(1), outcome }
    }

    fn frame(bytes: u64, pictures: &[Vec<u8>]) -> Vec<u8> {
        let previews = vec![PreviewHead { width_px: 1, height_px: 1, bytes }];
        let found = PictureFound { width_px: 1, height_px: 1, frames: 1, thumbhash: vec![1], previews };
        let mut frame = Vec::new();
        write(&mut frame, &answer(Outcome::Picture(found)), pictures).unwrap();
        frame
    }

    #[test]
    fn a_frame_comes_back() {
        let picture = b"\xff\xd8\xffabc".to_vec();
        let (_, pictures) = read(&frame(6, slice::from_ref(&picture))).unwrap();
        assert_eq!(pictures, [picture]);
    }

    #[test]
    fn a_frame_that_does_not_add_up_is_an_error() {
        let picture = b"\xff\xd8\xffabc".to_vec();
        let whole = frame(6, slice::from_ref(&picture));
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(read(&frame(u64::MAX, slice::from_ref(&picture))).is_err());
        assert!(read(&frame(5, &[picture])).is_err());
        assert!(read(&frame(6, &[b"<html>".to_vec()])).is_err());
        assert!(read(&u32::MAX.to_le_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_bent_frame_is_read_or_refused(at in 0usize..400, with in any::<u8>()) {
            let mut whole = frame(6, &[b"\xff\xd8\xffabc".to_vec()]);
            let at = at % whole.len();
            whole[at] = with;
            let _ = read(&whole);
        }
    }
}
