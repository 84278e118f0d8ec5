use std::io::Read;

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use runtime::config::Compression;

use super::*;

const STAMP: Stamp = Stamp { producer_id: 7, producer_epoch: 3, base_sequence: 41 };

type Parts = (Vec<u8>, Option<Vec<u8>>, i64, Vec<(String, Vec<u8>)>);

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || vec(any::<u8>(), 0..300);
    (bytes(), option::of(bytes()), 0..4_000_000_000_000_i64, vec(("[a-z]{1,9}", vec(any::<u8>(), 0..90)), 0..4))
}

fn gather(records: &[Parts]) -> Gathered {
    let mut gathered = Gathered::default();
    for (key, value, timestamp_ms, headers) in records {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let record = Record { key, value: value.as_deref(), timestamp_ms: *timestamp_ms, headers: &headers };
        gathered.add(&record);
    }
    gathered
}

proptest! {
    /// Another decoder of the format reads what was written.
    #[test]
    fn batches_are_read_as_they_were_written(records in vec(parts(), 1..40)) {
        let mut gathered = gather(&records);
        let mut compressor = Compressor::new(Compression::None).expect("none");
        let batch = gathered.finish(STAMP, &mut compressor).expect("a batch");
        prop_assert_eq!((gathered.count(), gathered.bytes()), (0, 0));
        let read = RecordBatchDecoder::decode(&mut Bytes::from(batch)).expect("a batch").records;
        prop_assert_eq!(read.len(), records.len());
        for (number, (read, (key, value, timestamp_ms, headers))) in read.iter().zip(&records).enumerate() {
            prop_assert!(read.transactional && !read.control);
            prop_assert_eq!((read.producer_id, read.producer_epoch), (7, 3));
            prop_assert_eq!((read.offset, read.sequence), (number as i64, 41 + number as i32));
            prop_assert_eq!(read.timestamp, *timestamp_ms);
            prop_assert_eq!(read.key.as_deref(), Some(key.as_slice()));
            prop_assert_eq!(read.value.as_deref(), value.as_deref());
            // That decoder keeps one header of a name.
            for (name, value) in &read.headers {
                let written = headers.iter().any(|(other, bytes)| other == name.as_str() && Some(bytes.as_slice()) == value.as_deref());
                prop_assert!(written);
            }
        }
    }

    /// What is compressed is what wouldn't have been, in the framing of each codec.
    #[test]
    fn compressed_batches_hold_the_same_records(records in vec(parts(), 1..400)) {
        let finish = |compression| {
            let mut compressor = Compressor::new(compression).expect("a codec");
            gather(&records).finish(STAMP, &mut compressor).expect("a batch")
        };
        let plain = finish(Compression::None);
        for (compression, attribute) in [(Compression::Snappy, 2), (Compression::Lz4, 3), (Compression::Zstd, 4)] {
            let batch = finish(compression);
            prop_assert_eq!(batch[22], attribute | 0x10);
            let read = decompress(compression, &batch[HEADER_BYTES..]);
            prop_assert!(read == plain[HEADER_BYTES..], "{compression:?}");
            let checksum = crc32c::crc32c(&batch[21..]).to_be_bytes();
            prop_assert_eq!(&checksum[..], &batch[17..21]);
            prop_assert_eq!((batch.len() - 12) as i32, i32::from_be_bytes(batch[8..12].try_into().expect("four")));
        }
    }
}

fn decompress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Snappy => {
            assert_eq!(&bytes[..8], b"\x82SNAPPY\0");
            let mut rest = &bytes[16..];
            while let Some((length, following)) = rest.split_first_chunk() {
                let (block, following) = following.split_at(i32::from_be_bytes(*length) as usize);
                out.extend(snap::raw::Decoder::new().decompress_vec(block).expect("a block"));
                rest = following;
            }
        }
        Compression::Lz4 => {
            lz4_flex::frame::FrameDecoder::new(bytes).read_to_end(&mut out).expect("a frame");
        }
        Compression::Zstd => out = zstd::decode_all(bytes).expect("a frame"),
    }
    out
}
