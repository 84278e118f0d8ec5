//! Pictures, and what looks like pictures.

use std::io::{Cursor, Write};

use flate2::{Compression, Crc, write::ZlibEncoder};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

/// Upper half red, lower half blue, with a slope of green.
pub fn two_halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let green = (x * 100 / width) as u8;
        if y < height / 2 { Rgb([220, green, 20]) } else { Rgb([20, green, 220]) }
    })
}

pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(two_halves(width, height), ImageFormat::Jpeg)
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(two_halves(width, height), ImageFormat::Png)
}

pub fn webp(width: u32, height: u32) -> Vec<u8> {
    encoded(two_halves(width, height), ImageFormat::WebP)
}

pub fn gif(width: u32, height: u32, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    let image = RgbaImage::from_pixel(width, height, Rgba([220, 20, 20, 255]));
    encoder.encode_frames((0..frames).map(|_| Frame::new(image.clone()))).unwrap();
    drop(encoder);
    bytes
}

/// A segment with its marker and length behind the first two bytes of a JPEG.
pub fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// EXIF with an orientation (1–8) and a place on earth.
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    // Two entries: orientation (SHORT), and the address of the GPS directory (LONG).
    tiff.extend_from_slice(b"\x02\0");
    tiff.extend_from_slice(&[0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    tiff.extend_from_slice(&[0x25, 0x88, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0]);
    tiff.extend_from_slice(b"\0\0\0\0");
    // GPS: latitude reference "N", and a date that is easily found again.
    tiff.extend_from_slice(b"\x02\0");
    tiff.extend_from_slice(&[0x01, 0x00, 2, 0, 2, 0, 0, 0, b'N', 0, 0, 0]);
    tiff.extend_from_slice(&[0x1d, 0x00, 2, 0, 11, 0, 0, 0, 68, 0, 0, 0]);
    tiff.extend_from_slice(b"\0\0\0\0");
    tiff.extend_from_slice(b"GPS-CANARY\0");
    [b"Exif\0\0".as_slice(), &tiff].concat()
}

/// One PNG chunk.
pub fn chunk(name: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length, name.as_slice(), data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG with `chunks` between its header and its pixels. It tells a size; there are few pixels.
pub fn png_with(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let pixels = zlib(&vec![0; 64 << 10]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(chunk(*b"IHDR", &header));
    png.extend(chunks.concat());
    png.extend(chunk(*b"IDAT", &pixels));
    png.extend(chunk(*b"IEND", b""));
    png
}

pub fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A RIFF file of WebP chunks.
pub fn webp_with(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, data) in chunks {
        body.extend_from_slice(*name);
        body.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        body.extend_from_slice(data);
        body.extend(vec![0; data.len() % 2]);
    }
    [b"RIFF".as_slice(), &u32::try_from(body.len()).unwrap().to_le_bytes(), &body].concat()
}

/// A GIF's head that tells a size, and nothing after it.
pub fn gif_head(width: u16, height: u16) -> Vec<u8> {
    [b"GIF89a".as_slice(), &width.to_le_bytes(), &height.to_le_bytes(), &[0, 0, 0]].concat()
}

/// A frame of one pixel.
pub const GIF_FRAME: &[u8] = &[0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0x80, 0, 0, 0, 255, 255, 255, 2, 2, 0x44, 1, 0];

/// A JPEG that tells a size.
pub fn jpeg_head(width: u16, height: u16) -> Vec<u8> {
    let size = [&[8][..], &height.to_be_bytes(), &width.to_be_bytes(), &[1, 1, 0x11, 0]].concat();
    let scan = [1, 1, 0, 0, 63, 0];
    let segment = |marker: u8, content: &[u8]| {
        [&[0xff, marker][..], &u16::try_from(content.len() + 2).unwrap().to_be_bytes(), content].concat()
    };
    [&[0xff, 0xd8][..], &segment(0xc0, &size), &segment(0xda, &scan), &[0, 0, 0xff, 0xd9]].concat()
}
