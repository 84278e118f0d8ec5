//! Whatever comes in, the parent comes out of it.

use crate::shared::media::{pdf, wav};
use crate::shared::pictures::{gif, jpeg, png, webp};
use crate::shared::{previewer, uploaded};
use previews::{Declared, Error, Limits, Settings};
use proptest::prelude::*;

/// Beginnings that send the rest to each decoder.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"GIF89a\x08\0\x08\0\x80\0\0",
    b"RIFF\xff\0\0\0WEBPVP8 ",
    b"RIFF\xff\0\0\0WAVEfmt ",
    b"\0\0\0\x10ftypM4A \0\0\0\0",
    b"\0\0\0\x10ftypisom\0\0\0\0",
    b"\x1a\x45\xdf\xa3\x42\x82\x84webm",
    b"OggS\0\x02",
    b"fLaC\0\0\0\x22",
    b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x64",
    b"%PDF-1.7\n",
    b"<svg ",
];

fn survives(bytes: &[u8]) {
    let limits = Limits { wall_ms: 20_000, ..Settings::default().decoding };
    let previewer = previewer(Settings { decoding: limits, tools: limits, ..Settings::default() });
    let examined = previewer.examine(&uploaded(bytes), &Declared::default());
    // A panic in the child is a bug of ours, even if the parent bears it.
    if let Err(error) = examined {
        assert!(!matches!(error, Error::System { .. }), "{error:?}");
        assert!(!error.to_string().contains("panicked at"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(beginning in 0..BEGINNINGS.len(), rest in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        survives(&[BEGINNINGS[beginning], &rest].concat());
    }

    #[test]
    fn bent_files(which in 0usize..6, bends in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut file = match which {
            0 => jpeg(60, 40),
            1 => png(60, 40),
            2 => webp(60, 40),
            3 => gif(20, 20, 3),
            4 => wav(),
            _ => pdf(),
        };
        for (at, with) in bends {
            let at = at.index(file.len());
            file[at] = with;
        }
        survives(&file);
    }
}
