//! The checker's history: what clients asked for, were told and saw, one JSON line each, on disk.
//!
//! A [`History`] is one file for any number of clients; its lines are in the order in which they were recorded. A thread
//! writes them in groups, each with one fdatasync; [`History::sync`] returns once everything before it is on the disk.
//! [`Recorder`] is the [`Sink`] that turns a client's observations into records.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::frames::Member;
use super::observation::{Observation, Observed, Sink, Via};
use super::outbox::Action;

/// Records that may wait for the disk; those who record wait beyond.
const QUEUE: usize = 16_384;
/// Records in one group.
const GROUP: usize = 4_096;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the history began.
    pub at_us: u64,
    /// Which client; one person may have several.
    pub client: Box<str>,
    /// The person.
    pub user_id: Box<str>,
    /// What kind of line it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is about.
    #[serde(flatten)]
    pub op: Op,
}

/// The four types of Jepsen's histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was asked for: from here on it may happen.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen, and never will.
    Fail,
    /// It may have happened; or something to know that nobody asked for.
    Info,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A send, edit or delete.
    Command {
        /// Identity; of a send its message id.
        op_id: Uuid,
        /// The chat and what is done; on `invoke` only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<What>,
        /// `seq` of the event; on `ok` only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<i64>,
        /// Why not; on `fail`, and on `info` of a refusal for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// The first level of a command's acks (`info`).
    Accepted {
        /// The command.
        op_id: Uuid,
    },
    /// A command's frame went out (`info`).
    Sent {
        /// The command.
        op_id: Uuid,
        /// Earlier times.
        attempt: u32,
    },
    /// An event that was shown to the person (`ok`).
    Receive {
        /// The chat.
        chat_id: Box<str>,
        /// Its place.
        seq: i64,
        /// The frame's name.
        event: String,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<Uuid>,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_seq: Option<i64>,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender_id: Option<Box<str>>,
        /// Of a message that isn't deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// Of joins, leaves and new chats.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        memberships: Vec<Member>,
        /// `live`, `sync` or `inbox`.
        via: Cause,
    },
    /// Seqs that this person isn't shown (`ok`).
    Skipped {
        /// The chat.
        chat_id: Box<str>,
        /// First.
        from_seq: i64,
        /// Last.
        to_seq: i64,
    },
    /// A chat was announced, and its cursor stands here (`info`).
    Chat {
        /// The chat.
        chat_id: Box<str>,
        /// Its head.
        head_seq: i64,
        /// The cursor.
        cursor: i64,
    },
    /// A frame out of place, which the client mended (`info`).
    Anomaly {
        /// The chat.
        chat_id: Box<str>,
        /// The event.
        seq: i64,
        /// `repeated`, `gap` or `late`.
        kind: String,
    },
    /// A connection was opened (`info`).
    Open {
        /// The server's name for it.
        session_id: String,
    },
    /// A connection ended (`info`).
    Close {
        /// Its code; none if it broke.
        code: Option<u16>,
    },
    /// Whatever else a test wants to remember, such as a fault (`info`).
    Note {
        /// For people.
        text: String,
    },
}

/// The chat of a command and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct What {
    /// The chat.
    pub chat_id: Box<str>,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// As it happened.
    Live,
    /// By a resume.
    Sync,
    /// By the inbox.
    Inbox,
}

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

/// The line that an observation becomes; none for what no checker looks at.
pub fn record_of(what: Observation) -> Option<(Kind, Op)> {
    let command = |op_id, seq, code| Op::Command { op_id, what: None, seq, code };
    Some(match what {
        Observation::Invoked(asked) => {
            let what = What { chat_id: (&*asked.chat_id).into(), action: asked.action };
            (Kind::Invoke, Op::Command { op_id: asked.op_id, what: Some(what), seq: None, code: None })
        }
        Observation::Sent { op_id, attempt } => (Kind::Info, Op::Sent { op_id, attempt }),
        Observation::Accepted { op_id } => (Kind::Info, Op::Accepted { op_id }),
        Observation::Persisted { op_id, seq } => (Kind::Ok, command(op_id, seq, None)),
        Observation::Refused { op_id, code } => (Kind::Fail, command(op_id, None, Some(code))),
        Observation::Postponed { op_id, code } => (Kind::Info, command(op_id, None, Some(code))),
        Observation::Unknown { op_id } => (Kind::Info, command(op_id, None, None)),
        Observation::Event(event) => {
            let via = match event.via {
                Via::Live => Cause::Live,
                Via::Sync => Cause::Sync,
            };
            let op = Op::Receive {
                chat_id: (&*event.chat_id).into(),
                seq: event.seq,
                event: event.kind.into_owned(),
                message_id: event.message_id,
                message_seq: event.message_seq,
                sender_id: event.sender_id,
                content: event.content,
                memberships: event.memberships,
                via,
            };
            (Kind::Ok, op)
        }
        Observation::Skipped { chat_id, from_seq, to_seq, .. } => (Kind::Ok, Op::Skipped { chat_id: (&*chat_id).into(), from_seq, to_seq }),
        Observation::Chat { chat_id, head_seq, cursor } => (Kind::Info, Op::Chat { chat_id: (&*chat_id).into(), head_seq, cursor }),
        Observation::Anomaly { chat_id, seq, kind } => {
            (Kind::Info, Op::Anomaly { chat_id: (&*chat_id).into(), seq, kind: format!("{kind:?}").to_lowercase() })
        }
        Observation::Opened { session_id, .. } => (Kind::Info, Op::Open { session_id }),
        Observation::Closed { code } => (Kind::Info, Op::Close { code }),
        Observation::OtherEpoch { epoch } => (Kind::Info, Op::Note { text: format!("epoch is {epoch} now") }),
        Observation::Error { code, message, .. } => (Kind::Info, Op::Note { text: format!("error {code}: {message}") }),
        Observation::ConnectFailed { status, reason } => {
            (Kind::Info, Op::Note { text: format!("no connection: {status:?} {reason}") })
        }
        Observation::InStep
        | Observation::Resuming { .. }
        | Observation::Resumed { .. }
        | Observation::Receipt { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Command;

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
