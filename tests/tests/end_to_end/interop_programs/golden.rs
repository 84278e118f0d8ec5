//! Records of every version of the history's schema, as they were written then.

use std::fs;

use anyhow::{Context, Result, ensure};
use schemas::golden::versions;
use schemas::{ChatEvent, Record};
use serde_json::Value;
use waltalkie_tests::harness::repository;

/// A golden record.
#[derive(Debug)]
pub struct Golden {
    /// The schema that wrote it.
    pub schema: &'static str,
    /// Its bytes, without a header.
    pub datum: Vec<u8>,
    /// What it says.
    pub says: Value,
}

/// All of them, in the order of their times.
pub fn goldens() -> Result<Vec<Golden>> {
    let folder = repository().join("schemas/golden").join(ChatEvent::NAME);
    let mut goldens = Vec::new();
    for (number, schema) in (1..).zip(versions(ChatEvent::NAME)) {
        let before = goldens.len();
        for entry in fs::read_dir(folder.join(number.to_string()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "avro") {
                let says = fs::read_to_string(path.with_extension("json"))?;
                goldens.push(Golden { schema, datum: fs::read(&path)?, says: serde_json::from_str(&says)? });
            }
        }
        ensure!(goldens.len() > before, "version {number} has no records");
    }
    goldens.sort_by_key(Golden::occurred_at);
    Ok(goldens)
}

impl Golden {
    /// Its chat.
    pub fn chat_id(&self) -> Result<&str> {
        self.says["chat_id"].as_str().context("no chat_id")
    }

    /// Its time in milliseconds.
    pub fn occurred_at(&self) -> i64 {
        self.says["occurred_at"].as_i64().unwrap_or_default()
    }
}
