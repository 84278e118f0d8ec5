//! Pictures of every kind, and what their previews look like.

use crate::shared::pictures::{encoded, exif, gif, jpeg, png, two_halves, webp, with_segment};
use crate::shared::{examine, previewer, uploaded};
use image::{DynamicImage, GenericImageView, ImageFormat, LumaA, Rgba, RgbaImage};
use previews::{ContentType, Declared, Error, Kind, PictureSettings, Preview, PreviewKind, Report, Settings};

fn sizes(report: &Report) -> Vec<(u32, u32)> {
    report.previews.iter().map(|preview| (preview.width_px, preview.height_px)).collect()
}

fn opened(preview: &Preview) -> DynamicImage {
    assert_eq!(preview.kind, PreviewKind::Picture);
    let image = image::load_from_memory_with_format(&preview.bytes, ImageFormat::Jpeg).unwrap();
    assert_eq!(image.dimensions(), (preview.width_px, preview.height_px));
    image
}

/// Red above or to the left, blue on the other side.
fn colours(image: &DynamicImage, near: (u32, u32), far: (u32, u32)) {
    let Rgba([red, _, blue, _]) = image.get_pixel(near.0, near.1);
    assert!(red > 180 && blue < 80, "not red at {near:?}: {red} {blue}");
    let Rgba([red, _, blue, _]) = image.get_pixel(far.0, far.1);
    assert!(red < 80 && blue > 180, "not blue at {far:?}: {red} {blue}");
}

#[test]
fn each_format_comes_in_two_sizes() {
    for (bytes, content_type) in [
        (jpeg(2_000, 1_500), ContentType::Jpeg),
        (png(2_000, 1_500), ContentType::Png),
        (webp(2_000, 1_500), ContentType::Webp),
    ] {
        let report = examine(&bytes).unwrap();
        assert_eq!((report.content_type, report.kind), (content_type, Kind::Image));
        assert_eq!((report.width_px, report.height_px), (Some(2_000), Some(1_500)));
        assert_eq!(report.size_bytes, bytes.len() as u64);
        assert_eq!(sizes(&report), [(320, 240), (1280, 960)]);
        assert_eq!(report.frames, None);
        assert_eq!(report.notes, []);
        for preview in &report.previews {
            let image = opened(preview);
            colours(&image, (10, 10), (10, preview.height_px - 10));
        }
        let (width, height, pixels) = thumbhash::thumb_hash_to_rgba(&report.thumbhash.unwrap()).unwrap();
        assert!(pixels[0] > pixels[2], "the hash is red above");
        assert!(pixels[(height - 1) * width * 4] < pixels[(height - 1) * width * 4 + 2], "and blue below");
    }
}

#[test]
fn small_and_narrow_pictures_are_not_stretched() {
    assert_eq!(sizes(&examine(&png(200, 100)).unwrap()), [(200, 100)]);
    assert_eq!(sizes(&examine(&png(320, 320)).unwrap()), [(320, 320)]);
    assert_eq!(sizes(&examine(&png(800, 600)).unwrap()), [(320, 240), (800, 600)]);
    assert_eq!(sizes(&examine(&png(5_000, 2)).unwrap()), [(320, 1), (1280, 1)]);
    assert_eq!(sizes(&examine(&png(1, 2)).unwrap()), [(1, 2)]);
}

#[test]
fn every_orientation_is_applied() {
    // Red above in the stored picture; where it is to be seen.
    for (orientation, turned, red, blue) in [
        (1, false, (100, 5), (100, 235)),
        (2, false, (100, 5), (100, 235)),
        (3, false, (100, 235), (100, 5)),
        (4, false, (100, 235), (100, 5)),
        (5, true, (5, 100), (235, 100)),
        (6, true, (235, 100), (5, 100)),
        (7, true, (235, 100), (5, 100)),
        (8, true, (5, 100), (235, 100)),
    ] {
        let report = examine(&with_segment(&jpeg(640, 480), 0xe1, &exif(orientation))).unwrap();
        let size = if turned { (Some(480), Some(640)) } else { (Some(640), Some(480)) };
        assert_eq!((report.width_px, report.height_px), size, "{orientation}");
        let small = if turned { (240, 320) } else { (320, 240) };
        assert_eq!(sizes(&report)[0], small, "{orientation}");
        colours(&opened(&report.previews[0]), red, blue);
    }
}

#[test]
fn no_metadata_is_in_a_preview() {
    let marked = with_segment(&jpeg(640, 480), 0xe1, &exif(6));
    let marked = with_segment(&marked, 0xfe, b"COMMENT-CANARY");
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(has(&marked, b"GPS-CANARY") && has(&marked, b"Exif"));
    let report = examine(&marked).unwrap();
    assert_eq!(report.previews.len(), 2);
    for preview in report.previews {
        for what in [b"GPS-CANARY".as_slice(), b"COMMENT-CANARY", b"Exif", b"ICC_PROFILE", b"http://ns.adobe.com"] {
            assert!(!has(&preview.bytes, what), "{}", String::from_utf8_lossy(what));
        }
    }
}

