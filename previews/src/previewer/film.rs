//! Moving pictures and sound, by ffmpeg where our own code doesn't decode them.

use std::path::Path;

use super::probe::{self, Probed};
use super::{Previewer, note, unexpected};
use crate::error::{ChildFailure, Error, Refusal};
use crate::report::{Note, Preview, PreviewKind, Report};
use crate::settings::Limits;
use crate::tools;
use crate::upload::Uploaded;
use crate::waveform::Peaks;
use crate::wire::{Outcome, Work};
use crate::{ContentType, Kind};

/// A poster is taken this far in, since many films begin in the dark.
const POSTER_AT_MS: u64 = 1_000;

impl Previewer {
    /// Size, duration, poster and clip of a film; or, if the container has no moving picture, its sound.
    pub(super) fn film(&self, file: &Uploaded, report: &mut Report) -> Result<(), Error> {
        self.check(file, Work::Whole { content_type: report.content_type })?;
        let Some(probed) = self.probe(file, report)? else { return Ok(()) };
        let Some((width_px, height_px)) = probed.picture_px else {
            report.kind = Kind::Audio;
            return self.sound_of(file, Some(&probed), report);
        };
        self.take_size(width_px, height_px, report)?;
        report.duration_ms = probed.duration_ms;
        let Some(ffmpeg) = &self.tools.ffmpeg else {
            report.notes.push(Note::ToolMissing { tool: "ffmpeg", part: "poster and clip" });
            return Ok(());
        };
        let at_ms = probed.duration_ms.map_or(0, |duration_ms| POSTER_AT_MS.min(duration_ms / 10));
        let poster = self.poster(file, ffmpeg, at_ms, report);
        note("poster", poster, report)?;
        if self.settings.clip_ms > 0 {
            let clip = self.clip(file, ffmpeg, report);
            note("clip", clip, report)?;
        }
        Ok(())
    }

    /// A still picture that only ffmpeg decodes.
    pub(super) fn still(&self, file: &Uploaded, report: &mut Report) -> Result<(), Error> {
        self.check(file, Work::Whole { content_type: report.content_type })?;
        let Some(probed) = self.probe(file, report)? else { return Ok(()) };
        if let Some((width_px, height_px)) = probed.picture_px {
            self.take_size(width_px, height_px, report)?;
        }
        let Some(ffmpeg) = &self.tools.ffmpeg else {
            report.notes.push(Note::ToolMissing { tool: "ffmpeg", part: "preview" });
            return Ok(());
        };
        let poster = self.poster(file, ffmpeg, 0, report);
        note("preview", poster, report)
    }

    /// What ffprobe knows, or a note that there is none. What it can't read is damaged.
    fn probe(&self, file: &Uploaded, report: &mut Report) -> Result<Option<Probed>, Error> {
        let Some(ffprobe) = &self.tools.ffprobe else {
            report.notes.push(Note::ToolMissing { tool: "ffprobe", part: "size, duration and preview" });
            return Ok(None);
        };
        let probed = match self.collect(file, ffprobe, tools::probe(report.content_type)) {
            Err(Error::Child(ChildFailure::Answer { detail })) => return Err(Refusal::Damaged { detail }.into()),
            other => probe::read(&other?).ok_or_else(unexpected)?,
        };
        if probed.picture_px.is_none() && !probed.has_sound {
            return Err(Refusal::Damaged { detail: "nothing to see or to hear in it".into() }.into());
        }
        Ok(Some(probed))
    }

    fn take_size(&self, width_px: u32, height_px: u32, report: &mut Report) -> Result<(), Refusal> {
        let limit = self.settings.picture.max_pixels;
        if u64::from(width_px) * u64::from(height_px) > limit {
            return Err(Refusal::TooManyPixels { width_px, height_px, limit });
        }
        (report.width_px, report.height_px) = (Some(width_px), Some(height_px));
        Ok(())
    }

    fn poster(&self, file: &Uploaded, ffmpeg: &Path, at_ms: u64, report: &mut Report) -> Result<(), Error> {
        let frame = |at_ms| {
            let call = tools::poster(report.content_type, at_ms, self.largest_side());
            self.collect(file, ffmpeg, call)
        };
        let mut png = frame(at_ms)?;
        if png.is_empty() && at_ms > 0 {
            // Durations lie: there is nothing so far in.
            png = frame(0)?;
        }
        if png.is_empty() {
            return Err(Refusal::Damaged { detail: "it has no picture".into() }.into());
        }
        self.drawn(&png, report)
    }

