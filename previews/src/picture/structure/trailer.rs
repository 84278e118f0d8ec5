//! Two files in one. Bytes that a picture's decoder never looks at can be another program's whole file.

use crate::ContentType;
use crate::error::Refusal;
use crate::sniff::contains;

/// As far as browsers and PDF viewers look for what a file is.
const FRONT_BYTES: usize = 1024;

const MARKUP: &[(&[u8], &str)] = &[
    (b"<script", "HTML"),
    (b"<html", "HTML"),
    (b"<!doctype html", "HTML"),
    (b"<iframe", "HTML"),
    (b"<svg", "SVG"),
    (b"<?php", "PHP"),
    (b"%pdf-", "PDF"),
];

const ARCHIVES: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
];

/// Refuses what sniffing browsers would take for a page.
pub(super) fn refuse_markup_in_front(bytes: &[u8], found: ContentType) -> Result<(), Refusal> {
    let front = bytes[..bytes.len().min(FRONT_BYTES)].to_ascii_lowercase();
    refuse(&front, MARKUP, found)
}

/// Refuses what comes after the picture's end, unless cameras do so: padding, and in a JPEG a second picture, a short film,
/// or the maker's notes.
pub(super) fn refuse_second_file(rest: &[u8], found: ContentType) -> Result<(), Refusal> {
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    refuse(rest, ARCHIVES, found)?;
    refuse(&rest.to_ascii_lowercase(), MARKUP, found)?;
    if found == ContentType::Jpeg {
        return Ok(());
    }
    Err(Refusal::Polyglot { found, other: format!("{} bytes of something else", rest.len()) })
}

fn refuse(bytes: &[u8], signs: &[(&[u8], &str)], found: ContentType) -> Result<(), Refusal> {
    match signs.iter().find(|(sign, _)| contains(bytes, sign)) {
        Some((_, other)) => Err(Refusal::Polyglot { found, other: (*other).to_owned() }),
        None => Ok(()),
    }
}
