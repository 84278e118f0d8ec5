//! A picture's first frame into pixels, and its colours into those that browsers take for granted.

use std::io::Cursor;

use image::codecs::{gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageResult, Limits};
use moxcms::{ColorProfile, Layout, TransformOptions};

use crate::ContentType;
use crate::error::Refusal;
use crate::settings::PictureSettings;

pub(super) struct Decoded {
    /// 8 bits a channel: grey, grey with alpha, RGB, or RGBA.
    pub image: DynamicImage,
    /// How it has to be turned to be upright.
    pub orientation: Orientation,
    /// Its ICC profile.
    pub profile: Option<Vec<u8>>,
}

pub(super) fn decode(bytes: &[u8], content_type: ContentType, settings: &PictureSettings) -> Result<Decoded, Refusal> {
    let damaged = |error: image::ImageError| Refusal::Damaged { detail: error.to_string() };
    let file = Cursor::new(bytes);
    match content_type {
        ContentType::Jpeg => JpegDecoder::new(file).and_then(pixels),
        ContentType::Png => PngDecoder::with_limits(file, limits(settings)).and_then(pixels),
        ContentType::Webp => WebPDecoder::new(file).and_then(pixels),
        ContentType::Gif => GifDecoder::new(file).and_then(pixels),
        _ => return Err(Refusal::Damaged { detail: "its type isn't decoded here".into() }),
    }
    .map_err(damaged)
}

fn limits(settings: &PictureSettings) -> Limits {
    let mut limits = Limits::default();
    // Pixels were counted before. 8 bytes is the most that one takes; the rest is the decoder's own.
    limits.max_alloc = Some(settings.max_pixels.saturating_mul(8).saturating_add(settings.max_metadata_bytes));
    limits
}

fn pixels(mut decoder: impl ImageDecoder) -> ImageResult<Decoded> {
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().unwrap_or_default();
    let image = match DynamicImage::from_decoder(decoder)? {
        image @ (DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageRgb8(_)
        | DynamicImage::ImageRgba8(_)) => image,
        deep if deep.color().has_alpha() => DynamicImage::ImageRgba8(deep.into_rgba8()),
        deep if deep.color().has_color() => DynamicImage::ImageRgb8(deep.into_rgb8()),
        deep => DynamicImage::ImageLuma8(deep.into_luma8()),
    };
    Ok(Decoded { image, orientation, profile })
}

/// Converts colours of another space, Display P3 of phones above all. A profile that can't be used leaves them as they are.
pub(super) fn to_srgb(image: DynamicImage, profile: Option<&[u8]>) -> DynamicImage {
    let Some(profile) = profile.and_then(|profile| ColorProfile::new_from_slice(profile).ok()) else { return image };
    let layout = match image {
        DynamicImage::ImageRgb8(_) => Layout::Rgb,
        DynamicImage::ImageRgba8(_) => Layout::Rgba,
        _ => return image,
    };
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, layout, TransformOptions::default()) else {
        return image;
    };
    let mut converted = image.clone();
    let pixels = match &mut converted {
        DynamicImage::ImageRgb8(pixels) => pixels.as_mut(),
        DynamicImage::ImageRgba8(pixels) => pixels.as_mut(),
        _ => return image,
    };
    match transform.transform(image.as_bytes(), pixels) {
        Ok(()) => converted,
        Err(_) => image,
    }
}
