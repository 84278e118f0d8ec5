//! How a stored file may go out: under which type, shown or only saved, under which name.
//!
//! The rule: what can run script must not run it on the origin that serves files. Pictures, video and sound are shown in
//! place under their own type. Everything else is a download of `application/octet-stream`, SVG, HTML, XML and PDF with
//! it. Serve with `X-Content-Type-Options: nosniff`, so that a browser keeps to the type it is told.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::ContentType;

/// The first word of `Content-Disposition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Shown in place.
    Inline,
    /// Saved, never shown.
    Attachment,
}

/// Whether a file of this type may be shown in place.
pub fn disposition(content_type: ContentType) -> Disposition {
    match content_type {
        ContentType::Jpeg
        | ContentType::Png
        | ContentType::Webp
        | ContentType::Gif
        | ContentType::Avif
        | ContentType::Mp4
        | ContentType::QuickTime
        | ContentType::Webm
        | ContentType::Mp3
        | ContentType::M4a
        | ContentType::Aac
        | ContentType::Ogg
        | ContentType::Flac
        | ContentType::Wav => Disposition::Inline,
        _ => Disposition::Attachment,
    }
}

/// The `Content-Type` under which a file of this type is served.
pub fn served_content_type(content_type: ContentType) -> &'static str {
    match disposition(content_type) {
        Disposition::Inline => content_type.mime(),
        Disposition::Attachment => "application/octet-stream",
    }
}

/// Characters that stand for themselves in an RFC 8187 value.
const ATTRIBUTE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'!').remove(b'$').remove(b'&');

/// The value of `Content-Disposition` (RFC 6266): the name once in ASCII for old programs, once in UTF-8. `file_name` is
/// cleaned on the way, so that any name may be given.
pub fn content_disposition(disposition: Disposition, file_name: &str) -> String {
    let name = clean_file_name(file_name);
    let word = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let ascii: String =
        name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' }).collect();
    format!("{word}; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTRIBUTE))
}

/// The longest name that is kept, in bytes of UTF-8: what file systems take.
const NAME_BYTES: usize = 200;

/// A name that is safe to store, to show and to save under, made of any name at all.
///
/// Takes what follows the last `/` or `\`. Drops control characters and those that reverse or hide text (so
/// `photo<U+202E>gpj.exe` shows what it is), replaces what Windows forbids, strips blanks and dots at both ends, and shortens
/// to 200 bytes while it keeps a short ending. Never empty: `file` where nothing is left. Clean names stay as they are.
pub fn clean_file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|c| !is_deceptive(*c))
        .map(|c| if matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { c })
        .collect();
    let trimmed = kept.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let short = shorten(trimmed);
    if short.is_empty() {
        return "file".to_owned();
    }
    if is_device(&short) { shorten(&format!("_{short}")) } else { short }
}

/// Whether Windows takes the name for a device, with any ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = ["com", "lpt"].iter().filter_map(|device| stem.strip_prefix(device));
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul")
        || numbered.into_iter().any(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}

fn shorten(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    let ending = match name.rfind('.') {
        Some(dot) if name.len() - dot <= 16 => &name[dot..],
        _ => "",
    };
    let mut end = NAME_BYTES - ending.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", name[..end].trim_end_matches(|c: char| c == '.' || c.is_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_runs_script_is_never_shown() {
        for active in [
            ContentType::Svg,
            ContentType::Html,
            ContentType::Xml,
            ContentType::Pdf,
            ContentType::Text,
            ContentType::Zip,
            ContentType::Executable,
            ContentType::Unknown,
        ] {
            assert_eq!(disposition(active), Disposition::Attachment, "{active:?}");
            assert_eq!(served_content_type(active), "application/octet-stream", "{active:?}");
        }
        assert_eq!(disposition(ContentType::Jpeg), Disposition::Inline);
        assert_eq!(served_content_type(ContentType::Jpeg), "image/jpeg");
    }

    #[test]
    fn names_lose_what_harms() {
        for (name, clean) in [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\windows\\system32\\a.dll", "a.dll"),
            ("/", "file"),
            ("..", "file"),
            ("", "file"),
            (" .hidden. ", "hidden"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("a\0b\r\nc.png", "abc.png"),
            ("a\"b<c>.png", "a_b_c_.png"),
            ("CON.txt", "_CON.txt"),
            ("lpt1", "_lpt1"),
            ("Öl und Käse.jpg", "Öl und Käse.jpg"),
        ] {
            assert_eq!(clean_file_name(name), clean, "{name:?}");
        }
        let long = format!("{}.jpeg", "ä".repeat(300));
        assert!(clean_file_name(&long).len() <= NAME_BYTES && clean_file_name(&long).ends_with("ä.jpeg"));
    }

    #[test]
    fn a_header_has_both_names() {
        assert_eq!(
            content_disposition(Disposition::Attachment, "../Käse \"1\".pdf"),
            "attachment; filename=\"K_se _1_.pdf\"; filename*=UTF-8''K%C3%A4se%20_1_.pdf"
        );
    }

    proptest! {
        #[test]
        fn any_name_comes_out_clean(name in "(?s).{0,300}") {
            let clean = clean_file_name(&name);
            prop_assert!(!clean.is_empty() && clean.len() <= NAME_BYTES);
            prop_assert!(!clean.contains(['/', '\\', '\0', '\r', '\n', '"']));
            prop_assert!(!clean.starts_with('.') && !clean.ends_with('.'));
            prop_assert_eq!(clean_file_name(&clean), clean.clone());
            prop_assert!(content_disposition(Disposition::Inline, &name).is_ascii());
        }
    }
}
