//! Sound, film and pages. Film is made by ffmpeg, the one that is asked to read it.

use std::f32::consts::TAU;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// One second of WAV: 8,000 samples of 16 bits, a tone that swells from nothing.
pub fn wav() -> Vec<u8> {
    let samples: Vec<u8> = (0..8_000_u16)
        .flat_map(|n| {
            let at = f32::from(n) / 8_000.0;
            ((at * (at * 440.0 * TAU).sin() * 30_000.0) as i16).to_le_bytes()
        })
        .collect();
    let length = u32::try_from(samples.len()).unwrap();
    let mut wav = b"RIFF".to_vec();
    wav.extend_from_slice(&(36 + length).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&8_000_u32.to_le_bytes());
    wav.extend_from_slice(&16_000_u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&length.to_le_bytes());
    wav.extend_from_slice(&samples);
    wav
}

/// A page of A6 with a red square, and its cross references right.
pub fn pdf() -> Vec<u8> {
    let content = "1 0 0 rg 50 50 200 200 re f";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 298 420] /Contents 4 0 R >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
    ];
    let mut pdf = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", pdf.len()).unwrap();
        write!(pdf, "{} 0 obj\n{object}\nendobj\n", index + 1).unwrap();
    }
    let table_at = pdf.len();
    let trailer = "trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref";
    write!(pdf, "xref\n0 5\n{table}{trailer}\n{table_at}\n%%EOF\n").unwrap();
    pdf.into_bytes()
}

/// What ffmpeg makes of `arguments`, as a file with this ending.
pub fn made(arguments: &[&str], ending: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("made").with_extension(ending);
    ffmpeg(arguments, &file);
    std::fs::read(&file).unwrap()
}

fn ffmpeg(arguments: &[&str], file: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(file)
        .status()
        .expect("ffmpeg makes the films of this test: install it (Debian: ffmpeg)");
    assert!(status.success());
}

/// Two seconds of 640 × 360, with a tone.
pub fn film(ending: &str) -> Vec<u8> {
    let picture = "testsrc=duration=2:size=640x360:rate=25";
    let sound = "sine=frequency=440:duration=2";
    made(&["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-pix_fmt", "yuv420p", "-shortest"], ending)
}

/// Two seconds of a tone.
pub fn tone(ending: &str, codec: &str) -> Vec<u8> {
    made(&["-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-c:a", codec], ending)
}
