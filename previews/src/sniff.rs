//! What a file is, by its first bytes: a table of signatures, no parser. Pure; looks at no more than [`HEAD_BYTES`].

use crate::ContentType;

/// How much of a file's beginning decides.
pub(crate) const HEAD_BYTES: usize = 4096;

/// The type of a file that begins with `head`.
pub(crate) fn sniff(head: &[u8]) -> ContentType {
    let head = &head[..head.len().min(HEAD_BYTES)];
    by_signature(head).unwrap_or_else(|| by_text(head))
}

fn by_signature(head: &[u8]) -> Option<ContentType> {
    let at = |offset: usize, signature: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(signature));
    let found = if at(0, b"\xff\xd8\xff") {
        ContentType::Jpeg
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        ContentType::Png
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        ContentType::Gif
    } else if at(0, b"RIFF") {
        match head.get(8..12)? {
            b"WEBP" => ContentType::Webp,
            b"WAVE" => ContentType::Wav,
            b"AVI " => ContentType::Avi,
            _ => return None,
        }
    } else if at(4, b"ftyp") {
        by_brand(head)
    } else if at(0, b"\x1a\x45\xdf\xa3") {
        // EBML: the document type follows within the header.
        let header = &head[..head.len().min(64)];
        if contains(header, b"webm") {
            ContentType::Webm
        } else if contains(header, b"matroska") {
            ContentType::Matroska
        } else {
            return None;
        }
    } else if at(0, b"%PDF-") {
        ContentType::Pdf
    } else if at(0, b"OggS") {
        ContentType::Ogg
    } else if at(0, b"fLaC") {
        ContentType::Flac
    } else if at(0, b"ID3") {
        ContentType::Mp3
    } else if at(0, b"PK\x03\x04") || at(0, b"PK\x05\x06") || at(0, b"PK\x07\x08") {
        ContentType::Zip
    } else if at(0, b"\x1f\x8b") {
        ContentType::Gzip
    } else if at(0, b"7z\xbc\xaf\x27\x1c") {
        ContentType::SevenZip
    } else if at(0, b"Rar!\x1a\x07") {
        ContentType::Rar
    } else if is_executable(head) {
        ContentType::Executable
    } else {
        return by_audio_frame(head);
    };
    Some(found)
}

fn by_brand(head: &[u8]) -> ContentType {
    let length = head.get(..4).and_then(|size| <[u8; 4]>::try_from(size).ok()).map_or(0, u32::from_be_bytes) as usize;
    let brands = head.get(8..length.clamp(12, 256).min(head.len())).unwrap_or_default();
    // The major brand first, then, after a version, those it is compatible with.
    let mut all = brands.chunks_exact(4).enumerate().filter(|(index, _)| *index != 1).map(|(_, brand)| brand);
    let major = all.next().unwrap_or_default();
    let still = |brand: &[u8]| matches!(brand, b"avif" | b"avis");
    let heif = |brand: &[u8]| matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1");
    if still(major) || (heif(major) && all.clone().any(still)) {
        ContentType::Avif
    } else if heif(major) {
        ContentType::Heic
    } else if matches!(major, b"M4A " | b"M4B " | b"F4A ") {
        ContentType::M4a
    } else if major == b"qt  " {
        ContentType::QuickTime
    } else {
        ContentType::Mp4
    }
}

fn is_executable(head: &[u8]) -> bool {
    let mach_o: [&[u8]; 5] =
        [b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];
    if head.starts_with(b"\x7fELF") || mach_o.iter().any(|magic| head.starts_with(magic)) {
        return true;
    }
    // "MZ" alone would take texts that begin so: the header it points to decides.
    head.starts_with(b"MZ") && head.contains(&0)
}

/// MP3 and AAC have no header of the file, only of each frame: eleven bits and a few that can't be everything.
fn by_audio_frame(head: &[u8]) -> Option<ContentType> {
    let &[first, second, third, ..] = head else { return None };
    if first != 0xff || second & 0xe0 != 0xe0 {
        return None;
    }
    if second & 0xf6 == 0xf0 {
        return Some(ContentType::Aac);
    }
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    let (bitrate, rate) = (third >> 4, third >> 2 & 3);
    (version != 1 && layer == 1 && bitrate != 15 && bitrate != 0 && rate != 3).then_some(ContentType::Mp3)
}

