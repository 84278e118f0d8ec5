//! Programs that make what isn't decoded here: where they are, and how they are called.
//!
//! All of them read the file as `/dev/stdin`, which they can seek in, and none may guess what it is: a list of other
//! files in disguise is not even tried. They read no file but that one (see [`crate::sandbox`]) and use one thread, so that
//! memory is bounded.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::ContentType;
use crate::report::ToolState;

/// Where each program is, if it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    pub ffmpeg: Option<PathBuf>,
    pub ffprobe: Option<PathBuf>,
    pub pdftoppm: Option<PathBuf>,
}

impl Tools {
    /// Looks for them in the directories of `path`, in the form of the variable `PATH`.
    pub(crate) fn find(path: Option<&OsStr>) -> Self {
        let find = |name: &str| {
            std::env::split_paths(path?)
                .map(|directory| directory.join(name))
                .find(|file| file.is_file())
                // Links are followed here: behind the fence they may lead nowhere.
                .and_then(|file| file.canonicalize().ok())
        };
        Self { ffmpeg: find("ffmpeg"), ffprobe: find("ffprobe"), pdftoppm: find("pdftoppm") }
    }

    pub(crate) fn states(&self) -> Vec<ToolState> {
        let state = |name, makes, debian_package, path: &Option<PathBuf>| ToolState {
            name,
            makes,
            debian_package,
            path: path.clone(),
        };
        vec![
            state("ffmpeg", "posters and clips of video, previews of AVIF, waveforms of Opus", "ffmpeg", &self.ffmpeg),
            state("ffprobe", "size and duration of video", "ffmpeg", &self.ffprobe),
            state("pdftoppm", "first pages of PDF", "poppler-utils", &self.pdftoppm),
        ]
    }
}

/// ffmpeg's name for the container, so that it takes it for nothing else.
fn demuxer(content_type: ContentType) -> &'static str {
    match content_type {
        ContentType::Webm | ContentType::Matroska => "matroska",
        ContentType::Avi => "avi",
        ContentType::Mp3 => "mp3",
        ContentType::Aac => "aac",
        ContentType::Ogg => "ogg",
        ContentType::Flac => "flac",
        ContentType::Wav => "wav",
        // MP4, M4A, QuickTime, and AVIF.
        _ => "mov",
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What every call begins with, up to the input. `file` is the one protocol.
fn input(content_type: ContentType, seek_ms: u64) -> Vec<String> {
    let mut call = words(&["-v", "error", "-nostdin", "-threads", "1"]);
    call.extend(words(&["-protocol_whitelist", "file", "-f", demuxer(content_type)]));
    if seek_ms > 0 {
        call.extend(words(&["-ss", &format!("{}.{:03}", seek_ms / 1_000, seek_ms % 1_000)]));
    }
    call.extend(words(&["-i", "/dev/stdin"]));
    call
}

fn output(how: &[&str], to: &str) -> Vec<String> {
    let mut call = words(&["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn"]);
    call.extend(words(&["-threads", "1", "-filter_threads", "1"]));
    call.extend(words(how));
    call.extend(words(&["-y", to]));
    call
}

/// ffprobe: streams and container as JSON.
pub(crate) fn probe(content_type: ContentType) -> Vec<String> {
    let mut call = words(&["-v", "error", "-threads", "1", "-protocol_whitelist", "file"]);
    call.extend(words(&["-f", demuxer(content_type), "-of", "json"]));
    call.extend(words(&["-show_entries", "format=duration:stream=codec_type,width,height,duration:stream_disposition=attached_pic:stream_side_data=rotation"]));
    call.extend(words(&["-i", "/dev/stdin"]));
    call
}

/// ffmpeg: one frame as PNG, its long side `side_px` at most.
pub(crate) fn poster(content_type: ContentType, seek_ms: u64, side_px: u32) -> Vec<String> {
    let mut call = input(content_type, seek_ms);
    let fit = format!("scale='min({side_px},iw)':'min({side_px},ih)':force_original_aspect_ratio=decrease");
    call.extend(output(&["-an", "-frames:v", "1", "-vf", &fit, "-c:v", "png", "-f", "image2pipe"], "pipe:1"));
    call
}

/// ffmpeg: the beginning without sound, as MP4 whose index comes first.
pub(crate) fn clip(content_type: ContentType, length_ms: u64, side_px: u32) -> Vec<String> {
    let mut call = input(content_type, 0);
    let fit = format!(
        "fps=15,scale='min({side_px},iw)':'min({side_px},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2,setsar=1"
    );
    let length = format!("{}.{:03}", length_ms / 1_000, length_ms % 1_000);
    call.extend(output(
        &[
            "-an",
            "-t",
            &length,
            "-vf",
            &fit,
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            "30",
            "-profile:v",
            "main",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
            "-f",
            "mp4",
        ],
        "/dev/stdout",
    ));
    call
}

/// Samples a second of [`sound`].
pub(crate) const SOUND_SAMPLES_PER_S: u32 = 8_000;

/// ffmpeg: the sound as 16-bit samples of one channel.
pub(crate) fn sound(content_type: ContentType) -> Vec<String> {
    let mut call = input(content_type, 0);
    let rate = SOUND_SAMPLES_PER_S.to_string();
    call.extend(output(&["-vn", "-ac", "1", "-ar", &rate, "-c:a", "pcm_s16le", "-f", "s16le"], "pipe:1"));
    call
}

/// pdftoppm: the first page as PNG, its long side `side_px`.
pub(crate) fn first_page(side_px: u32) -> Vec<String> {
    words(&["-f", "1", "-l", "1", "-singlefile", "-scale-to", &side_px.to_string(), "-png", "/dev/stdin"])
}
