//! What a registry said, kept in a folder for a start without it.
//!
//! One small file a fact: the id of a subject's schema, or the schema of an id. Facts are told apart by the registry's address, and
//! written beside and renamed, so that processes can share the folder and a crash leaves the old fact or the new one. What can't be
//! read or written is as if it weren't there: nothing depends on it while the registry answers.

use std::io;
use std::path::PathBuf;
use std::{fs, process};

/// Most files in the folder. A handful is what an installation has; the rest is left to be asked for.
const MOST: usize = 500;
/// Longest fact that is kept or believed.
const LONGEST: u64 = 1 << 20;

/// The folder, for one registry.
pub(super) struct Kept {
    folder: PathBuf,
    /// Address of the registry, without credentials.
    registry: String,
}

impl Kept {
    pub(super) fn new(folder: PathBuf, registry: String) -> Self {
        Self { folder, registry }
    }

    /// The id that a schema had under a subject.
    pub(super) fn id(&self, subject: &str, schema: &str) -> Option<u32> {
        let (name, head) = self.id_file(subject, schema);
        self.read(&name, &head)?.trim().parse().ok()
    }

    pub(super) fn keep_id(&self, subject: &str, schema: &str, id: u32) {
        let (name, head) = self.id_file(subject, schema);
        self.write(&name, &head, &id.to_string());
    }

    /// The schema that an id stood for.
    pub(super) fn schema(&self, id: u32) -> Option<String> {
        let (name, head) = self.schema_file(id);
        self.read(&name, &head)
    }

    pub(super) fn keep_schema(&self, id: u32, schema: &str) {
        let (name, head) = self.schema_file(id);
        self.write(&name, &head, schema);
    }

    /// Name of the file, and its first line: two facts whose names are equal by chance are told apart by that.
    fn id_file(&self, subject: &str, schema: &str) -> (String, String) {
        let head = format!("{} {subject} {schema}", self.registry).replace(['\n', '\r'], " ");
        (format!("id-{:016x}", digest(&head)), head)
    }

    fn schema_file(&self, id: u32) -> (String, String) {
        let head = format!("{} {id}", self.registry);
        (format!("schema-{:016x}", digest(&head)), head)
    }

    fn read(&self, name: &str, head: &str) -> Option<String> {
        let path = self.folder.join(name);
        let is_short = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= LONGEST);
        let text = is_short.then(|| fs::read_to_string(&path).ok()).flatten()?;
        Some(text.strip_prefix(head)?.strip_prefix('\n')?.to_owned())
    }

    fn write(&self, name: &str, head: &str, fact: &str) {
        if self.read(name, head).as_deref() == Some(fact) || (head.len() + fact.len()) as u64 >= LONGEST {
            return;
        }
        if let Err(error) = self.try_write(name, &format!("{head}\n{fact}")) {
            tracing::warn!(folder = %self.folder.display(), %error, "registry.cache_dir can't be written to");
        }
    }

    fn try_write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(name);
        if !path.exists() && fs::read_dir(&self.folder)?.count() >= MOST {
            return Err(io::Error::other(format!("it has {MOST} files; empty it")));
        }
        // Of this very writer: processes, and clients of one process, write side by side.
        let beside = self.folder.join(format!("{name}.{}-{:p}.new", process::id(), self));
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

/// FNV-1a. It only names files, and must be the same in every version of this program.
fn digest(text: &str) -> u64 {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(folder: &tempfile::TempDir, registry: &str) -> Kept {
        Kept::new(folder.path().join("ids"), registry.to_owned())
    }

    #[test]
    fn facts_are_found_again_by_who_asks_the_same_registry() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = kept(&folder, "http://a/");
        assert_eq!((here.id("s", "{}"), here.schema(7)), (None, None));
        here.keep_id("s", "{}", 7);
        here.keep_schema(7, "{\n}");
        let again = kept(&folder, "http://a/");
        assert_eq!((again.id("s", "{}"), again.schema(7).as_deref()), (Some(7), Some("{\n}")));
        assert_eq!((again.id("s", "{ }"), again.id("t", "{}"), again.schema(8)), (None, None, None));
        let elsewhere = kept(&folder, "http://b/");
        assert_eq!((elsewhere.id("s", "{}"), elsewhere.schema(7)), (None, None));
        again.keep_id("s", "{}", 9);
        assert_eq!(here.id("s", "{}"), Some(9));
        assert_eq!(fs::read_dir(folder.path().join("ids")).expect("the folder").count(), 2, "nothing is left beside");
    }

    #[test]
    fn what_is_damaged_or_too_much_is_as_if_it_were_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = kept(&folder, "http://a/");
        kept.keep_id("s", "{}", 7);
        let (name, head) = kept.id_file("s", "{}");
        for damage in [String::new(), head.clone(), format!("{head}\nx"), format!("another\n{head}\n7")] {
            fs::write(folder.path().join("ids").join(&name), &damage).expect("damaged");
            assert_eq!(kept.id("s", "{}"), None, "{damage}");
        }
        kept.keep_schema(1, &"x".repeat(LONGEST as usize));
        assert_eq!(kept.schema(1), None);
        for id in 0..MOST as u32 + 5 {
            kept.keep_schema(id, "{}");
        }
        assert_eq!(fs::read_dir(folder.path().join("ids")).expect("the folder").count(), MOST);
        // No folder at all: nothing is kept, and nobody fails.
        let nowhere = Kept::new(folder.path().join("ids").join(&name), "http://a/".to_owned());
        nowhere.keep_id("s", "{}", 7);
        assert_eq!(nowhere.id("s", "{}"), None);
    }
}
