//! How long a 12-megapixel photo takes, and how much memory: `cargo run --release --example photo -- [rounds] [file]`.
//!
//! Without a file it makes one of its own: 4000 × 3000, soft shapes under fine noise, as large as a phone's. Runs with the
//! child and all, as an upload does; for one core, put `taskset -c 0` in front. Prints one JSON object.

use std::io::Cursor;
use std::process::ExitCode;
use std::time::Instant;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use previews::{Declared, Previewer, Settings, Upload};

fn main() -> ExitCode {
    if let Some(code) = previews::child_main() {
        return code;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(30), |rounds| rounds.parse())?;
    let photo = arguments.next().map_or_else(photo, std::fs::read)?;
    let previewer = Previewer::new(Settings::default())?;
    let mut took_ms = Vec::new();
    let mut peak_rss_bytes = 0;
    let mut previews = Vec::new();
    for _ in 0..rounds.max(1) {
        let began = Instant::now();
        let uploaded = Upload::read_from(Cursor::new(&photo), None, u64::MAX)?;
        let report = previewer.examine(&uploaded, &Declared::default())?;
        took_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        peak_rss_bytes = report.peak_rss_bytes.max(Some(peak_rss_bytes)).unwrap_or_default();
        previews = report.previews;
    }
    took_ms.sort_by(f64::total_cmp);
    let at = |share: f64| took_ms[((took_ms.len() - 1) as f64 * share).round() as usize];
    println!(
        "{{\"scenario\":\"photo\",\"rounds\":{},\"file_bytes\":{},\"p50_ms\":{:.1},\"p95_ms\":{:.1},\"max_ms\":{:.1},\
         \"child_peak_rss_bytes\":{peak_rss_bytes},\"preview_bytes\":{:?}}}",
        took_ms.len(),
        photo.len(),
        at(0.5),
        at(0.95),
        at(1.0),
        previews.iter().map(|preview| preview.bytes.len()).collect::<Vec<_>>(),
    );
    Ok(())
}

fn photo() -> std::io::Result<Vec<u8>> {
    // A generator of noise that is the same everywhere.
    let mut state: u32 = 1;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state % 24) as f32
    };
    let picture = RgbImage::from_fn(4_000, 3_000, |x, y| {
        let (x, y) = (x as f32 / 400.0, y as f32 / 300.0);
        let light = |phase: f32| ((x + phase).sin() * (y - phase).cos() * 100.0 + 120.0 + noise()) as u8;
        Rgb([0.0, 1.0, 2.0].map(light))
    });
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 88).encode_image(&picture).map_err(std::io::Error::other)?;
    Ok(jpeg)
}