/// Markup that a browser would run, other XML, plain text, or nothing of these.
fn by_text(head: &[u8]) -> ContentType {
    let utf16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    // UTF-16 is looked at as the letters it holds, since browsers run markup in it as well.
    let text: Vec<u8> =
        if utf16 { head[2..].iter().copied().filter(|byte| *byte != 0).collect() } else { head.to_vec() };
    let text = text.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(&text).to_ascii_lowercase();
    if !utf16 && text.iter().any(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31)) {
        return if active_markup(&text).is_some() { ContentType::Html } else { ContentType::Unknown };
    }
    match active_markup(&text) {
        Some(found) => found,
        None if text.trim_ascii_start().starts_with(b"<?xml") => ContentType::Xml,
        None if text.is_empty() => ContentType::Unknown,
        None => ContentType::Text,
    }
}

/// Tags by which browsers take something for HTML or SVG. `text` is in small letters.
fn active_markup(text: &[u8]) -> Option<ContentType> {
    const HTML: &[&[u8]] =
        &[b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<iframe", b"<img", b"<a href", b"<meta"];
    // Svg first, unless it stands inside a page; a script inside an SVG doesn't make it a page.
    let svg = find(text, b"<svg");
    let html = HTML.iter().filter_map(|tag| find(text, tag)).min();
    match (svg, html) {
        (Some(svg), Some(html)) if html < svg => Some(ContentType::Html),
        (Some(_), _) => Some(ContentType::Svg),
        (None, Some(_)) if text.trim_ascii_start().starts_with(b"<") => Some(ContentType::Html),
        // Text that speaks of tags, as this file does, isn't a page.
        (None, _) => None,
    }
}

/// Where `needle` is in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

pub(crate) fn contains(hay: &[u8], needle: &[u8]) -> bool {
    find(hay, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        for (head, expected) in [
            (b"\xff\xd8\xff\xe0\0\x10JFIF".as_slice(), ContentType::Jpeg),
            (b"RIFF\0\0\0\0WEBPVP8 ", ContentType::Webp),
            (b"RIFF\0\0\0\0WAVEfmt ", ContentType::Wav),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", ContentType::Avif),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", ContentType::Avif),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1", ContentType::Heic),
            (b"\0\0\0\x18ftypM4A \0\0\0\0isom", ContentType::M4a),
            (b"\0\0\0\x14ftypqt  \0\0\0\0", ContentType::QuickTime),
            (b"\0\0\0\x18ftypisom\0\0\0\0mp42", ContentType::Mp4),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", ContentType::Webm),
            (b"\xff\xfb\x90\x64", ContentType::Mp3),
            (b"\xff\xf1\x50\x80", ContentType::Aac),
            (b"MZ\x90\0\x03", ContentType::Executable),
            (b"MZ is how a letter may begin", ContentType::Text),
            (b"", ContentType::Unknown),
            (b"\0\x01\x02\x03", ContentType::Unknown),
        ] {
            assert_eq!(sniff(head), expected, "{head:?}");
        }
    }

    #[test]
    fn markup_is_found_behind_blanks_marks_and_encodings() {
        assert_eq!(sniff(b"  \n<!DOCTYPE HTML><p>"), ContentType::Html);
        assert_eq!(sniff(b"\xef\xbb\xbf<ScRiPt>alert(1)</script>"), ContentType::Html);
        assert_eq!(sniff(b"\xff\xfe<\0h\0t\0m\0l\0>\0"), ContentType::Html);
        assert_eq!(sniff(b"<?xml version='1.0'?><!-- x --><svg xmlns=''>"), ContentType::Svg);
        assert_eq!(sniff(b"<svg><script>alert(1)</script></svg>"), ContentType::Svg);
        assert_eq!(sniff(b"<?xml version='1.0'?><feed/>"), ContentType::Xml);
        assert_eq!(sniff(b"How to write <script> tags"), ContentType::Text);
    }
}
