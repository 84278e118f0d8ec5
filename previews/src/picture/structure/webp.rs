//! WebP: RIFF chunks with a length each (RFC 9649).

use super::{Shape, array, cut_off, damaged, slice};
use crate::error::Refusal;

pub(super) fn walk(bytes: &[u8], max_metadata_bytes: u64) -> Result<Shape, Refusal> {
    let end = usize::try_from(u32::from_le_bytes(array(bytes, 4)?)).unwrap_or(usize::MAX).saturating_add(8);
    if end > bytes.len() {
        return Err(cut_off());
    }
    let bytes = &bytes[..end];
    let mut at = 12;
    let mut size = None;
    let mut frames = 0;
    while at < end {
        let name: [u8; 4] = array(bytes, at)?;
        let length = u32::from_le_bytes(array(bytes, at + 4)?) as usize;
        let data = slice(bytes, at + 8, length)?;
        match &name {
            // The canvas, where there is one, is what is shown.
            b"VP8X" => size = Some((one_more(array(data, 4)?), one_more(array(data, 7)?))),
            b"VP8 " => {
                let [width_low, width_high, height_low, height_high] = array::<4>(data, 6)?;
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                size = size.or(Some((side(width_low, width_high), side(height_low, height_high))));
            }
            b"VP8L" => {
                let packed = u32::from_le_bytes(array(data, 1)?);
                size = size.or(Some(((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1)));
            }
            b"ANMF" => frames += 1,
            b"ICCP" if length as u64 > max_metadata_bytes => {
                return Err(Refusal::MetadataTooLarge { part: "colour profile".into(), limit: max_metadata_bytes });
            }
            _ => {}
        }
        // Chunks begin at even places.
        at += 8 + length + length % 2;
    }
    let (width_px, height_px) = size.ok_or_else(|| damaged("its size is missing"))?;
    Ok(Shape { width_px, height_px, frames: frames.max(1), end })
}

fn one_more([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0]) + 1
}
