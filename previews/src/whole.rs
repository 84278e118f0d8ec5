//! Whether a file has come whole, and is only itself, where that takes no decoding: PDF, the MP4 family, WAV and AVI. What
//! is inside is other programs' matter.

use std::io::{self, Read, Seek, SeekFrom};

use crate::ContentType;
use crate::error::Refusal;
use crate::sniff::contains;

/// The end mark stands within this many bytes of the end (ISO 32000, annex H), and so does the index of an archive.
const TAIL_BYTES: u64 = 1024;

/// More boxes at the top than any program writes, fragments of a long recording included.
const MAX_BOXES: u32 = 100_000;

/// Checks `file`, which is of `content_type`.
pub(crate) fn check(file: &mut (impl Read + Seek), content_type: ContentType) -> io::Result<Result<(), Refusal>> {
    let length = file.seek(SeekFrom::End(0))?;
    match content_type {
        ContentType::Pdf => {
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut tail = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut tail)?;
            Ok(check_pdf(&tail))
        }
        ContentType::Mp4 | ContentType::M4a | ContentType::QuickTime | ContentType::Avif => check_boxes(file, length),
        ContentType::Wav | ContentType::Avi => check_riff(file, length),
        _ => Ok(Ok(())),
    }
}

fn check_pdf(tail: &[u8]) -> Result<(), Refusal> {
    if contains(tail, b"PK\x05\x06") {
        return Err(Refusal::Polyglot { found: ContentType::Pdf, other: "a ZIP archive".into() });
    }
    if !contains(tail, b"%%EOF") {
        return Err(damaged("its end is missing"));
    }
    Ok(())
}

/// The boxes at the top of an ISO base media file (ISO/IEC 14496-12) must end where the file does.
fn check_boxes(file: &mut (impl Read + Seek), length: u64) -> io::Result<Result<(), Refusal>> {
    let mut at: u64 = 0;
    for _ in 0..MAX_BOXES {
        if at == length {
            return Ok(Ok(()));
        }
        if length - at < 8 {
            return Ok(Err(damaged("it is cut off")));
        }
        file.seek(SeekFrom::Start(at))?;
        let [size @ .., _, _, _, _] = read::<8>(file)?;
        let (size, least) = match u32::from_be_bytes(size) {
            // To the end of the file.
            0 => return Ok(Ok(())),
            1 if length - at < 16 => return Ok(Err(damaged("it is cut off"))),
            1 => (u64::from_be_bytes(read(file)?), 16),
            size => (u64::from(size), 8),
        };
        if size < least {
            return Ok(Err(damaged("a part of it is shorter than its own head")));
        }
        at = match at.checked_add(size) {
            Some(next) if next <= length => next,
            _ => return Ok(Err(damaged("it is cut off"))),
        };
    }
    Ok(Err(damaged("it has too many parts")))
}

/// A RIFF file says how long it is. One that was recorded into a pipe says 0 or the most there is: then nothing is known.
fn check_riff(file: &mut (impl Read + Seek), length: u64) -> io::Result<Result<(), Refusal>> {
    if length < 12 {
        return Ok(Err(damaged("it is cut off")));
    }
    file.seek(SeekFrom::Start(4))?;
    let told = u32::from_le_bytes(read(file)?);
    let unknown = told == 0 || told >= u32::MAX - 64;
    Ok(if unknown || u64::from(told) + 8 <= length { Ok(()) } else { Err(damaged("it is cut off")) })
}

fn read<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(detail: &str) -> Refusal {
    Refusal::Damaged { detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn checked(content_type: ContentType, bytes: &[u8]) -> Result<(), Refusal> {
        check(&mut Cursor::new(bytes), content_type).unwrap()
    }

    #[test]
    fn a_whole_pdf_ends_with_its_mark_and_is_nothing_else() {
        let pdf = |tail: &[u8]| checked(ContentType::Pdf, tail);
        assert_eq!(pdf(b"startxref\n1\n%%EOF\n"), Ok(()));
        assert!(matches!(pdf(b"startxref\n1\n"), Err(Refusal::Damaged { .. })));
        assert!(matches!(pdf(b"%%EOF\nPK\x05\x06\0\0"), Err(Refusal::Polyglot { .. })));
    }

    #[test]
    fn boxes_end_where_the_file_does() {
        let mp4 = |bytes: &[u8]| checked(ContentType::Mp4, bytes);
        assert_eq!(mp4(b"\0\0\0\x0cftypisom\0\0\0\x08free"), Ok(()));
        assert_eq!(mp4(b"\0\0\0\0mdat and so on"), Ok(()));
        assert_eq!(mp4(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12ab"), Ok(()));
        for cut in [
            b"\0\0\0\x0cftypisom\0\0\0\x09free".as_slice(),
            b"\0\0\0\x0cftypisom\0\0",
            b"\0\0\0\x01mdat",
            b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\0\0\x04ftyp",
        ] {
            assert!(mp4(cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn riff_says_how_long_it_is() {
        let wav = |bytes: &[u8]| checked(ContentType::Wav, bytes);
        assert_eq!(wav(b"RIFF\x04\0\0\0WAVE"), Ok(()));
        assert_eq!(wav(b"RIFF\xff\xff\xff\xffWAVE"), Ok(()));
        assert!(wav(b"RIFF\x05\0\0\0WAVE").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for content_type in [ContentType::Pdf, ContentType::Mp4, ContentType::Wav] {
                let _ = checked(content_type, &bytes);
            }
        }
    }
}
