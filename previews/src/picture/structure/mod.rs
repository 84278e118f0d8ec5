//! A picture file without its pixels: a walk over its parts, which unpacks next to nothing and can't be made to.

mod gif;
mod jpeg;
mod png;
mod trailer;
mod webp;

use crate::ContentType;
use crate::error::Refusal;
use crate::settings::PictureSettings;

/// What the walk finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub width_px: u32,
    pub height_px: u32,
    /// 1 unless it moves.
    pub frames: u32,
    /// Where the picture ends in the file.
    pub end: usize,
}

/// Walks over `bytes` and refuses what is too large, incomplete, or more than a picture.
pub(super) fn walk(bytes: &[u8], content_type: ContentType, settings: &PictureSettings) -> Result<Shape, Refusal> {
    trailer::refuse_markup_in_front(bytes, content_type)?;
    let shape = match content_type {
        ContentType::Jpeg => jpeg::walk(bytes, settings.max_metadata_bytes)?,
        ContentType::Png => png::walk(bytes, settings)?,
        ContentType::Webp => webp::walk(bytes, settings.max_metadata_bytes)?,
        ContentType::Gif => gif::walk(bytes)?,
        _ => return Err(damaged("its type isn't decoded here")),
    };
    refuse_size(&shape, settings)?;
    trailer::refuse_second_file(&bytes[shape.end.min(bytes.len())..], content_type)?;
    Ok(shape)
}

/// Holds size and frames against the limits.
fn refuse_size(shape: &Shape, settings: &PictureSettings) -> Result<(), Refusal> {
    let pixels = u64::from(shape.width_px) * u64::from(shape.height_px);
    if pixels == 0 {
        return Err(damaged("it has no pixels"));
    }
    if pixels > settings.max_pixels {
        let (width_px, height_px) = (shape.width_px, shape.height_px);
        return Err(Refusal::TooManyPixels { width_px, height_px, limit: settings.max_pixels });
    }
    let by_pixels = u32::try_from(settings.max_animation_pixels / pixels).unwrap_or(u32::MAX).max(1);
    let limit = settings.max_frames.min(by_pixels);
    if shape.frames > limit {
        return Err(Refusal::TooManyFrames { frames: shape.frames, limit });
    }
    Ok(())
}

fn damaged(detail: &str) -> Refusal {
    Refusal::Damaged { detail: detail.to_owned() }
}

/// What every part of every file may be: cut off.
fn cut_off() -> Refusal {
    damaged("it is cut off")
}

/// `length` bytes at `at`.
fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Refusal> {
    at.checked_add(length).and_then(|end| bytes.get(at..end)).ok_or_else(cut_off)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Refusal> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or_else(cut_off)
}
