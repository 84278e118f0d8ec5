//! Files that mean harm. Each is refused with an error that says what, how much, and how to mend it; after all of them
//! there is no file and no process left. One test, so that nobody else's children are counted.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod shared;

use std::time::{Duration, Instant};

use previews::{Declared, Error, Previewer, Settings, Upload, clean_file_name};
use shared::media::{film, pdf, wav};
use shared::pictures::{
    GIF_FRAME, chunk, gif, gif_head, jpeg, jpeg_head, png, png_with, webp, webp_with, with_segment, zlib,
};
use shared::{children_of, previewer};

/// Name, declared type, file, and the code it is refused with.
type Case = (&'static str, &'static str, Vec<u8>, &'static str);

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn cut(mut file: Vec<u8>, by: usize) -> Vec<u8> {
    file.truncate(file.len() - by);
    file
}

fn too_large() -> Vec<Case> {
    vec![
        ("a PNG of 50,000 × 50,000", "image/png", png_with(50_000, 50_000, &[]), "too_many_pixels"),
        ("a PNG of 2^31 × 2^31", "image/png", png_with(1 << 31, 1 << 31, &[]), "too_many_pixels"),
        ("a JPEG of 65,500 × 65,500", "image/jpeg", jpeg_head(65_500, 65_500), "too_many_pixels"),
        (
            "a GIF of 65,535 × 65,535",
            "image/gif",
            joined(&[&gif_head(u16::MAX, u16::MAX), GIF_FRAME, b";"]),
            "too_many_pixels",
        ),
        (
            "a WebP of 16,383 × 16,383",
            "image/webp",
            webp_with(&[(b"VP8X", vec![0, 0, 0, 0, 0xfe, 0x3f, 0, 0xfe, 0x3f, 0])]),
            "too_many_pixels",
        ),
        (
            "a colour profile of 100 MB in 100 KB",
            "image/png",
            png_with(8, 8, &[chunk(*b"iCCP", &joined(&[b"x\0\0", &zlib(&vec![0; 100 << 20])]))]),
            "metadata_too_large",
        ),
        (
            "a text that unpacks to 100 MB",
            "image/png",
            png_with(8, 8, &[chunk(*b"zTXt", &joined(&[b"x\0\0", &zlib(&vec![b'a'; 100 << 20])]))]),
            "metadata_too_large",
        ),
        (
            "the same as international text",
            "image/png",
            png_with(8, 8, &[chunk(*b"iTXt", &joined(&[b"x\0\x01\0de\0x\0", &zlib(&vec![b'a'; 100 << 20])]))]),
            "metadata_too_large",
        ),
        ("a JPEG that is a colour profile above all", "image/jpeg", profiled_jpeg(), "metadata_too_large"),
        (
            "a WebP with a colour profile of 5 MB",
            "image/webp",
            webp_with(&[(b"VP8X", vec![0x20, 0, 0, 0, 7, 0, 0, 7, 0, 0]), (b"ICCP", vec![0; 5 << 20])]),
            "metadata_too_large",
        ),
        (
            "a GIF of 100,000 frames",
            "image/gif",
            joined(&[&gif_head(1, 1), &GIF_FRAME.repeat(100_000), b";"]),
            "too_many_frames",
        ),
        (
            "a GIF of 100 frames of 50 megapixels",
            "image/gif",
            joined(&[&gif_head(10_000, 5_000), &GIF_FRAME.repeat(100), b";"]),
            "too_many_frames",
        ),
        (
            "a PNG of 10,000 frames",
            "image/png",
            png_with(1, 1, &vec![chunk(*b"fcTL", &[0; 26]); 10_000]),
            "too_many_frames",
        ),
        (
            "a WebP of 10,000 frames",
            "image/webp",
            webp_with(
                &[&[(b"VP8X", vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0])][..], &vec![(b"ANMF", vec![0; 24]); 10_000]].concat(),
            ),
            "too_many_frames",
        ),
        ("a picture of more bytes than are held in memory", "image/png", vast_png(), "too_large"),
    ]
}

fn profiled_jpeg() -> Vec<u8> {
    let segment = joined(&[b"ICC_PROFILE\0\x01\x01", &vec![0; 60_000]]);
    (0..80).fold(jpeg(8, 8), |jpeg, _| with_segment(&jpeg, 0xe2, &segment))
}

fn vast_png() -> Vec<u8> {
    png_with(8, 8, &[chunk(*b"prIv", &vec![0; 70 << 20])])
}

fn two_in_one() -> Vec<Case> {
    let zip = b"PK\x03\x04 and so on PK\x05\x06\0\0\0\0";
    vec![
        ("a JPEG and a ZIP archive", "image/jpeg", joined(&[&jpeg(8, 8), zip]), "polyglot"),
        ("a PNG and a ZIP archive", "image/png", joined(&[&png(8, 8), zip]), "polyglot"),
        ("a GIF and a Java archive", "image/gif", joined(&[&gif(8, 8, 1), zip]), "polyglot"),
        ("a PDF and a ZIP archive", "application/pdf", joined(&[&pdf(), zip]), "polyglot"),
        ("a PNG and a page", "image/png", joined(&[&png(8, 8), b"<html><script>alert(1)</script></html>"]), "polyglot"),
        (
            "a JPEG with a page in its comment",
            "image/jpeg",
            with_segment(&jpeg(8, 8), 0xfe, b"--><script>alert(1)</script>"),
            "polyglot",
        ),
        ("a JPEG with a PDF in its comment", "image/jpeg", with_segment(&jpeg(8, 8), 0xfe, b"%PDF-1.4"), "polyglot"),
        (
            "a GIF that is JavaScript",
            "image/gif",
            joined(&[b"GIF89a", &[b'/', b'*', 1, 0, 0, 0, 0], GIF_FRAME, b";", b"*/=1;alert(1)"]),
            "polyglot",
        ),
        ("a PNG and a program", "image/png", joined(&[&png(8, 8), b"\x7fELF\x02\x01\x01"]), "polyglot"),
        ("a WebP and something else", "image/webp", joined(&[&webp(8, 8), b"something else"]), "polyglot"),
    ]
}

