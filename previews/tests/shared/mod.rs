//! What the tests share: a previewer with the test's child, and files made on the spot.

#![allow(dead_code, reason = "not every test program makes every file")]

pub mod media;
pub mod pictures;

use std::path::Path;

use previews::{ChildProgram, Declared, Error, Previewer, Report, Settings, Upload, Uploaded};

pub const CHILD: &str = env!("CARGO_BIN_EXE_preview-child");

/// A previewer whose child is the test's own executable.
pub fn previewer(settings: Settings) -> Previewer {
    Previewer::with_program(ChildProgram::at(Path::new(CHILD)).unwrap(), settings)
}

pub fn uploaded(bytes: &[u8]) -> Uploaded {
    Upload::read_from(bytes, None, u64::MAX).unwrap()
}

/// Examines `bytes` as what they are.
pub fn examine(bytes: &[u8]) -> Result<Report, Error> {
    examine_as(bytes, "")
}

pub fn examine_as(bytes: &[u8], content_type: &str) -> Result<Report, Error> {
    previewer(Settings::default()).examine(&uploaded(bytes), &Declared { content_type, size_bytes: None })
}

/// The processes, dead ones that nobody has asked after included, whose parent is `parent`.
pub fn children_of(parent: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may hold anything, come the state and the parent.
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.split(' ').nth(1) == Some(&parent.to_string())
        })
        .collect()
}
