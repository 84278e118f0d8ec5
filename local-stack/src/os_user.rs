//! The user `PostgreSQL` runs as when we are root, and the folders that user can reach.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, IoContext};
use crate::options::is_root;

/// Another user than ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OsUser {
    pub(crate) name: String,
    uid: u32,
    gid: u32,
}

impl OsUser {
    /// `Some` if we are root and so have to run `PostgreSQL` as somebody else.
    pub(crate) fn needed(name: &str) -> crate::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        // Asked of `id`, since users may come from elsewhere than /etc/passwd (on macOS they do).
        let ask = |flag: &str| {
            let output = Command::new("id")
                .args([flag, name])
                .output()
                .map_err(|source| Error::Spawn { program: "id".to_owned(), source })?;
            // macOS says -2 of nobody.
            let number: Option<i64> = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
            number.map(|number| number as u32).filter(|&id| id != 0).ok_or_else(|| Error::NoSuchUser(name.to_owned()))
        };
        Ok(Some(Self { name: name.to_owned(), uid: ask("-u")?, gid: ask("-g")? }))
    }

    /// Makes a command run as this user, with this user's groups only.
    pub(crate) fn take_on(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn own(&self, path: &Path) -> crate::Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).context("change the owner of", path)
    }

    /// The topmost existing folder on the way to `path` (itself included) that this user cannot pass.
    pub(crate) fn barred_at(&self, path: &Path) -> Option<PathBuf> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        way.into_iter()
            .find(|folder| fs::metadata(folder).is_ok_and(|metadata| metadata.is_dir() && !self.may_pass(&metadata)))
            .map(Path::to_owned)
    }

    fn may_pass(&self, folder: &Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }
}

/// Lets everybody pass a folder of ours, without letting them list it.
pub(crate) fn let_pass(folder: &Path) -> crate::Result<()> {
    let mode = fs::metadata(folder).context("look at", folder)?.mode() & 0o7777;
    fs::set_permissions(folder, Permissions::from_mode(mode | 0o011)).context("change the mode of", folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_in_the_way_is_named() {
        let user = OsUser { name: "somebody".to_owned(), uid: 4_000_000, gid: 4_000_000 };
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a").join("b");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(user.barred_at(&inner), Some(dir.path().to_owned()));
        let_pass(dir.path()).unwrap();
        assert_eq!(user.barred_at(&inner), None);
        assert_eq!(user.barred_at(&inner.join("not there yet")), None);
    }
}
