//! Compression of a batch's records, in the framing that Kafka's consumers expect.

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use runtime::config::Compression;

/// The frame that snappy blocks stand in: name, version, least version that can read it.
const SNAPPY_FRAME: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of a snappy block before compression.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;
/// Higher levels take most of the worker's time and save little.
const ZSTD_LEVEL: i32 = 1;

/// Compresses one batch after another.
pub(super) enum Compressor {
    None,
    Snappy(snap::raw::Encoder),
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy(snap::raw::Encoder::new()),
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }

    /// Its bits in a batch's attributes.
    pub(super) const fn attribute(&self) -> i16 {
        match self {
            Self::None => 0,
            Self::Snappy(_) => 2,
            Self::Lz4 => 3,
            Self::Zstd(_) => 4,
        }
    }

    /// About what so many bytes become.
    pub(super) const fn room_for(&self, bytes: usize) -> usize {
        match self {
            Self::None => bytes,
            Self::Snappy(_) | Self::Lz4 | Self::Zstd(_) => bytes / 2 + 64,
        }
    }

    /// Appends what `input` becomes.
    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Snappy(encoder) => {
                output.extend_from_slice(&SNAPPY_FRAME);
                for block in input.chunks(SNAPPY_BLOCK_BYTES) {
                    let length_at = output.len();
                    let start = length_at + 4;
                    output.resize(start + snap::raw::max_compress_len(block.len()), 0);
                    let length = encoder.compress(block, &mut output[start..])?;
                    output[length_at..start].copy_from_slice(&(length as i32).to_be_bytes());
                    output.truncate(start + length);
                }
            }
            Self::Lz4 => {
                // Java's consumers read independent blocks only.
                let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(frame, output);
                encoder.write_all(input)?;
                encoder.finish()?;
            }
            Self::Zstd(compressor) => {
                let start = output.len();
                output.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
                let length = compressor.compress_to_buffer(input, &mut output[start..])?;
                output.truncate(start + length);
            }
        }
        Ok(())
    }
}
