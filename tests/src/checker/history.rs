//! From the load clients' histories to the checker's own records.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use waltalkie::history::{self, Kind, Op};
use waltalkie_client::Action;

use super::{Observer, Record, Seen};

/// One observer for each client of a history.
pub fn observers_of(lines: &[history::Record]) -> Vec<Observer> {
    let mut observers: BTreeMap<&str, Observer> = BTreeMap::new();
    let mut sends: HashMap<Uuid, String> = HashMap::new();
    for line in lines.iter().filter(|line| !line.client.is_empty()) {
        let observer = observers.entry(&line.client).or_insert_with(|| Observer {
            name: line.client.to_string(),
            user_id: line.user_id.to_string(),
            records: Vec::new(),
        });
        observer.records.extend(record_of(line, &mut sends));
    }
    observers.into_values().collect()
}

fn record_of(line: &history::Record, sends: &mut HashMap<Uuid, String>) -> Option<Record> {
    match &line.op {
        Op::Open { .. } => Some(Record::Opened),
        Op::Chat { chat_id, cursor, .. } => Some(Record::Starts { chat_id: chat_id.to_string(), seq: *cursor }),
        Op::Command { op_id, what: Some(what), .. } => {
            if matches!(what.action, Action::Send { .. }) {
                sends.insert(*op_id, what.chat_id.to_string());
            }
            None
        }
        Op::Command { op_id, what: None, seq, code } => {
            let (chat_id, message_id) = (sends.get(op_id)?.clone(), op_id.to_string());
            match (line.kind, seq) {
                (Kind::Ok, Some(seq)) => Some(Record::Acked { chat_id, message_id, seq: *seq }),
                (Kind::Fail, _) => Some(Record::Failed { message_id }),
                // A refusal for now has a code; the end of the client has none.
                (Kind::Info, _) if code.is_none() => Some(Record::Unknown { message_id }),
                _ => None,
            }
        }
        Op::Receive { chat_id, seq, event, message_id, message_seq, content, .. } => Some(Record::Seen(Seen {
            chat_id: chat_id.to_string(),
            seq: *seq,
            to_seq: *seq,
            frame: event.clone(),
            message_id: message_id.map(|id| id.to_string()),
            message_seq: *message_seq,
            content: content.clone(),
        })),
        Op::Skipped { chat_id, from_seq, to_seq } => Some(Record::Seen(Seen {
            chat_id: chat_id.to_string(),
            seq: *from_seq,
            to_seq: *to_seq,
            frame: "skipped".into(),
            ..Seen::default()
        })),
        Op::Anomaly { chat_id, seq, kind } => {
            Some(Record::Mended { chat_id: chat_id.to_string(), seq: *seq, kind: kind.clone() })
        }
        Op::Accepted { .. } | Op::Sent { .. } | Op::Close { .. } | Op::Note { .. } => None,
    }
}

/// How many lines of a history are of a kind.
pub fn count(lines: &[history::Record], is: impl Fn(&Op) -> bool) -> usize {
    lines.iter().filter(|line| is(&line.op)).count()
}
