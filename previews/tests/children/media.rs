//! Film, sound and pages, with the tools and without them.

use crate::shared::media::{film, made, pdf, tone, wav};
use crate::shared::{examine, examine_as, previewer, uploaded};
use previews::{ContentType, Declared, Error, Kind, Note, PreviewKind, Report, Settings};

fn bare(bytes: &[u8]) -> Result<Report, Error> {
    previewer(Settings::default()).without_tools().examine(&uploaded(bytes), &Declared::default())
}

fn pictures(report: &Report) -> Vec<(PreviewKind, u32, u32)> {
    report.previews.iter().map(|preview| (preview.kind, preview.width_px, preview.height_px)).collect()
}

#[test]
fn a_film_has_poster_duration_and_clip() {
    use PreviewKind::{Clip, Picture};
    for (ending, content_type) in [
        ("mp4", ContentType::Mp4),
        ("webm", ContentType::Webm),
        ("mov", ContentType::QuickTime),
        ("avi", ContentType::Avi),
    ] {
        let report = examine(&film(ending)).unwrap();
        assert_eq!(report.notes, [], "{ending}");
        assert_eq!((report.content_type, report.kind), (content_type, Kind::Video));
        assert_eq!((report.width_px, report.height_px), (Some(640), Some(360)));
        assert!(report.duration_ms.unwrap().abs_diff(2_000) < 100, "{ending}: {:?}", report.duration_ms);
        assert_eq!(pictures(&report), [(Picture, 320, 180), (Picture, 640, 360), (Clip, 480, 270)], "{ending}");
        assert!(report.thumbhash.is_some());

        // The clip is a film by itself: short, without sound, its index in front.
        let clip = &report.previews[2].bytes;
        let index = clip.windows(4).position(|name| name == b"moov").unwrap();
        let pixels = clip.windows(4).position(|name| name == b"mdat").unwrap();
        assert!(index < pixels, "{ending}");
        assert!(!clip.windows(4).any(|name| name == b"soun"), "{ending}: it has sound");
        let again = examine(clip).unwrap();
        assert_eq!((again.width_px, again.height_px), (Some(480), Some(270)));
        assert!(again.duration_ms.unwrap() <= 4_100);
    }
}

#[test]
fn a_film_held_upright_is_upright() {
    let mut upright = film("mp4");
    // How the picture's track is laid on the screen: as it is, and turned by a quarter (ISO/IEC 14496-12, 8.3.2).
    let matrix = |numbers: [i32; 9]| numbers.map(i32::to_be_bytes).concat();
    let plain = matrix([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]);
    let turned = matrix([0, 1 << 16, 0, -(1 << 16), 0, 0, 360 << 16, 0, 1 << 30]);
    let track = upright.windows(4).position(|name| name == b"tkhd").unwrap();
    let at = track + upright[track..].windows(plain.len()).position(|window| window == plain).unwrap();
    upright[at..at + plain.len()].copy_from_slice(&turned);

    let report = examine(&upright).unwrap();
    assert_eq!((report.width_px, report.height_px), (Some(360), Some(640)));
    let (poster, clip) = (&report.previews[1], &report.previews[2]);
    assert_eq!((poster.width_px, poster.height_px), (360, 640));
    assert_eq!((clip.width_px, clip.height_px), (270, 480));
}

#[test]
fn sound_has_duration_and_waveform() {
    let swell = examine(&wav()).unwrap();
    assert_eq!((swell.content_type, swell.kind, swell.duration_ms), (ContentType::Wav, Kind::Audio, Some(1_000)));
    let waveform = swell.waveform.unwrap();
    assert_eq!(waveform.len(), 64);
    assert!(waveform[0] < 20 && waveform[32].abs_diff(128) < 16 && waveform[63] > 250, "{waveform:?}");

    for (ending, codec, content_type) in [
        ("mp3", "libmp3lame", ContentType::Mp3),
        ("flac", "flac", ContentType::Flac),
        ("m4a", "aac", ContentType::M4a),
        ("ogg", "libvorbis", ContentType::Ogg),
        ("aac", "aac", ContentType::Aac),
        // These two are ffmpeg's.
        ("opus", "libopus", ContentType::Ogg),
        ("webm", "libopus", ContentType::Webm),
    ] {
        let report = examine(&tone(ending, codec)).unwrap();
        assert_eq!(report.notes, [], "{ending}");
        assert_eq!((report.content_type, report.kind), (content_type, Kind::Audio), "{ending}");
        assert!(report.duration_ms.unwrap().abs_diff(2_000) < 150, "{ending}: {:?}", report.duration_ms);
        let waveform = report.waveform.unwrap();
        assert_eq!(waveform.len(), 64, "{ending}");
        assert!(waveform[10..50].iter().all(|peak| *peak > 200), "{ending}: a tone is even: {waveform:?}");
    }
}

