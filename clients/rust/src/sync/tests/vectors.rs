//! The vectors that every client's sync core passes (`clients/vectors/sync.json`): what comes over a bad network, and after
//! each thing where the cursor stands, what was shown, and whether the client asks for what it misses.
//!
//! They are made here, from a seed and a model that shares nothing with the code under test. With `WALTALKIE_WRITE_VECTORS=1`
//! the file is written anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const CASES: u64 = 32;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/sync.json");

/// Splitmix64 (Steele, Lea, Flood 2014): the same numbers wherever and whenever this runs.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Something that takes one `seq` of the chat or more.
#[derive(Clone, Copy)]
struct Item {
    from: i64,
    to: i64,
    kind: &'static str,
}

impl Item {
    fn is_shown(self) -> bool {
        self.kind.starts_with("message")
    }

    fn frame(self) -> Value {
        let Self { from, to, kind } = self;
        let payload = match kind {
            "skipped" => json!({ "chat_id": "c1", "from_seq": from, "to_seq": to }),
            "poll_opened" => json!({ "chat_id": "c1", "seq": from, "question": "?" }),
            _ => {
                let message_seq = if kind == "message" { from } else { from - 1 };
                let deleted = kind == "message_deleted";
                json!({
                    "chat_id": "c1", "seq": from, "message_id": Uuid::from_u128(message_seq as u128), "message_seq": message_seq,
                    "sender_id": "bob", "actor_id": "bob", "content": (!deleted).then(|| format!("{kind} {from}")),
                    "attachments": [], "file": null, "parent_message_id": null, "parent_seq": null, "app_data": null,
                    "created_at": "2026-01-01T12:00:00.000Z",
                    "edited_at": (kind == "message_edited").then_some("2026-01-01T12:00:05.000Z"),
                    "deleted_at": deleted.then_some("2026-01-01T12:00:09.000Z"),
                })
            }
        };
        json!({ "event": kind, "payload": payload })
    }
}

/// What is missing since when, and whether it was asked for.
struct Missing {
    since_ms: u64,
    cursor: i64,
    is_asked: bool,
}

/// What a client must do, as simply as can be, beside the server's own state.
struct Model {
    cursor: i64,
    head: i64,
    early: BTreeMap<i64, Item>,
    missing: Option<Missing>,
    now_ms: u64,
    steps: Vec<Value>,
}

impl Model {
    /// Notes a step, with all that a client must show for it.
    fn step(&mut self, mut step: Value, item: Option<Item>) {
        let mut shown = Vec::new();
        if let Some(item) = item.filter(|item| item.to > self.cursor) {
            self.head = self.head.max(item.to);
            self.early.insert(item.from, item);
        }
        while let Some(item) = self.early.remove(&(self.cursor + 1)) {
            self.cursor = item.to;
            if item.is_shown() {
                shown.push(item.from);
            }
        }
        let is_new_connection = step.get("connect").is_some();
        let asks = if step.get("disconnect").is_some() {
            self.missing = None;
            Some(Value::Null)
        } else {
            self.asks(is_new_connection)
        };
        step["at_ms"] = self.now_ms.into();
        step["cursor"] = self.cursor.into();
        step["shown"] = shown.into();
        if let Some(asks) = asks {
            step["resumes_from"] = asks;
        }
        self.steps.push(step);
    }

    /// The cursor that a client must ask from in this step, null if it must not; nothing where both are right.
    fn asks(&mut self, is_new_connection: bool) -> Option<Value> {
        let Self { cursor, now_ms, .. } = *self;
        if self.head <= cursor {
            self.missing = None;
            return Some(Value::Null);
        }
        let missing = self.missing.get_or_insert(Missing { since_ms: now_ms, cursor, is_asked: false });
        if missing.is_asked {
            return None;
        }
        if cursor > missing.cursor {
            *missing = Missing { since_ms: now_ms, cursor, is_asked: false };
        }
        missing.is_asked = is_new_connection || !self.early.is_empty() || now_ms - missing.since_ms >= 1_000;
        Some(if missing.is_asked { cursor.into() } else { Value::Null })
    }
}

/// The chat's items after its `head`.
fn history(chance: &mut Chance, head: i64) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut from = head + 1;
    for _ in 0..4 + chance.below(10) {
        let after_message = items.last().is_some_and(|item| item.kind == "message");
        let kind = match chance.below(10) {
            0 => "skipped",
            1 => "poll_opened",
            2 if after_message => "message_edited",
            3 if after_message => "message_deleted",
            _ => "message",
        };
        let to = if kind == "skipped" { from + chance.below(3) as i64 } else { from };
        items.push(Item { from, to, kind });
        from = to + 1;
    }
    items
}

