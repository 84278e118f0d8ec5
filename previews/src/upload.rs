//! A file on its way to be looked into: on disk, but without a name.
//!
//! The file has no entry in any directory from its first moment on, so that nothing is left behind, however this process
//! ends. Size and SHA-256 are counted as bytes come in.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Refusal};
use crate::sniff::HEAD_BYTES;

/// Takes a file piece by piece.
pub struct Upload {
    file: File,
    hash: Sha256,
    head: Vec<u8>,
    size_bytes: u64,
    max_bytes: u64,
}

/// A file that has come whole.
#[derive(Debug)]
pub struct Uploaded {
    pub(crate) file: File,
    pub(crate) head: Vec<u8>,
    /// Bytes.
    pub size_bytes: u64,
    /// SHA-256.
    pub sha256: [u8; 32],
}

impl Upload {
    /// An empty file in `directory`, or where the system keeps temporary files, of at most `max_bytes`. The directory needs
    /// room for the file and no more rights than to make one.
    pub fn begin(directory: Option<&Path>, max_bytes: u64) -> Result<Self, Error> {
        let make = || {
            let file = directory.map_or_else(tempfile::tempfile, tempfile::tempfile_in)?;
            // Programs that seek in it open it once more, as a user who doesn't own it. It has no name for others to.
            file.set_permissions(Permissions::from_mode(0o644))?;
            Ok(file)
        };
        let file = make().map_err(Error::system("making a temporary file"))?;
        Ok(Self { file, hash: Sha256::new(), head: Vec::new(), size_bytes: 0, max_bytes })
    }

    /// Adds a piece. Refuses what is longer than may be as soon as that shows. Blocks on the disk.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.size_bytes += piece.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(Refusal::TooLarge { bytes: self.size_bytes, limit: self.max_bytes }.into());
        }
        self.hash.update(piece);
        let missing = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..missing]);
        self.file.write_all(piece).map_err(Error::system("writing a temporary file"))
    }

    /// The file is whole.
    pub fn finish(self) -> Uploaded {
        let sha256 = self.hash.finalize().into();
        Uploaded { file: self.file, head: self.head, size_bytes: self.size_bytes, sha256 }
    }

    /// All that `from` gives, until its end.
    pub fn read_from(mut from: impl Read, directory: Option<&Path>, max_bytes: u64) -> Result<Uploaded, Error> {
        let mut upload = Self::begin(directory, max_bytes)?;
        let mut piece = vec![0; 64 << 10];
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(upload.finish()),
                Ok(read) => upload.write(&piece[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::system("reading an uploaded file")(error)),
            }
        }
    }
}

impl Uploaded {
    /// The file from its beginning, to be stored. Moves the one position that all readers of it share.
    pub fn reader(&mut self) -> io::Result<&mut impl Read> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_hash_are_those_of_what_came() {
        let mut uploaded = Upload::read_from(b"abc".as_slice(), None, 3).unwrap();
        // The example of FIPS 180-2, appendix B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let byte = |at: usize| u8::from_str_radix(&digest[at..at + 2], 16).unwrap();
        assert!(uploaded.sha256.iter().copied().eq((0..64).step_by(2).map(byte)));
        assert_eq!(uploaded.size_bytes, 3);
        let mut back = String::new();
        uploaded.reader().unwrap().read_to_string(&mut back).unwrap();
        assert_eq!(back, "abc");
    }

    #[test]
    fn what_is_too_long_is_refused_when_it_shows() {
        let endless = io::repeat(b'x');
        let refused = Upload::read_from(endless, None, 100_000).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::TooLarge { limit: 100_000, .. })), "{refused}");
    }

    #[test]
    fn the_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut upload = Upload::begin(Some(directory.path()), 10).unwrap();
        upload.write(b"abc").unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