    fn clip(&self, file: &Uploaded, ffmpeg: &Path, report: &mut Report) -> Result<(), Error> {
        let call = tools::clip(report.content_type, self.settings.clip_ms, self.settings.clip_side_px);
        let bytes = self.collect_file(file, ffmpeg, call)?;
        let head = bytes.get(4..8);
        if head != Some(b"ftyp") {
            return Err(ChildFailure::Answer { detail: "it made no clip".into() }.into());
        }
        let (width_px, height_px) = self.clip_size(&bytes)?;
        report.previews.push(Preview { kind: PreviewKind::Clip, width_px, height_px, bytes });
        Ok(())
    }

    fn clip_size(&self, clip: &[u8]) -> Result<(u32, u32), Error> {
        let ffprobe = self.tools.ffprobe.as_deref().ok_or_else(unexpected)?;
        let clip = Uploaded::of_bytes(clip)?;
        let said = self.collect(&clip, ffprobe, tools::probe(ContentType::Mp4))?;
        probe::read(&said).and_then(|probed| probed.picture_px).ok_or_else(unexpected)
    }

    /// Duration and waveform of sound.
    pub(super) fn sound(&self, file: &Uploaded, report: &mut Report) -> Result<(), Error> {
        self.check(file, Work::Whole { content_type: report.content_type })?;
        self.sound_of(file, None, report)
    }

    fn sound_of(&self, file: &Uploaded, probed: Option<&Probed>, report: &mut Report) -> Result<(), Error> {
        let max_ms = self.settings.max_waveform_ms;
        // Matroska isn't read by our own code.
        if !matches!(report.content_type, ContentType::Webm | ContentType::Matroska | ContentType::Avi) {
            let (answer, _) = self.ask(file, Work::Sound { max_ms })?;
            match answer.outcome {
                Outcome::Sound(found) => {
                    report.peak_rss_bytes = answer.peak_rss_bytes;
                    report.duration_ms = found.duration_ms;
                    if found.waveform.is_none() {
                        report.notes.push(Note::TooLong);
                    }
                    report.waveform = found.waveform;
                    return Ok(());
                }
                Outcome::Refused(refusal) => return Err(refusal.into()),
                Outcome::UnknownSound => {}
                _ => return Err(unexpected()),
            }
        }
        report.duration_ms = match probed {
            Some(probed) => probed.duration_ms,
            None => match self.probe(file, report)? {
                Some(probed) => probed.duration_ms,
                None => return Ok(()),
            },
        };
        let Some(ffmpeg) = &self.tools.ffmpeg else {
            report.notes.push(Note::ToolMissing { tool: "ffmpeg", part: "waveform" });
            return Ok(());
        };
        match self.pour_sound(file, ffmpeg, report) {
            Err(Error::Child(ChildFailure::Output { .. })) => {
                report.notes.push(Note::TooLong);
                Ok(())
            }
            other => note("waveform", other, report),
        }
    }

    /// Has ffmpeg decode, and draws from what it pours out: the sound itself isn't kept.
    fn pour_sound(&self, file: &Uploaded, ffmpeg: &Path, report: &mut Report) -> Result<(), Error> {
        let rate = tools::SOUND_SAMPLES_PER_S;
        let output_bytes = self.settings.max_waveform_ms.saturating_mul(u64::from(rate) * 2) / 1_000;
        let limits = Limits { output_bytes, ..self.settings.tools };
        let mut peaks = Peaks::new(rate);
        let mut samples: u64 = 0;
        let mut half: Option<u8> = None;
        let call = tools::sound(report.content_type);
        self.pour(file, ffmpeg, call, limits, &mut |piece| {
            for byte in piece {
                // A sample may lie across two pieces.
                if let Some(low) = half.take() {
                    samples += 1;
                    peaks.push(f32::from(i16::from_le_bytes([low, *byte])) / 32_768.0);
                } else {
                    half = Some(*byte);
                }
            }
        })?;
        // What was heard is surer than what was announced, which recorders often leave out.
        if samples > 0 {
            report.duration_ms = Some(samples * 1_000 / u64::from(rate));
        }
        report.waveform = peaks.finish();
        Ok(())
    }
}
