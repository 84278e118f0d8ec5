//! Record batches of message format 2 (<https://kafka.apache.org/documentation/#recordbatch>).

use super::compress::Compressor;
use super::error::ProduceError;

/// Bytes of a batch before its records.
const HEADER_BYTES: usize = 61;
/// Where the checksum stands; it is of everything after it.
const CHECKSUM_AT: usize = 17;
/// Attribute of a batch that belongs to a transaction.
const TRANSACTIONAL: i16 = 0x10;

/// A record as its sender has it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Record<'_> {
    /// About what it holds in a batch.
    pub(super) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.len() + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// Who writes a batch, and what number its first record has for them in this partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
}

/// Records of one partition that become a batch.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    bytes: Vec<u8>,
    count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl Gathered {
    pub(super) const fn count(&self) -> i32 {
        self.count
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        if self.count == 0 {
            (self.base_timestamp_ms, self.max_timestamp_ms) = (record.timestamp_ms, record.timestamp_ms);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = i64::from(self.count);
        let value_length = record.value.map_or(-1, |value| value.len() as i64);
        let headers_bytes: usize =
            record.headers.iter().map(|(name, value)| with_length(name.len()) + with_length(value.len())).sum();
        let body_bytes = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(offset_delta)
            + with_length(record.key.len())
            + varint_bytes(value_length)
            + record.value.map_or(0, <[u8]>::len)
            + varint_bytes(record.headers.len() as i64)
            + headers_bytes;

        let out = &mut self.bytes;
        out.reserve(body_bytes + 5);
        varint(out, body_bytes as i64);
        out.push(0);
        varint(out, timestamp_delta);
        varint(out, offset_delta);
        bytes(out, record.key);
        varint(out, value_length);
        out.extend_from_slice(record.value.unwrap_or_default());
        varint(out, record.headers.len() as i64);
        for (name, value) in record.headers {
            bytes(out, name.as_bytes());
            bytes(out, value);
        }
        self.count += 1;
    }

    /// The batch of what was gathered, which begins anew.
    pub(super) fn finish(&mut self, stamp: Stamp, compressor: &mut Compressor) -> Result<Vec<u8>, ProduceError> {
        let mut batch = Vec::with_capacity(HEADER_BYTES + compressor.room_for(self.bytes.len()));
        batch.extend_from_slice(&0_i64.to_be_bytes());
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&(TRANSACTIONAL | compressor.attribute()).to_be_bytes());
        batch.extend_from_slice(&(self.count - 1).to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp_ms.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        batch.extend_from_slice(&stamp.producer_id.to_be_bytes());
        batch.extend_from_slice(&stamp.producer_epoch.to_be_bytes());
        batch.extend_from_slice(&stamp.base_sequence.to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        compressor.compress(&self.bytes, &mut batch).map_err(ProduceError::Compression)?;
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&batch[CHECKSUM_AT + 4..]);
        batch[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
        self.bytes.clear();
        self.count = 0;
        // It may wait for its answer with others, and had room for what doesn't compress.
        batch.shrink_to_fit();
        Ok(batch)
    }
}

fn bytes(out: &mut Vec<u8>, part: &[u8]) {
    varint(out, part.len() as i64);
    out.extend_from_slice(part);
}

const fn with_length(length: usize) -> usize {
    varint_bytes(length as i64) + length
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn varint_bytes(value: i64) -> usize {
    let significant = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    significant.div_ceil(7)
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
