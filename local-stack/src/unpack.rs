//! Unpacks what Maven leaves packed, and makes it usable by whoever runs it.

use std::fs::{self, File, Permissions};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::IoContext;

/// Unpacks a `.txz` (tar in xz) into a folder, with permissions and symbolic links.
pub(crate) fn txz(archive: &Path, into: &Path) -> crate::Result<()> {
    let file = File::open(archive).context("open", archive)?;
    // Archives may be several xz streams one after the other.
    let reader = lzma_rust2::XzReader::new(BufReader::new(file), true);
    // The crate keeps entries from leaving the folder.
    tar::Archive::new(reader).unpack(into).context("unpack", archive)
}

/// Lets everybody read a tree, and run what its owner may run: `PostgreSQL` is run by another user than the one who
/// fetched it, whose umask may be strict.
pub(crate) fn open_to_all(path: &Path) -> crate::Result<()> {
    let metadata = fs::symlink_metadata(path).context("look at", path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let wanted = opened(mode, metadata.is_dir());
    if wanted != mode {
        fs::set_permissions(path, Permissions::from_mode(wanted)).context("change the mode of", path)?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).context("read", path)? {
            open_to_all(&entry.context("read", path)?.path())?;
        }
    }
    Ok(())
}

fn opened(mode: u32, folder: bool) -> u32 {
    if folder || mode & 0o100 != 0 { mode | 0o755 } else { mode | 0o644 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    /// `echo hello > bin/greet; chmod 750 bin/greet; ln -s greet bin/alias; tar -cJf x.txz bin`
    const SAMPLE: &[u8] = include_bytes!("../tests/data/sample.txz");

    #[test]
    fn modes_and_links_come_out_of_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("sample.txz");
        File::create(&archive).unwrap().write_all(SAMPLE).unwrap();
        let out = dir.path().join("out");
        txz(&archive, &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("bin/greet")).unwrap(), "hello\n");
        assert_eq!(fs::read_link(out.join("bin/alias")).unwrap(), Path::new("greet"));
        assert_eq!(fs::metadata(out.join("bin/greet")).unwrap().permissions().mode() & 0o777, 0o750);

        open_to_all(&out).unwrap();
        assert_eq!(fs::metadata(out.join("bin/greet")).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn half_an_archive_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("half.txz");
        fs::write(&archive, &SAMPLE[..SAMPLE.len() / 2]).unwrap();
        assert!(txz(&archive, &dir.path().join("out")).is_err());
    }

    #[test]
    fn what_was_closed_is_opened_and_links_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        fs::set_permissions(&plain, Permissions::from_mode(0o600)).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        open_to_all(dir.path()).unwrap();
        assert_eq!(fs::metadata(&plain).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
