//! PNG: chunks with length and name (W3C PNG, third edition). Compressed metadata is unpacked up to a limit, to see whether
//! it ends.

use std::io::{self, Read};

use flate2::read::ZlibDecoder;

use super::{Shape, array, cut_off, damaged, slice};
use crate::error::Refusal;
use crate::settings::PictureSettings;

pub(super) fn walk(bytes: &[u8], settings: &PictureSettings) -> Result<Shape, Refusal> {
    let mut at = 8;
    let mut size = None;
    let mut frames = 0;
    let mut pixels_begun = false;
    loop {
        let length = u32::from_be_bytes(array(bytes, at)?) as usize;
        let name: [u8; 4] = array(bytes, at + 4)?;
        let data = slice(bytes, at + 8, length)?;
        // Data, then a checksum.
        at = at + 8 + length + 4;
        if at > bytes.len() {
            return Err(cut_off());
        }
        match &name {
            b"IHDR" if size.is_none() => {
                let width = u32::from_be_bytes(array(data, 0)?);
                let height = u32::from_be_bytes(array(data, 4)?);
                size = Some((width, height));
            }
            b"IHDR" => return Err(damaged("it has two sizes")),
            b"IDAT" => pixels_begun = true,
            b"fcTL" => frames += 1,
            b"iCCP" => refuse_bomb("colour profile", after_text(data, 1), settings.max_metadata_bytes)?,
            b"zTXt" => refuse_bomb("compressed text", after_text(data, 1), settings.max_metadata_bytes)?,
            b"iTXt" => refuse_bomb("compressed text", international_text(data), settings.max_metadata_bytes)?,
            b"IEND" => break,
            _ => {}
        }
    }
    let (width_px, height_px) = size.ok_or_else(|| damaged("its size is missing"))?;
    if !pixels_begun {
        return Err(damaged("it has no pixels"));
    }
    Ok(Shape { width_px, height_px, frames: frames.max(1), end: at })
}

/// What follows a keyword, the zero that ends it, and `more` bytes.
fn after_text(data: &[u8], more: usize) -> Option<&[u8]> {
    let end = data.iter().position(|byte| *byte == 0)?;
    data.get(end + 1 + more..)
}

/// The text of an iTXt if it is compressed: keyword, flag, method, language, translated keyword, text.
fn international_text(data: &[u8]) -> Option<&[u8]> {
    let rest = after_text(data, 0)?;
    let compressed = rest.first() == Some(&1);
    let text = after_text(after_text(rest.get(2..)?, 0)?, 0)?;
    compressed.then_some(text)
}

/// Unpacks `packed` into nothing, as far as `limit`.
fn refuse_bomb(part: &str, packed: Option<&[u8]>, limit: u64) -> Result<(), Refusal> {
    let Some(packed) = packed else { return Ok(()) };
    let mut unpacked = ZlibDecoder::new(packed).take(limit.saturating_add(1));
    // What can't be unpacked isn't used either.
    let bytes = io::copy(&mut unpacked, &mut io::sink()).unwrap_or(0);
    if bytes > limit {
        return Err(Refusal::MetadataTooLarge { part: part.to_owned(), limit });
    }
    Ok(())
}