#[test]
fn what_is_transparent_lies_on_white() {
    let drawing = RgbaImage::from_fn(400, 400, |x, _| Rgba([0, 0, 0, if x < 200 { 0 } else { 255 }]));
    let report = examine(&encoded(drawing, ImageFormat::Png)).unwrap();
    let image = opened(&report.previews[0]);
    assert!(image.get_pixel(50, 50).0[0] > 250 && image.get_pixel(270, 50).0[0] < 5);
    // The hash keeps the holes.
    let (width, height, pixels) = thumbhash::thumb_hash_to_rgba(&report.thumbhash.unwrap()).unwrap();
    let middle = &pixels[height / 2 * width * 4..][..width * 4];
    let alphas: Vec<u8> = middle.iter().skip(3).step_by(4).copied().collect();
    assert!(alphas[width / 8] < 60 && alphas[width * 7 / 8] > 195, "{alphas:?}");

    let grey = image::GrayAlphaImage::from_pixel(400, 400, LumaA([0, 0]));
    let report = examine(&encoded(grey, ImageFormat::Png)).unwrap();
    assert!(opened(&report.previews[0]).get_pixel(9, 9).0[0] > 250);
}

#[test]
fn deep_and_grey_pictures_are_taken() {
    let halves = DynamicImage::from(two_halves(400, 300));
    for deep in [DynamicImage::from(halves.to_rgb16()), DynamicImage::from(halves.to_rgba16())] {
        let report = examine(&encoded(deep, ImageFormat::Png)).unwrap();
        colours(&opened(&report.previews[0]), (10, 10), (10, 230));
    }
    for grey in [DynamicImage::from(halves.to_luma8()), DynamicImage::from(halves.to_luma16())] {
        assert_eq!(sizes(&examine(&encoded(grey, ImageFormat::Png)).unwrap()), [(320, 240), (400, 300)]);
    }
    assert_eq!(sizes(&examine(&encoded(halves.to_luma8(), ImageFormat::Jpeg)).unwrap()), [(320, 240), (400, 300)]);
}

#[test]
fn colours_of_another_space_become_those_of_the_web() {
    // Full green of Display P3 is more than sRGB has: it ends at the edge; half of it is a brighter green in sRGB's numbers.
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let green = image::RgbImage::from_pixel(64, 64, image::Rgb([60, 150, 60]));
    let plain = encoded(green.clone(), ImageFormat::Png);
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::set_icc_profile(&mut encoder, profile).unwrap();
    image::ImageEncoder::write_image(encoder, green.as_raw(), 64, 64, image::ExtendedColorType::Rgb8).unwrap();
    let seen = |bytes: &[u8]| opened(&examine(bytes).unwrap().previews[0]).get_pixel(30, 30).0;
    let (plain, wide) = (seen(&plain), seen(&bytes));
    assert!(plain[0].abs_diff(60) < 6 && plain[1].abs_diff(150) < 6, "{plain:?}");
    assert!(wide[0] < 45 && wide[1] > 148, "{wide:?}");
}

#[test]
fn what_moves_shows_its_first_frame_and_tells_how_many() {
    let report = examine(&gif(400, 300, 5)).unwrap();
    assert_eq!((report.content_type, report.frames), (ContentType::Gif, Some(5)));
    let Rgba([red, _, blue, _]) = opened(&report.previews[0]).get_pixel(50, 50);
    assert!(red > 180 && blue < 80);
    assert_eq!(examine(&gif(40, 30, 1)).unwrap().frames, None);
}

#[test]
fn what_cameras_append_is_taken() {
    let photo = jpeg(64, 48);
    for appended in [photo.as_slice(), b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", b"SEFHe\0\0\0\x02\0\0\0", &[0; 100]] {
        examine(&[&photo, appended].concat()).unwrap();
    }
}

/// A limit that is set is the limit.
#[test]
fn limits_are_those_of_the_settings() {
    let picture = PictureSettings { max_pixels: 10_000, max_frames: 3, ..PictureSettings::default() };
    let previewer = previewer(Settings { picture, ..Settings::default() });
    let refused = |bytes: &[u8]| match previewer.examine(&uploaded(bytes), &Declared::default()) {
        Err(Error::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&png(101, 100)), "it is 101 × 100 pixels, at most 10000 pixels are taken; send it scaled down");
    assert_eq!(
        refused(&gif(10, 10, 4)),
        "its animation has 4 frames or more, at most 3 of this size are taken; send it shorter, or as a video"
    );
    previewer.examine(&uploaded(&gif(10, 10, 3)), &Declared::default()).unwrap();
}
