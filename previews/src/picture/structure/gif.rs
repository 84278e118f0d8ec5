//! GIF: blocks of sub-blocks, counted without unpacking one (GIF89a specification).

use super::{Shape, array, cut_off, damaged};
use crate::error::Refusal;

pub(super) fn walk(bytes: &[u8]) -> Result<Shape, Refusal> {
    let [width_low, width_high, height_low, height_high, flags] = array::<5>(bytes, 6)?;
    let (width_px, height_px) =
        (u16::from_le_bytes([width_low, width_high]), u16::from_le_bytes([height_low, height_high]));
    let mut at = 13 + colour_table_bytes(flags);
    let mut frames = 0;
    loop {
        match bytes.get(at).copied().ok_or_else(cut_off)? {
            0x3b => break,
            0x21 => at = after_sub_blocks(bytes, at + 2)?,
            0x2c => {
                frames += 1;
                let [flags] = array::<1>(bytes, at + 9)?;
                // The descriptor, its colours, the size of codes, then the pixels.
                at = after_sub_blocks(bytes, at + 10 + colour_table_bytes(flags) + 1)?;
            }
            _ => return Err(damaged("it has an unknown block")),
        }
    }
    if frames == 0 {
        return Err(damaged("it has no pixels"));
    }
    Ok(Shape { width_px: width_px.into(), height_px: height_px.into(), frames, end: at + 1 })
}

fn colour_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn after_sub_blocks(bytes: &[u8], mut at: usize) -> Result<usize, Refusal> {
    loop {
        let length = usize::from(bytes.get(at).copied().ok_or_else(cut_off)?);
        at += 1 + length;
        if length == 0 {
            return Ok(at);
        }
    }
}
