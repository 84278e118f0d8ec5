//! Pictures: what they are, and smaller ones made of them.
//!
//! Before anything is unpacked, a walk over the file's structure ([`structure`]) reads off its size, frames and end, and
//! holds them against the limits. Then: decode, shrink, colours to sRGB, turn upright, hash, flatten, encode. What is
//! encoded anew has none of the metadata of the original: no place, no camera, no profile.

mod decode;
mod shrink;
mod structure;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder};

use crate::ContentType;
use crate::error::Refusal;
use crate::settings::PictureSettings;
use crate::wire::{PictureFound, PreviewHead};

/// The side of what is hashed: the most that ThumbHash takes.
const HASHED_SIDE_PX: u32 = 100;

/// Looks at a whole picture file. Gives what it is, and the previews' bytes as JPEG.
pub(crate) fn look(
    bytes: &[u8],
    content_type: ContentType,
    settings: &PictureSettings,
) -> Result<(PictureFound, Vec<Vec<u8>>), Refusal> {
    let shape = structure::walk(bytes, content_type, settings)?;
    let decoded = decode::decode(bytes, content_type, settings)?;
    let (mut width_px, mut height_px) = (decoded.image.width(), decoded.image.height());
    // Of several sizes in one file, readers may believe another one: what was held against the limits is what counts.
    if (width_px, height_px) != (shape.width_px, shape.height_px) {
        return Err(Refusal::Damaged { detail: "its sizes contradict each other".into() });
    }

    // From the largest to the smallest, each made of the one before: the original is gone when the first is there.
    let mut sides = settings.sides_px.clone();
    sides.sort_unstable();
    let largest = sides.last().copied().unwrap_or(HASHED_SIDE_PX);
    let large = shrink::shrink(decoded.image, largest)?;
    let mut large = decode::to_srgb(large, decoded.profile.as_deref());
    large.apply_orientation(decoded.orientation);
    if turns(decoded.orientation) {
        (width_px, height_px) = (height_px, width_px);
    }

    let thumbhash = hash(&large)?;
    let mut image = shrink::flatten(large);
    let mut made = Vec::new();
    for side in sides.iter().rev() {
        let long = image.width().max(image.height());
        // A side that the picture doesn't reach gives the same as the next smaller one.
        if made.is_empty() || *side < long {
            image = shrink::shrink(image, *side)?;
            made.push((image.width(), image.height(), encode(&image, settings.quality)?));
        }
    }
    made.reverse();
    let previews = made
        .iter()
        .map(|(width_px, height_px, jpeg)| PreviewHead {
            width_px: *width_px,
            height_px: *height_px,
            bytes: jpeg.len() as u64,
        })
        .collect();
    let found = PictureFound { width_px, height_px, frames: shape.frames, thumbhash, previews };
    Ok((found, made.into_iter().map(|(_, _, jpeg)| jpeg).collect()))
}

fn turns(orientation: image::metadata::Orientation) -> bool {
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

fn hash(image: &DynamicImage) -> Result<Vec<u8>, Refusal> {
    let small = shrink::shrink(image.clone(), HASHED_SIDE_PX)?.into_rgba8();
    Ok(thumbhash::rgba_to_thumb_hash(small.width() as usize, small.height() as usize, small.as_raw()))
}

fn encode(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, Refusal> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality.clamp(1, 100))
        .write_image(image.as_bytes(), image.width(), image.height(), image.color().into())
        .map_err(|error| Refusal::Damaged { detail: error.to_string() })?;
    Ok(jpeg)
}
