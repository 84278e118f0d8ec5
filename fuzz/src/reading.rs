//! All that the worker does with the bytes of one message, without I/O. Both the fuzz target and a unit test of
//! `cdc-worker` include this file.

use cdc_worker::mapping::{Change, Mapping};
use cdc_worker::pgoutput::{self, Message, Tuple};
use cdc_worker::record::{Batch, Writer};
use schemas::{ChatEvent, Origin};

/// Messages that a server sent, each in a file `<kind>-<what>`.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/pgoutput");

/// What became of a message that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A message of this kind that makes no record.
    Passed(&'static str),
    /// A row that becomes records, so many.
    Written(usize),
    /// A row of a table that makes no events.
    Foreign,
}

/// Reads messages, each as if the seeds' tables had just been described.
pub struct Reading {
    writer: Writer,
    seeds: Vec<Seed>,
}

/// A message that a server sent.
pub struct Seed {
    /// Its file's name.
    pub name: String,
    /// The message.
    pub bytes: Vec<u8>,
}

impl Seed {
    /// What kind of message it is.
    pub fn kind(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }
}

impl Reading {
    /// Ready to read, with the seeds in the order of their names.
    pub fn new() -> std::io::Result<Self> {
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(SEEDS)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            seeds.push(Seed { name, bytes: std::fs::read(&path)? });
        }
        seeds.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { writer: Writer::new(1, 2), seeds })
    }

    /// The seeds.
    pub fn seeds(&self) -> &[Seed] {
        &self.seeds
    }

    fn mapping(&self) -> Mapping {
        let mut mapping = Mapping::default();
        for seed in self.seeds.iter().filter(|seed| seed.kind() == "relation") {
            if let Ok(Message::Relation(relation)) = pgoutput::decode(&seed.bytes) {
                let _ = mapping.learn(&relation);
            }
        }
        mapping
    }

    /// Reads one message as far as it goes. What it says of a table is then held against the rows of the seeds.
    pub fn read(&self, bytes: &[u8]) -> Result<Read, String> {
        match pgoutput::decode(bytes).map_err(|error| error.to_string())? {
            Message::Insert { relation_id, tuple } => self.row(&self.mapping(), relation_id, tuple),
            Message::Relation(relation) => {
                assert!(relation.columns.len() <= bytes.len(), "more columns than bytes");
                let mut mapping = self.mapping();
                mapping.learn(&relation).map_err(|error| error.to_string())?;
                for row in self.seeds.iter().filter(|seed| seed.kind() == "insert") {
                    if let Ok(Message::Insert { tuple, .. }) = pgoutput::decode(&row.bytes) {
                        let _ = self.row(&mapping, relation.id, tuple);
                    }
                }
                Ok(Read::Passed("relation"))
            }
            Message::Truncate { relation_ids } => {
                assert!(relation_ids.len() <= bytes.len(), "more tables than bytes");
                Ok(Read::Passed("truncate"))
            }
            Message::Begin { .. } => Ok(Read::Passed("begin")),
            Message::Commit { .. } => Ok(Read::Passed("commit")),
            Message::Origin { .. } => Ok(Read::Passed("origin")),
            Message::Type { .. } => Ok(Read::Passed("type")),
            Message::Update { .. } => Ok(Read::Passed("update")),
            Message::Delete { .. } => Ok(Read::Passed("delete")),
            Message::Logical { content, .. } => {
                assert!(content.len() <= bytes.len(), "more content than bytes");
                Ok(Read::Passed("logical"))
            }
        }
    }

    fn row(&self, mapping: &Mapping, relation_id: u32, tuple: Tuple<'_>) -> Result<Read, String> {
        for value in tuple.values() {
            value.map_err(|error| error.to_string())?;
        }
        if mapping.table(relation_id).map_err(|error| error.to_string())?.is_none() {
            return Ok(Read::Foreign);
        }
        let origin = Origin { shard: 0, commit_lsn: 1, ordinal: 1 };
        let key = mapping.key(relation_id, tuple);
        let change = mapping.change(relation_id, tuple, origin).map_err(|error| error.to_string())?;
        assert!(key.is_ok(), "a row that can be read has a key that can't");
        let mut batch = Batch::default();
        let outcome = self.writer.write(change, &mut batch);
        if let Ok(Change::Send { row, origin }) = mapping.change(relation_id, tuple, origin) {
            self.both_ways(row.into_event(origin).ok(), outcome.is_ok().then_some(&batch));
        }
        outcome.map_err(|error| error.to_string())?;
        Ok(Read::Written(batch.len()))
    }

    /// A send goes straight to its bytes. They are those of its event.
    fn both_ways(&self, event: Option<ChatEvent>, written: Option<&Batch>) {
        let mut batch = Batch::default();
        let is_made = event.is_some_and(|event| self.writer.write(Change::Event(Box::new(event)), &mut batch).is_ok());
        assert_eq!(is_made, written.is_some(), "one way takes what the other refuses");
        if let Some(written) = written {
            assert!(written.iter().eq(batch.iter()), "two ways, two records");
        }
    }
}