#[test]
fn sound_that_is_too_long_has_no_waveform() {
    let previewer = previewer(Settings { max_waveform_ms: 500, ..Settings::default() });
    for bytes in [wav(), tone("webm", "libopus")] {
        let report = previewer.examine(&uploaded(&bytes), &Declared::default()).unwrap();
        assert_eq!((report.waveform, report.notes), (None, vec![Note::TooLong]));
        assert!(report.duration_ms.unwrap() >= 1_000);
    }
}

#[test]
fn a_document_shows_its_first_page() {
    let report = examine_as(&pdf(), "application/pdf").unwrap();
    assert_eq!(report.notes, []);
    assert_eq!((report.content_type, report.kind), (ContentType::Pdf, Kind::Document));
    let large = &report.previews[1];
    assert_eq!(large.height_px, 1_280);
    let page = image::load_from_memory(&large.bytes).unwrap().into_rgb8();
    let at = |x: f64, y: f64| page.get_pixel((f64::from(large.width_px) * x) as u32, (1_280.0 * y) as u32).0;
    assert!(at(0.5, 0.64)[0] > 200 && at(0.5, 0.64)[1] < 60, "the square is red");
    assert!(at(0.05, 0.05).iter().all(|channel| *channel > 240), "the paper is white");
}

#[test]
fn a_page_as_large_as_a_town_is_as_small_as_any() {
    let vast = String::from_utf8(pdf()).unwrap().replace("0 0 298 420", "0 0 90000000 90000000");
    let report = examine(vast.as_bytes()).unwrap();
    assert!(report.previews.iter().all(|preview| preview.width_px <= 1_280 && preview.height_px <= 1_280));
}

#[test]
fn avif_is_shown_where_ffmpeg_is() {
    let avif = made(
        &["-f", "lavfi", "-i", "testsrc=size=640x360", "-frames:v", "1", "-c:v", "libaom-av1", "-cpu-used", "8"],
        "avif",
    );
    let report = examine_as(&avif, "image/avif").unwrap();
    assert_eq!((report.content_type, report.kind), (ContentType::Avif, Kind::Image));
    assert_eq!((report.width_px, report.height_px), (Some(640), Some(360)));
    assert_eq!(pictures(&report), [(PreviewKind::Picture, 320, 180), (PreviewKind::Picture, 640, 360)]);
}

#[test]
fn without_tools_the_report_says_what_is_missing() {
    for (bytes, kind, tool) in [
        (film("mp4"), Kind::Video, "ffprobe"),
        (tone("opus", "libopus"), Kind::Audio, "ffprobe"),
        (pdf(), Kind::Document, "pdftoppm"),
    ] {
        let report = bare(&bytes).unwrap();
        assert_eq!(report.kind, kind);
        assert_eq!(report.previews, []);
        assert!(
            matches!(report.notes[..], [Note::ToolMissing { tool: missing, .. }] if missing == tool),
            "{:?}",
            report.notes
        );
    }
    // What needs none is all there.
    assert!(bare(&wav()).unwrap().waveform.is_some());
    assert_eq!(bare(&crate::shared::pictures::png(640, 480)).unwrap().previews.len(), 2);
    let tools = previewer(Settings::default()).without_tools().abilities().unwrap().tools;
    assert!(tools.iter().all(|tool| tool.path.is_none()) && tools.len() == 3);
}

#[test]
fn other_files_are_a_card() {
    for (bytes, content_type) in [
        (b"PK\x03\x04 bombs aren't unpacked".as_slice(), ContentType::Zip),
        (b"plain words", ContentType::Text),
        (b"<!doctype html><p>saved, never shown", ContentType::Html),
        (b"\0\x01\x02\x03", ContentType::Unknown),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>", ContentType::Svg),
    ] {
        let report = examine(bytes).unwrap();
        assert_eq!((report.content_type, report.kind), (content_type, Kind::File));
        assert_eq!((report.previews, report.thumbhash, report.notes), (vec![], None, vec![]));
    }
}
