//! What ffprobe says, read.

use serde::Deserialize;

/// A container's streams, as far as previews care.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Probed {
    /// Width and height as seen, of the first moving picture.
    pub picture_px: Option<(u32, u32)>,
    pub has_sound: bool,
    pub duration_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    duration: Option<String>,
    disposition: Option<Disposition>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

/// Reads ffprobe's JSON. Nothing if it isn't.
pub(super) fn read(json: &[u8]) -> Option<Probed> {
    let said: Said = serde_json::from_slice(json).ok()?;
    let is = |stream: &&Stream, codec_type: &str| stream.codec_type.as_deref() == Some(codec_type);
    // The cover of a song is a video stream as well.
    let cover = |stream: &&Stream| stream.disposition.as_ref().is_some_and(|disposition| disposition.attached_pic != 0);
    let picture = said.streams.iter().find(|stream| is(stream, "video") && !cover(stream));
    let picture_px = picture.and_then(|stream| {
        let (width, height) = (stream.width?, stream.height?);
        let turned = stream.side_data_list.iter().filter_map(|data| data.rotation).any(|angle| {
            let angle = angle.rem_euclid(180.0);
            (angle - 90.0).abs() < 45.0
        });
        Some(if turned { (height, width) } else { (width, height) })
    });
    let streams = said.streams.iter().filter_map(|stream| stream.duration.as_deref());
    let mut durations = said.format.iter().filter_map(|format| format.duration.as_deref()).chain(streams);
    Some(Probed {
        picture_px,
        has_sound: said.streams.iter().any(|stream| is(&stream, "audio")),
        duration_ms: durations.find_map(milliseconds),
    })
}

/// Seconds in decimals, or "N/A".
fn milliseconds(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    (seconds.is_finite() && (0.0..1e12).contains(&seconds)).then(|| (seconds * 1_000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_film_that_lies_on_its_side_is_turned() {
        let json = br#"{"streams": [
            {"codec_type": "audio", "duration": "4.9"},
            {"codec_type": "video", "width": 1920, "height": 1080, "disposition": {"attached_pic": 0},
             "side_data_list": [{"rotation": -90}]}],
            "format": {"duration": "5.0214"}}"#;
        let expected = Probed { picture_px: Some((1080, 1920)), has_sound: true, duration_ms: Some(5_021) };
        assert_eq!(read(json), Some(expected));
    }

    #[test]
    fn a_song_with_a_cover_is_no_film() {
        let json = br#"{"streams": [{"codec_type": "audio", "duration": "N/A"},
            {"codec_type": "video", "width": 500, "height": 500, "disposition": {"attached_pic": 1}}], "format": {}}"#;
        assert_eq!(read(json), Some(Probed { picture_px: None, has_sound: true, duration_ms: None }));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..100), seconds in ".{0,20}") {
            let _ = read(&bytes);
            let _ = milliseconds(&seconds);
        }
    }
}