fn case(number: u64) -> Value {
    let mut chance = Chance(number);
    let head = chance.below(6) as i64;
    let items = history(&mut chance, head);
    let mut next = 0;
    let mut model = Model { cursor: head, head, early: BTreeMap::new(), missing: None, now_ms: 0, steps: Vec::new() };
    let told = |next: usize| if next == 0 { head } else { items[next - 1].to };
    while next < items.len() {
        model.now_ms += chance.below(20);
        let is_asked = model.missing.as_ref().is_some_and(|missing| missing.is_asked);
        match chance.below(16) {
            0 | 1 => next += 1,
            2 if next > 0 => {
                let item = items[chance.below(next as u64) as usize];
                model.step(json!({ "frame": item.frame() }), Some(item));
            }
            3 => heads(&mut model, told(next)),
            4 => wait(&mut model, [200, 950, 1_000, 2_500][chance.below(4) as usize]),
            5 => {
                model.step(json!({ "disconnect": true }), None);
                model.now_ms += chance.below(5_000);
                model.head = model.head.max(told(next));
                model.step(json!({ "connect": { "head": told(next) } }), None);
            }
            6..=8 if is_asked => answer(&mut model, &items[..next]),
            _ => {
                let item = items[next];
                next += 1;
                model.step(json!({ "frame": item.frame() }), Some(item));
            }
        }
    }
    // Every case ends with everything seen: a head, the second after which it is asked for, the answer.
    heads(&mut model, told(next));
    wait(&mut model, 1_000);
    answer(&mut model, &items);
    wait(&mut model, 60_000);
    json!({ "name": format!("network {number}"), "head": head, "steps": model.steps })
}

fn heads(model: &mut Model, head: i64) {
    model.head = model.head.max(head);
    model.step(json!({ "frame": { "event": "heads", "payload": { "c1": head } } }), None);
}

fn wait(model: &mut Model, ms: u64) {
    model.now_ms += ms;
    model.step(json!({}), None);
}

/// The server answers a resume: all that the cursor lacks, in order.
fn answer(model: &mut Model, items: &[Item]) {
    let from = model.cursor;
    let Some(last) = items.last().filter(|last| last.to > from) else { return };
    for item in items.iter().filter(|item| item.to > from) {
        model.step(json!({ "frame": item.frame() }), Some(*item));
    }
    let payload = json!({ "chat_id": "c1", "from_seq": from, "to_seq": last.to, "complete": true });
    model.step(json!({ "frame": { "event": "resumed", "payload": payload } }), None);
}

/// One step a line, so that a change can be read.
fn text(cases: &[Value]) -> String {
    let about = "What comes to a client over a bad network, and what it must do. See docs/clients.md.";
    let mut text = format!("{{\n\"about\": {},\n\"cases\": [", json!(about));
    for (number, case) in cases.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(text, "{comma}\n{{\"name\": {}, \"head\": {}, \"steps\": [", case["name"], case["head"])
            .expect("memory");
        for (number, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(text, "{comma}\n  {step}").expect("memory");
        }
        text.push_str("\n]}");
    }
    text.push_str("\n]\n}\n");
    text
}

#[test]
fn the_file_is_what_the_model_says() {
    let cases: Vec<Value> = (0..CASES).map(case).collect();
    if std::env::var_os("WALTALKIE_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, text(&cases)).expect("the file is written");
    }
    let file = std::fs::read_to_string(Path::new(FILE)).expect("clients/vectors/sync.json");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(file["cases"], Value::Array(cases), "write it anew: WALTALKIE_WRITE_VECTORS=1");
}

#[test]
fn the_load_client_passes_the_vectors() {
    for case in (0..CASES).map(case) {
        let mut alice = Bench::new(Start::Head);
        alice.connect(case["head"].as_i64().expect("a head"));
        alice.take("resume");
        for step in case["steps"].as_array().expect("steps") {
            alice.seen.clear();
            alice.now_ms = step["at_ms"].as_u64().expect("a time");
            if step.get("disconnect").is_some() {
                alice.session.disconnected();
            } else if let Some(connect) = step.get("connect") {
                alice.connect(connect["head"].as_i64().expect("a head"));
            } else if let Some(frame) = step.get("frame") {
                alice.receive(&frame.to_string());
            }
            alice.turn();
            let asked = alice.take("resume").first().map(|frame| frame["payload"]["cursors"]["c1"].clone());
            let at = format!("{}: {step}", case["name"]);
            assert_eq!(alice.cursor(), step["cursor"], "{at}");
            assert_eq!(Value::from(shown(&alice.seen)), step["shown"], "{at}");
            if let Some(wanted) = step.get("resumes_from") {
                assert_eq!(asked.unwrap_or_default(), *wanted, "{at}");
            }
        }
    }
}

/// The messages among what a person was shown.
fn shown(seen: &[Observation]) -> Vec<i64> {
    let messages = seen.iter().filter_map(|what| match what {
        Observation::Event(event) if event.kind.starts_with("message") => Some(event.seq),
        _ => None,
    });
    messages.collect()
}
