//! Smaller pictures, and pictures without holes.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, Resizer};
use image::{DynamicImage, GrayAlphaImage, GrayImage, RgbImage, RgbaImage};

use crate::error::Refusal;

/// `image` with its long side `side_px`, or as it is if it is no larger.
pub(super) fn shrink(image: DynamicImage, side_px: u32) -> Result<DynamicImage, Refusal> {
    let (width, height) = (image.width(), image.height());
    let long = width.max(height);
    if long <= side_px {
        return Ok(image);
    }
    let scaled = |length: u32| {
        let scaled = (u64::from(length) * u64::from(side_px) + u64::from(long) / 2) / u64::from(long);
        // A hair's breadth is still a pixel.
        u32::try_from(scaled).unwrap_or(side_px).max(1)
    };
    let (small_width, small_height) = (scaled(width), scaled(height));
    let failed = |detail: &str| Refusal::Damaged { detail: format!("it can't be scaled: {detail}") };
    let pixel = match image {
        DynamicImage::ImageLuma8(_) => PixelType::U8,
        DynamicImage::ImageLumaA8(_) => PixelType::U8x2,
        DynamicImage::ImageRgb8(_) => PixelType::U8x3,
        DynamicImage::ImageRgba8(_) => PixelType::U8x4,
        _ => return Err(failed("unexpected pixels")),
    };
    let from = ImageRef::new(width, height, image.as_bytes(), pixel).map_err(|error| failed(&error.to_string()))?;
    let mut to = Image::new(small_width, small_height, pixel);
    Resizer::new().resize(&from, &mut to, None).map_err(|error| failed(&error.to_string()))?;
    let pixels = to.into_vec();
    match pixel {
        PixelType::U8 => GrayImage::from_raw(small_width, small_height, pixels).map(DynamicImage::ImageLuma8),
        PixelType::U8x2 => GrayAlphaImage::from_raw(small_width, small_height, pixels).map(DynamicImage::ImageLumaA8),
        PixelType::U8x3 => RgbImage::from_raw(small_width, small_height, pixels).map(DynamicImage::ImageRgb8),
        _ => RgbaImage::from_raw(small_width, small_height, pixels).map(DynamicImage::ImageRgba8),
    }
    .ok_or_else(|| failed("pixels are missing"))
}

/// What can be a JPEG: transparent parts lie on white, as most drawings with transparency expect.
pub(super) fn flatten(image: DynamicImage) -> DynamicImage {
    fn on_white(colour: u8, alpha: u8) -> u8 {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    }
    match image {
        DynamicImage::ImageLumaA8(image) => {
            let (width, height) = image.dimensions();
            let pixels = image.pixels().map(|pixel| on_white(pixel.0[0], pixel.0[1])).collect();
            GrayImage::from_raw(width, height, pixels)
                .map_or(DynamicImage::ImageLumaA8(image), DynamicImage::ImageLuma8)
        }
        DynamicImage::ImageRgba8(image) => {
            let (width, height) = image.dimensions();
            let colours = image.pixels().flat_map(|pixel| {
                let [red, green, blue, alpha] = pixel.0;
                [on_white(red, alpha), on_white(green, alpha), on_white(blue, alpha)]
            });
            let pixels = colours.collect();
            RgbImage::from_raw(width, height, pixels).map_or(DynamicImage::ImageRgba8(image), DynamicImage::ImageRgb8)
        }
        image => image,
    }
}
