//! Duration and waveform of sound that is decoded here: WAV, MP3, FLAC, AAC, ALAC, Vorbis. Other sound is left to ffmpeg.

use std::fs::File;

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

use crate::error::Refusal;
use crate::waveform::Peaks;
use crate::wire::{Outcome, SoundFound};

/// Packets that can't be decoded, beyond those that could: then it is no sound.
const BAD_PACKETS: u64 = 100;

/// Decodes `input`, up to `max_ms` of it.
pub(crate) fn listen(input: File, max_ms: u64) -> Outcome {
    let stream = MediaSourceStream::new(Box::new(input), MediaSourceStreamOptions::default());
    let probed = symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    );
    let listened = probed.and_then(|mut format| decode(format.as_mut(), max_ms));
    match listened {
        Ok(found) => Outcome::Sound(found),
        Err(Error::Unsupported(_)) => Outcome::UnknownSound,
        Err(error) => Outcome::Refused(Refusal::Damaged { detail: error.to_string() }),
    }
}

fn decode(format: &mut dyn FormatReader, max_ms: u64) -> Result<SoundFound, Error> {
    let track = format.default_track(TrackType::Audio).ok_or(Error::Unsupported("no sound"))?;
    let track_id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
    let parameters = parameters.ok_or(Error::Unsupported("unknown sound"))?;
    let options = AudioDecoderOptions::default();
    let mut decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options)?;
    let announced_ms = announced_ms(track);
    if announced_ms.is_some_and(|ms| ms > max_ms) {
        return Ok(SoundFound { duration_ms: announced_ms, waveform: None });
    }

    let mut peaks: Option<Peaks> = None;
    let (mut frames, mut rate, mut bad) = (0_u64, 1_u32, 0_u64);
    let mut samples: Vec<f32> = Vec::new();
    while let Some(packet) = next(format, frames > 0)? {
        if packet.track_id != track_id {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(sound) => {
                rate = sound.spec().rate().max(1);
                let channels = u32::try_from(sound.spec().channels().count()).unwrap_or(1);
                frames += sound.frames() as u64;
                samples.resize(sound.samples_interleaved(), 0.0);
                sound.copy_to_slice_interleaved(&mut samples);
                let peaks = peaks.get_or_insert_with(|| Peaks::new(rate.saturating_mul(channels)));
                for sample in &samples {
                    peaks.push(*sample);
                }
            }
            // A packet lost in the middle is heard as a click; a file of nothing else is no sound.
            Err(Error::DecodeError(_)) if bad < BAD_PACKETS || frames > 0 => bad += 1,
            Err(error) => return Err(error),
        }
        if frames.saturating_mul(1_000) / u64::from(rate) > max_ms {
            return Ok(SoundFound { duration_ms: announced_ms, waveform: None });
        }
    }
    if frames == 0 {
        return Err(Error::DecodeError("no sound in it"));
    }
    let duration_ms = frames.saturating_mul(1_000) / u64::from(rate);
    Ok(SoundFound { duration_ms: Some(duration_ms), waveform: peaks.and_then(Peaks::finish) })
}

/// The next packet. Cut off in the middle is an error where the container says how much there is; a stream of frames just
/// ends.
fn next(format: &mut dyn FormatReader, began: bool) -> Result<Option<symphonia::core::packet::Packet>, Error> {
    match format.next_packet() {
        // The reader begins a new stream in the same file: the first one is what is drawn.
        Err(Error::ResetRequired) if began => Ok(None),
        other => other,
    }
}

fn announced_ms(track: &Track) -> Option<u64> {
    let rate = track.codec_params.as_ref()?.audio()?.sample_rate?;
    Some(track.num_frames?.saturating_mul(1_000) / u64::from(rate.max(1)))
}
