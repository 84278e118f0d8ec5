//! The folder `golden/`: what is in it, what its list of digests says, and how a new version gets into it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::samples;
use crate::record;

/// Set to `write`, it makes the files of versions that are missing.
const ASK: &str = "WALTALKIE_GOLDEN";
/// As `sha256sum` writes and checks it.
const LIST: &str = "SHA256SUMS";

/// What to do when a schema has no golden version.
pub(super) const HOW: &str = "If the change is meant, `WALTALKIE_GOLDEN=write cargo test -p waltalkie-schemas golden` writes the files \
                              of the new version; add its number in schemas/src/golden.rs and test again without the \
                              variable. golden/README.md says more.";

/// Files below the folder by path, with slashes.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A written record in the folder.
pub(super) struct Golden {
    pub(super) record: String,
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) datum: Vec<u8>,
    pub(super) json: Value,
}

/// Every golden file and the list of digests, after new ones were made if that was asked for.
pub(super) fn read() -> (Files, String) {
    static WRITTEN: OnceLock<()> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        if std::env::var(ASK).is_ok_and(|word| word == "write") {
            write_missing();
        }
    });
    let mut files = Files::new();
    gather(&folder(), "", &mut files);
    let list = files.remove(LIST).map(|list| String::from_utf8(list).expect(LIST)).unwrap_or_default();
    files.remove("README.md");
    (files, list)
}

/// Every written record among the files.
pub(super) fn records(files: &Files) -> Vec<Golden> {
    let data = files.iter().filter_map(|(path, datum)| path.strip_suffix(".avro").map(|stem| (stem, datum)));
    data.map(|(stem, datum)| {
        let mut parts = stem.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_else(|| panic!("{stem}.avro: not <Record>/<version>/<name>.avro"));
        let (record, version, name) = (part().to_owned(), part().parse().expect(stem), part().to_owned());
        let json = files.get(&format!("{stem}.json")).unwrap_or_else(|| panic!("{stem}.json is missing"));
        Golden { record, version, name, datum: datum.clone(), json: serde_json::from_slice(json).expect(stem) }
    })
    .collect()
}

/// What is in the files and not in the list, or the other way round.
pub(super) fn differences(files: &Files, list: &str) -> Vec<String> {
    let listed: BTreeMap<&str, &str> =
        list.lines().filter_map(|line| line.split_once("  ").map(|(digest, path)| (path, digest))).collect();
    let edited = files.iter().filter_map(|(path, bytes)| match listed.get(path.as_str()) {
        Some(digest) if *digest == digest_of(bytes) => None,
        Some(_) => Some(format!("{path} was edited")),
        None => Some(format!("{path} is not in {LIST}")),
    });
    let missing = listed.keys().filter(|path| !files.contains_key(**path)).map(|path| format!("{path} is gone"));
    edited.chain(missing).collect()
}

/// A schema without its words: two that are equal so are one version.
pub(super) fn without_docs(schema: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.remove("doc");
                object.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema = serde_json::from_str(schema).expect("JSON");
    strip(&mut schema);
    schema
}

fn write_missing() {
    for ((record, schema, _), (name, samples)) in record::all().into_iter().zip(samples::all()) {
        assert_eq!(record, name, "samples are in the order of record::all()");
        let last =
            (1..=u32::MAX).take_while(|version| folder().join(format!("{record}/{version}.avsc")).exists()).last();
        let is_there = last.is_some_and(|version| {
            let newest = fs::read_to_string(folder().join(format!("{record}/{version}.avsc"))).expect(record);
            without_docs(&newest) == without_docs(schema)
        });
        let version = last.unwrap_or(0) + u32::from(!is_there);
        if !is_there {
            write_new(&format!("{record}/{version}.avsc"), schema.as_bytes());
        }
        if folder().join(format!("{record}/{version}")).exists() {
            continue;
        }
        for sample in samples {
            let json = serde_json::to_string_pretty(&sample.json).expect("JSON") + "\n";
            write_new(&format!("{record}/{version}/{}.avro", sample.name), &sample.datum);
            write_new(&format!("{record}/{version}/{}.json", sample.name), json.as_bytes());
        }
    }
}

/// Writes a file that isn't there yet, and its line in the list.
fn write_new(path: &str, bytes: &[u8]) {
    let file = folder().join(path);
    fs::create_dir_all(file.parent().expect("a folder")).expect(path);
    fs::File::create_new(&file).and_then(|mut file| file.write_all(bytes)).expect(path);
    let list = fs::File::options().append(true).create(true).open(folder().join(LIST));
    list.and_then(|mut list| writeln!(list, "{}  {path}", digest_of(bytes))).expect(LIST);
}

fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn gather(folder: &Path, before: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).expect("golden/") {
        let entry = entry.expect("golden/");
        let path = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            gather(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, fs::read(entry.path()).expect("readable"));
        }
    }
}