fn not_what_it_says() -> Vec<Case> {
    vec![
        ("a page as PNG", "image/png", b"<!doctype html><script>alert(1)</script>".to_vec(), "type_mismatch"),
        ("a page in UTF-16 as text", "text/plain", b"\xff\xfe<\0h\0t\0m\0l\0>\0".to_vec(), "type_mismatch"),
        ("an SVG as PNG", "image/png", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "type_mismatch"),
        ("a PNG as JPEG", "image/jpeg", png(8, 8), "type_mismatch"),
        ("a program as video", "video/mp4", b"\x7fELF\x02\x01\x01\0".to_vec(), "type_mismatch"),
        ("a program as something unknown", "application/x-thing", b"MZ\x90\0\x03\0".to_vec(), "type_mismatch"),
        ("a list of other files as video", "video/mp4", b"#EXTM3U\nfile:///etc/passwd\n".to_vec(), "type_mismatch"),
        (
            "a list of other files as film of ffmpeg",
            "video/webm",
            b"ffconcat version 1.0\nfile /etc/passwd\n".to_vec(),
            "type_mismatch",
        ),
        (
            "an SVG with script",
            "image/svg+xml",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>".to_vec(),
            "script",
        ),
        ("an SVG that acts when it is loaded", "image/svg+xml", b"<svg onload='alert(1)'/>".to_vec(), "script"),
        (
            "an SVG with an entity",
            "image/svg+xml",
            b"<!DOCTYPE svg [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>".to_vec(),
            "script",
        ),
        ("nothing", "image/png", Vec::new(), "empty"),
    ]
}

fn incomplete() -> Vec<Case> {
    vec![
        ("half a JPEG", "image/jpeg", cut(jpeg(200, 200), 500), "damaged"),
        ("a JPEG without its last byte", "image/jpeg", cut(jpeg(200, 200), 1), "damaged"),
        ("half a PNG", "image/png", cut(png(200, 200), 100), "damaged"),
        ("half a GIF", "image/gif", cut(gif(20, 20, 3), 10), "damaged"),
        ("half a WebP", "image/webp", cut(webp(200, 200), 10), "damaged"),
        ("half a WAV", "audio/wav", cut(wav(), 4_000), "damaged"),
        ("half a PDF", "application/pdf", cut(pdf(), 60), "damaged"),
        ("half an MP4", "video/mp4", cut(film("mp4"), 20_000), "damaged"),
        ("an MP4 of nothing", "video/mp4", b"\0\0\0\x10ftypisom\0\0\0\0".to_vec(), "damaged"),
        ("a JPEG's first bytes", "image/jpeg", b"\xff\xd8\xff\xe0".to_vec(), "damaged"),
        ("a JPEG of two sizes", "image/jpeg", two_sizes(), "damaged"),
        ("a JPEG without pixels", "image/jpeg", jpeg_head(0, 0), "damaged"),
        ("a PNG with the wrong pixels", "image/png", png_with(5_000, 5_000, &[]), "damaged"),
        ("a PNG of noise", "image/png", joined(&[b"\x89PNG\r\n\x1a\n", &[0xa5; 4_000]]), "damaged"),
        ("an MP3 of noise", "audio/mpeg", joined(&[b"ID3\x04\0\0\0\0\0\0", &[0x5a; 4_000]]), "damaged"),
    ]
}

fn two_sizes() -> Vec<u8> {
    let size = [8, 0, 8, 0, 8, 1, 1, 0x11, 0];
    with_segment(&jpeg(8, 8), 0xc0, &size)
}

#[test]
fn what_means_harm_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let previewer = previewer(Settings::default());
    let cases = [too_large(), two_in_one(), not_what_it_says(), incomplete()].concat();
    assert!(cases.len() >= 50, "{}", cases.len());
    for (name, content_type, bytes, code) in cases {
        let began = Instant::now();
        let file = Upload::read_from(bytes.as_slice(), Some(directory.path()), u64::MAX).unwrap();
        let declared = Declared { content_type, size_bytes: None };
        let error = previewer.examine(&file, &declared).expect_err(name);
        let Error::Refused(refusal) = &error else { panic!("{name}: {error:?}") };
        assert_eq!(refusal.code(), code, "{name}: {error}");
        assert!(!error.is_transient(), "{name}");
        // What is wrong, and what to do.
        let text = refusal.to_string();
        assert!(text.contains("; "), "{name}: {text}");
        assert!(began.elapsed() < Duration::from_secs(60), "{name} took {:?}", began.elapsed());
    }
    sizes_that_are_wrong(&previewer, directory.path());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a file is left");
    assert!(children_of(std::process::id()).is_empty(), "a process is left");
}

fn sizes_that_are_wrong(previewer: &Previewer, directory: &std::path::Path) {
    let file = Upload::read_from(png(8, 8).as_slice(), Some(directory), u64::MAX).unwrap();
    let declared = Declared { content_type: "image/png", size_bytes: Some(file.size_bytes + 1) };
    let error = previewer.examine(&file, &declared).unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code() == "size_mismatch"), "{error}");

    let error = Upload::read_from(std::io::repeat(0), Some(directory), 1 << 20).unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code() == "too_large"), "{error}");

    assert_eq!(clean_file_name("../../../etc/cron.d/evil"), "evil");
}
