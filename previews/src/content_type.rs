//! The types of files that are told apart, by content. What is not in this list is `Unknown`: it is kept and downloaded,
//! never shown.

use serde::{Deserialize, Serialize};

/// What a file is, as its first bytes have it. Its name and what the uploader says play no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ContentType {
    Jpeg,
    Png,
    Webp,
    Gif,
    Avif,
    Heic,
    Svg,
    Mp4,
    QuickTime,
    Webm,
    Matroska,
    Avi,
    Mp3,
    M4a,
    Aac,
    Ogg,
    Flac,
    Wav,
    Pdf,
    Html,
    Xml,
    Zip,
    Gzip,
    SevenZip,
    Rar,
    Executable,
    Text,
    Unknown,
}

/// What a client shows a file as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A picture, with previews.
    Image,
    /// Moving pictures: poster, duration, clip.
    Video,
    /// Sound: duration and waveform.
    Audio,
    /// Pages: the first one as a picture.
    Document,
    /// A card with icon, name and size.
    File,
}

const MIMES: &[(ContentType, &[&str])] = &[
    (ContentType::Jpeg, &["image/jpeg", "image/jpg", "image/pjpeg"]),
    (ContentType::Png, &["image/png", "image/apng", "image/x-png"]),
    (ContentType::Webp, &["image/webp"]),
    (ContentType::Gif, &["image/gif"]),
    (ContentType::Avif, &["image/avif"]),
    (ContentType::Heic, &["image/heic", "image/heif"]),
    (ContentType::Svg, &["image/svg+xml"]),
    (ContentType::Mp4, &["video/mp4", "audio/mp4", "video/x-m4v", "video/3gpp", "audio/3gpp"]),
    (ContentType::QuickTime, &["video/quicktime"]),
    (ContentType::Webm, &["video/webm", "audio/webm"]),
    (ContentType::Matroska, &["video/x-matroska", "audio/x-matroska", "video/matroska", "audio/matroska"]),
    (ContentType::Avi, &["video/x-msvideo", "video/avi", "video/vnd.avi"]),
    (ContentType::Mp3, &["audio/mpeg", "audio/mp3"]),
    (ContentType::M4a, &["audio/mp4", "audio/x-m4a", "audio/m4a"]),
    (ContentType::Aac, &["audio/aac", "audio/x-aac", "audio/aacp"]),
    (ContentType::Ogg, &["audio/ogg", "video/ogg", "application/ogg", "audio/opus", "audio/vorbis"]),
    (ContentType::Flac, &["audio/flac", "audio/x-flac"]),
    (ContentType::Wav, &["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"]),
    (ContentType::Pdf, &["application/pdf", "application/x-pdf"]),
    (ContentType::Html, &["text/html", "application/xhtml+xml"]),
    (ContentType::Xml, &["application/xml", "text/xml"]),
    (ContentType::Zip, &["application/zip", "application/x-zip-compressed"]),
    (ContentType::Gzip, &["application/gzip", "application/x-gzip"]),
    (ContentType::SevenZip, &["application/x-7z-compressed"]),
    (ContentType::Rar, &["application/vnd.rar", "application/x-rar-compressed"]),
    (
        ContentType::Executable,
        &["application/x-executable", "application/x-msdownload", "application/vnd.microsoft.portable-executable"],
    ),
    (ContentType::Text, &["text/plain"]),
];

impl ContentType {
    /// Its media type, in the one spelling that is stored and told. Never with parameters.
    pub fn mime(self) -> &'static str {
        MIMES
            .iter()
            .find(|(of, _)| *of == self)
            .and_then(|(_, names)| names.first().copied())
            .unwrap_or("application/octet-stream")
    }

    /// What it is shown as, as long as nothing looked deeper: a container of video may turn out to hold sound only.
    pub fn kind(self) -> Kind {
        match self {
            Self::Jpeg | Self::Png | Self::Webp | Self::Gif | Self::Avif => Kind::Image,
            Self::Mp4 | Self::QuickTime | Self::Webm | Self::Matroska | Self::Avi => Kind::Video,
            Self::Mp3 | Self::M4a | Self::Aac | Self::Ogg | Self::Flac | Self::Wav => Kind::Audio,
            Self::Pdf => Kind::Document,
            _ => Kind::File,
        }
    }

    /// Whether this content may go by the media type that the uploader declared.
    ///
    /// Spelling, case and parameters don't matter. `application/octet-stream` and an empty type claim nothing. A type that
    /// isn't known here is believed for what isn't recognised either, for text where it says text, and for archives, since
    /// office documents are archives.
    pub fn matches_declared(self, declared: &str) -> bool {
        let declared = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if declared.is_empty() || declared == "application/octet-stream" || declared == "binary/octet-stream" {
            return true;
        }
        let mut named =
            MIMES.iter().filter(|(_, names)| names.contains(&declared.as_str())).map(|(of, _)| *of).peekable();
        if named.peek().is_some() {
            return named.any(|named| self == named || self.is_variant_of(named));
        }
        let top = declared.split('/').next().unwrap_or_default();
        match self {
            Self::Unknown => true,
            Self::Text => !matches!(top, "image" | "audio" | "video" | "font"),
            Self::Zip | Self::Gzip => top == "application" || top == "model",
            Self::Xml => declared.ends_with("xml") || top == "text",
            _ => false,
        }
    }

    /// Containers that differ in a brand or a profile only, and that programs name either way.
    fn is_variant_of(self, declared: Self) -> bool {
        matches!(
            (declared, self),
            (Self::Mp4 | Self::QuickTime | Self::M4a, Self::Mp4 | Self::QuickTime | Self::M4a)
                | (Self::Webm | Self::Matroska, Self::Webm | Self::Matroska)
                | (Self::Avif | Self::Heic, Self::Avif | Self::Heic)
                | (Self::Xml, Self::Text)
                | (Self::Text, Self::Xml)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_and_parameters_make_no_difference() {
        assert!(ContentType::Jpeg.matches_declared("IMAGE/JPG; q=1"));
        assert!(ContentType::Mp4.matches_declared("video/quicktime"));
        assert!(ContentType::Text.matches_declared("text/markdown"));
        assert!(ContentType::Text.matches_declared("application/json"));
        assert!(
            ContentType::Zip
                .matches_declared("application/vnd.openxmlformats-officedocument.wordprocessingml.document")
        );
        assert!(ContentType::Unknown.matches_declared("application/x-something"));
    }

    #[test]
    fn a_claim_that_is_known_must_be_true() {
        assert!(!ContentType::Html.matches_declared("image/png"));
        assert!(!ContentType::Unknown.matches_declared("image/png"));
        assert!(!ContentType::Png.matches_declared("image/jpeg"));
        assert!(!ContentType::Executable.matches_declared("application/x-something"));
        assert!(!ContentType::Zip.matches_declared("image/x-something"));
    }

    #[test]
    fn each_type_answers_to_its_own_name() {
        for (of, names) in MIMES {
            assert!(names.iter().all(|name| of.matches_declared(name)), "{of:?}");
            assert_eq!(of.mime(), names[0]);
        }
    }
}
