//! What is made, and what a child may use up while it makes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How previews come out, and the bounds of what is taken. The defaults suit a chat; each can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest file, in bytes.
    pub max_file_bytes: u64,
    /// What pictures may be, and how their previews come out.
    pub picture: PictureSettings,
    /// The length of a video's muted clip, in milliseconds; 0 makes none.
    pub clip_ms: u64,
    /// The long side of a video's clip, in pixels.
    pub clip_side_px: u32,
    /// The longest sound whose waveform is drawn, in milliseconds: it takes decoding all of it.
    pub max_waveform_ms: u64,
    /// What the child that decodes pictures and sound may use.
    pub decoding: Limits,
    /// What each run of ffmpeg, ffprobe or pdftoppm may use.
    pub tools: Limits,
}

/// What pictures may be, and how their previews come out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PictureSettings {
    /// The long sides of previews, in pixels, smallest first. A picture is never made larger.
    pub sides_px: Vec<u32>,
    /// JPEG quality of previews, 1–100.
    pub quality: u8,
    /// The largest file of a picture, in bytes; it is held in memory.
    pub max_bytes: u64,
    /// The most pixels of a picture, and of all frames of an animation together.
    pub max_pixels: u64,
    /// The most pixels of all frames of an animation together: what a client has to paint.
    pub max_animation_pixels: u64,
    /// The most frames of an animation.
    pub max_frames: u32,
    /// The largest colour profile or compressed text, in bytes, unpacked.
    pub max_metadata_bytes: u64,
}

/// What one child may use. Whoever passes one of these is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Time on the wall, in milliseconds.
    pub wall_ms: u64,
    /// What it may hand back, in bytes.
    pub output_bytes: u64,
    /// Open files.
    pub open_files: u64,
}

impl Limits {
    /// Time on the wall.
    pub fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_file_bytes: 2 << 30,
            picture: PictureSettings::default(),
            clip_ms: 4_000,
            clip_side_px: 480,
            max_waveform_ms: 2 * 60 * 60 * 1_000,
            decoding: Limits {
                memory_bytes: 1 << 30,
                cpu_s: 15,
                wall_ms: 30_000,
                output_bytes: 16 << 20,
                open_files: 16,
            },
            tools: Limits { memory_bytes: 2 << 30, cpu_s: 60, wall_ms: 90_000, output_bytes: 32 << 20, open_files: 64 },
        }
    }
}

impl Default for PictureSettings {
    fn default() -> Self {
        Self {
            sides_px: vec![320, 1280],
            quality: 80,
            max_bytes: 64 << 20,
            max_pixels: 64_000_000,
            max_animation_pixels: 2_000_000_000,
            max_frames: 3_000,
            max_metadata_bytes: 4 << 20,
        }
    }
}
