//! JPEG: markers with lengths until a scan, then coded data in which a marker stands out by its first byte (ITU-T T.81).

use super::{Shape, array, cut_off, damaged};
use crate::error::Refusal;

pub(super) fn walk(bytes: &[u8], max_metadata_bytes: u64) -> Result<Shape, Refusal> {
    let mut at = 2;
    let mut size: Option<(u32, u32)> = None;
    let mut profile_bytes: u64 = 0;
    loop {
        let [first, mut marker] = array::<2>(bytes, at)?;
        if first != 0xff {
            return Err(damaged("a marker is missing"));
        }
        while marker == 0xff {
            // Any number of fill bytes may stand before a marker.
            at += 1;
            [marker] = array::<1>(bytes, at + 1)?;
        }
        at += 2;
        match marker {
            0xd9 => break,
            // Without a length.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(array(bytes, at)?));
        if length < 2 || at + length > bytes.len() {
            return Err(cut_off());
        }
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, height_high, height_low, width_high, width_low] = array::<5>(bytes, at + 2)?;
                let height = u32::from(u16::from_be_bytes([height_high, height_low]));
                let width = u32::from(u16::from_be_bytes([width_high, width_low]));
                if size.replace((width, height)).is_some() {
                    return Err(damaged("it has two sizes"));
                }
            }
            0xe2 if bytes[at + 2..at + length].starts_with(b"ICC_PROFILE\0") => {
                profile_bytes += length as u64;
                if profile_bytes > max_metadata_bytes {
                    return Err(Refusal::MetadataTooLarge { part: "colour profile".into(), limit: max_metadata_bytes });
                }
            }
            _ => {}
        }
        at += length;
        if marker == 0xda {
            at = after_scan(bytes, at)?;
        }
    }
    let (width_px, height_px) = size.ok_or_else(|| damaged("its size is missing"))?;
    Ok(Shape { width_px, height_px, frames: 1, end: at })
}

/// Where the marker stands that ends the coded data beginning at `at`.
fn after_scan(bytes: &[u8], mut at: usize) -> Result<usize, Refusal> {
    loop {
        at += bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)).ok_or_else(cut_off)?;
        match bytes.get(at + 1).copied().ok_or_else(cut_off)? {
            // A byte of data, and restart markers, belong to the scan.
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Ok(at),
        }
    }
}
