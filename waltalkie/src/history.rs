//! The checker's history: what clients asked for, were told and saw, one JSON line each, on disk.
//!
//! A [`History`] is one file for any number of clients; its lines are in the order in which they were recorded. A thread
//! writes them in groups, each with one fdatasync; [`History::sync`] returns once everything before it is on the disk.
//! [`Recorder`] is the [`Sink`] that turns a client's observations into records.

mod record;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use waltalkie_client::{Observed, Sink};

pub use record::{Cause, Kind, Op, Record, What, record_of};

/// Records that may wait for the disk; those who record wait beyond.
const QUEUE: usize = 16_384;
/// Records in one group.
const GROUP: usize = 4_096;

enum Line {
    Record(Box<Record>),
    Sync(oneshot::Sender<()>),
}

/// A history that is being written. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct History {
    began: Instant,
    lines: mpsc::Sender<Line>,
}

impl History {
    /// Begins a file anew.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        let (lines, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("history".into()).spawn(move || {
            if let Err(error) = write(file, queue) {
                tracing::error!(error = %error, "the history can't be written");
            }
        })?;
        Ok(Self { began: Instant::now(), lines })
    }

    /// Records one line.
    pub async fn record(&self, at: Instant, client: &str, user_id: &str, kind: Kind, op: Op) {
        let at_us = at.saturating_duration_since(self.began).as_micros() as u64;
        let record = Record { at_us, client: client.into(), user_id: user_id.into(), kind, op };
        let _ = self.lines.send(Line::Record(Box::new(record))).await;
    }

    /// Remembers something that belongs to no client.
    pub async fn note(&self, text: impl Into<String>) {
        self.record(Instant::now(), "", "", Kind::Info, Op::Note { text: text.into() }).await;
    }

    /// Returns once everything recorded before is on the disk; `false` if the disk failed.
    pub async fn sync(&self) -> bool {
        let (done, synced) = oneshot::channel();
        let _ = self.lines.send(Line::Sync(done)).await;
        synced.await.is_ok()
    }

    /// A sink for one client.
    pub fn recorder(&self, client: impl Into<Arc<str>>, user_id: impl Into<Arc<str>>) -> Recorder {
        Recorder { history: self.clone(), client: client.into(), user_id: user_id.into() }
    }
}

fn write(file: File, mut queue: mpsc::Receiver<Line>) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 18, file);
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut synced = Vec::new();
        for line in group.drain(..) {
            match line {
                Line::Record(record) => {
                    serde_json::to_writer(&mut file, &record)?;
                    file.write_all(b"\n")?;
                }
                Line::Sync(done) => synced.push(done),
            }
        }
        file.flush()?;
        file.get_ref().sync_data()?;
        for done in synced {
            let _ = done.send(());
        }
    }
    Ok(())
}

/// Reads a history. A last line that was cut off is left out.
pub fn read(path: &Path) -> std::io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut lines = BufReader::new(File::open(path)?).lines().peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_str(&line?) {
            Ok(record) => records.push(record),
            Err(_) if lines.peek().is_none() => break,
            Err(error) => {
                let place = format!("line {} of {}: {error}", records.len() + 1, path.display());
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, place));
            }
        }
    }
    Ok(records)
}

/// Writes what one client does and sees.
#[derive(Debug, Clone)]
pub struct Recorder {
    history: History,
    client: Arc<str>,
    user_id: Arc<str>,
}

impl Sink for Recorder {
    async fn observe(&mut self, observed: Observed) {
        if let Some((kind, op)) = record_of(observed.what) {
            self.history.record(observed.at, &self.client, &self.user_id, kind, op).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waltalkie_client::{Command, Observation, Via};

    #[tokio::test]
    async fn lines_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        let mut recorder = history.recorder("alice/1", "alice");
        let asked = Command::send(&"c1".into(), "hello");
        let op_id = asked.op_id;
        for what in [
            Observation::Invoked(asked.clone()),
            Observation::Persisted { op_id, seq: Some(7) },
            Observation::Refused { op_id, code: "forbidden".into() },
            Observation::Skipped { chat_id: "c1".into(), from_seq: 1, to_seq: 2, via: Via::Sync },
        ] {
            recorder.observe(Observed { at: Instant::now(), what }).await;
        }
        assert!(history.sync().await);
        let records = read(&path).unwrap();
        let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Ok]);
        let what = Some(What { chat_id: (&*asked.chat_id).into(), action: asked.action });
        assert_eq!(records[0].op, Op::Command { op_id, what, seq: None, code: None });
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 10]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 3, "a line that was cut off isn't one");
    }
}
