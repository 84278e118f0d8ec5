//! The vectors that every client's sync core passes (`clients/vectors/sync.json`): what comes over a bad network, and after
//! each thing where each chat's cursor stands, what was shown, and for which chats the client asks.
//!
//! They are made here, from a seed and a model that shares nothing with the code under test. With `WALTALKIE_WRITE_VECTORS=1`
//! the file is written anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;

const CASES: u64 = 48;
/// The first cases have one chat; those after have up to three, and all that can happen to one.
const SIMPLE_CASES: u64 = 24;
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

/// Something that takes one `seq` of a chat or more.
#[derive(Clone, Copy)]
struct Item {
    from: i64,
    to: i64,
    kind: &'static str,
    /// Whose stay it ends.
    leaver: &'static str,
}

impl Item {
    fn is_shown(self) -> bool {
        self.kind.starts_with("me")
    }

    fn frame(self, chat_id: &str) -> Value {
        let Self { from, to, kind, leaver } = self;
        let payload = match kind {
            "skipped" => json!({ "chat_id": chat_id, "from_seq": from, "to_seq": to }),
            "poll_opened" => json!({ "chat_id": chat_id, "seq": from, "question": "?" }),
            "member_left" => json!({
                "chat_id": chat_id, "seq": from, "actor_id": leaver, "occurred_at": "2026-01-01T12:00:00.000Z",
                "memberships": [{ "user_id": leaver, "role": "member", "joined_seq": 1, "left_seq": from, "visible_from_seq": 1 }],
            }),
            _ => {
                let message_seq = if kind == "message" { from } else { from - 1 };
                let deleted = kind == "message_deleted";
                json!({
                    "chat_id": chat_id, "seq": from, "message_id": Uuid::from_u128(message_seq as u128),
                    "message_seq": message_seq, "sender_id": "bob", "actor_id": "bob",
                    "content": (!deleted).then(|| format!("{kind} {from}")),
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

/// One chat: what a client must do, as simply as can be, beside the server's own state.
struct Chat {
    items: Vec<Item>,
    /// Items that the server has sent or lost.
    next: usize,
    start: i64,
    cursor: i64,
    head: i64,
    early: BTreeMap<i64, Item>,
    missing: Option<Missing>,
    /// The last answer was a part, so there is more, whatever the client knows of.
    is_cut: bool,
    /// The client was told of it on its last connection.
    is_known: bool,
}

impl Chat {
    fn new(chance: &mut Chance, leaves: bool) -> Self {
        let start = chance.below(6) as i64;
        let mut items: Vec<Item> = Vec::new();
        let mut from = start + 1;
        for _ in 0..4 + chance.below(10) {
            let after_message = items.last().is_some_and(|item| item.kind == "message");
            let kind = match chance.below(10) {
                0 => "skipped",
                1 => "poll_opened",
                2 if after_message => "message_edited",
                3 if after_message => "message_deleted",
                4 if leaves => "member_left",
                _ => "message",
            };
            let to = if kind == "skipped" { from + chance.below(3) as i64 } else { from };
            items.push(Item { from, to, kind, leaver: "bob" });
            from = to + 1;
        }
        if leaves {
            items.push(Item { from, to: from, kind: "member_left", leaver: "alice" });
        }
        let early = BTreeMap::new();
        Self { items, next: 0, start, cursor: start, head: start, early, missing: None, is_cut: false, is_known: false }
    }

    /// How far the server is.
    fn told(&self) -> i64 {
        if self.next == 0 { self.start } else { self.items[self.next - 1].to }
    }

    fn is_asked(&self) -> bool {
        self.missing.as_ref().is_some_and(|missing| missing.is_asked)
    }

    /// Takes an item in; what is shown for it.
    fn take(&mut self, item: Item) -> Vec<i64> {
        let mut shown = Vec::new();
        if item.to > self.cursor {
            self.head = self.head.max(item.to);
            self.early.insert(item.from, item);
        }
        while let Some(item) = self.early.remove(&(self.cursor + 1)) {
            self.cursor = item.to;
            if item.is_shown() {
                shown.push(item.from);
            }
        }
        shown
    }

    /// The cursor that a client must ask from in this step, null if it must not; nothing where both are right.
    fn asks(&mut self, now_ms: u64, is_new_connection: bool) -> Option<Value> {
        let cursor = self.cursor;
        if self.is_cut {
            return None;
        }
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

/// A client and all of its chats.
struct Model {
    chats: BTreeMap<&'static str, Chat>,
    epoch: u32,
    now_ms: u64,
    steps: Vec<Value>,
}

impl Model {
    fn new(chance: &mut Chance, chats: usize, leaves: bool) -> Self {
        let chats = ["c1", "c2", "c3"].into_iter().take(chats);
        let chats = chats.map(|id| (id, Chat::new(chance, leaves && id != "c1"))).collect();
        let mut model = Self { chats, epoch: 1, now_ms: 0, steps: Vec::new() };
        model.connect(chance, false);
        model
    }

    fn chat(&mut self, id: &str) -> &mut Chat {
        self.chats.get_mut(id).expect("a chat")
    }

    /// Notes a step, and what was shown for it. `must_ask` is a chat that asks whatever is known of it.
    fn note(&mut self, mut step: Value, shown: &[(&str, i64)], must_ask: Option<&str>) {
        let is_new_connection = step.get("connect").is_some();
        let is_over = step.get("disconnect").is_some();
        let (mut cursors, mut resumes) = (Map::new(), Map::new());
        for (id, chat) in &mut self.chats {
            if !chat.is_known {
                continue;
            }
            cursors.insert((*id).to_owned(), chat.cursor.into());
            let asks = if is_over {
                (chat.missing, chat.is_cut) = (None, false);
                Some(Value::Null)
            } else if must_ask == Some(*id) {
                chat.missing = Some(Missing { since_ms: self.now_ms, cursor: chat.cursor, is_asked: true });
                chat.is_cut = true;
                Some(chat.cursor.into())
            } else {
                chat.asks(self.now_ms, is_new_connection)
            };
            if let Some(asks) = asks {
                resumes.insert((*id).to_owned(), asks);
            }
        }
        step["at_ms"] = self.now_ms.into();
        step["cursors"] = cursors.into();
        step["shown"] = json!(shown);
        step["resumes"] = resumes.into();
        self.steps.push(step);
    }

    fn item(&mut self, id: &'static str, item: Item) {
        let shown: Vec<_> = self.chat(id).take(item).into_iter().map(|seq| (id, seq)).collect();
        self.note(json!({ "frame": item.frame(id) }), &shown, None);
    }

    fn next(&mut self, id: &'static str, is_lost: bool) {
        let chat = self.chat(id);
        let item = chat.items[chat.next];
        chat.next += 1;
        if !is_lost {
            self.item(id, item);
        }
    }

    fn heads(&mut self) {
        let mut heads = Map::new();
        for (id, chat) in self.chats.iter_mut().filter(|(_, chat)| chat.is_known) {
            chat.head = chat.head.max(chat.told());
            heads.insert((*id).to_owned(), chat.told().into());
        }
        self.note(json!({ "frame": { "event": "heads", "payload": heads } }), &[], None);
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.note(json!({}), &[], None);
    }

    /// A new connection. Chats that alice left may be told of no more.
    fn connect(&mut self, chance: &mut Chance, forgets: bool) {
        let mut heads = Map::new();
        for (id, chat) in &mut self.chats {
            let has_left =
                chat.next == chat.items.len() && chat.items.last().is_some_and(|item| item.leaver == "alice");
            let is_new = !self.steps.is_empty() && !chat.is_known;
            if is_new || forgets && has_left && chat.cursor == chat.told() && chance.below(2) == 0 {
                chat.is_known = false;
                continue;
            }
            chat.is_known = true;
            chat.head = chat.head.max(chat.told());
            heads.insert((*id).to_owned(), chat.told().into());
        }
        self.note(json!({ "connect": { "epoch": format!("e{}", self.epoch), "heads": heads } }), &[], None);
    }

    /// Another history: every number means something else, so all begin as a new device does.
    fn restore(&mut self) {
        self.epoch += 1;
        for chat in self.chats.values_mut() {
            (chat.cursor, chat.head) = (chat.told(), chat.told());
            chat.early.clear();
        }
    }

    /// The server answers a resume: all that the cursor lacks, in order, or a part of it first.
    fn answer(&mut self, id: &'static str, most: usize) {
        let chat = self.chat(id);
        let from = chat.cursor;
        let items: Vec<Item> = chat.items[..chat.next].iter().copied().filter(|item| item.to > from).collect();
        if items.is_empty() && !chat.is_cut {
            return;
        }
        let complete = items.len() <= most;
        let part = &items[..items.len().min(most)];
        for item in part {
            self.item(id, *item);
        }
        let to = part.last().map_or(from, |item| item.to);
        let payload = json!({ "chat_id": id, "from_seq": from, "to_seq": to, "complete": complete });
        self.chat(id).is_cut = false;
        self.note(json!({ "frame": { "event": "resumed", "payload": payload } }), &[], (!complete).then_some(id));
        // The end of a row of parts: who hasn't forgotten that they asked would ask again.
        if complete && items.is_empty() {
            self.wait(2_500);
        }
    }

    /// All that the server has of a chat that asked, and of one whose answer was a part.
    fn answer_all(&mut self, id: &'static str) {
        if self.chats[id].is_known {
            self.answer(id, usize::MAX);
        }
    }
}

fn case(number: u64) -> Value {
    let mut chance = Chance(number);
    let is_simple = number < SIMPLE_CASES;
    let chats = if is_simple { 1 } else { 1 + (number % 3) as usize };
    let mut model = Model::new(&mut chance, chats, !is_simple && number.is_multiple_of(2));
    let ids: Vec<&'static str> = model.chats.keys().copied().collect();
    let mut restores = u64::from(!is_simple && number % 2 == 1);
    loop {
        let open: Vec<&'static str> = ids
            .iter()
            .copied()
            .filter(|id| model.chats[id].is_known && model.chats[id].next < model.chats[id].items.len())
            .collect();
        if open.is_empty() {
            break;
        }
        let id = open[chance.below(open.len() as u64) as usize];
        model.now_ms += chance.below(20);
        let chat = &model.chats[id];
        let (next, is_asked, is_cut) = (chat.next, chat.is_asked(), chat.is_cut);
        match chance.below(16) {
            // Of a chat whose answer was a part comes nothing until it is answered again.
            _ if is_cut && chance.below(3) > 0 => model.answer(id, 1 + chance.below(3) as usize),
            0 | 1 => model.next(id, true),
            2 if next > 0 && !is_cut => {
                let item = model.chats[id].items[chance.below(next as u64) as usize];
                model.item(id, item);
            }
            3 => model.heads(),
            4 => model.wait([200, 950, 1_000, 2_500][chance.below(4) as usize]),
            5 => {
                model.note(json!({ "disconnect": true }), &[], None);
                model.now_ms += chance.below(5_000);
                if restores > 0 && chance.below(2) == 0 {
                    restores -= 1;
                    model.restore();
                }
                model.connect(&mut chance, !is_simple);
            }
            6..=8 if is_asked && !is_cut => {
                let most = if is_simple { usize::MAX } else { 1 + chance.below(4) as usize };
                model.answer(id, most);
            }
            _ if !is_cut => model.next(id, false),
            _ => {}
        }
    }
    // Every case ends with everything seen: heads, the second after which it is asked for, the answers.
    for id in &ids {
        model.answer_all(id);
    }
    model.heads();
    model.wait(1_000);
    for id in &ids {
        model.answer_all(id);
    }
    model.wait(60_000);
    json!({ "name": format!("network {number}"), "steps": model.steps })
}

/// One step a line, so that a change can be read.
fn text(cases: &[Value]) -> String {
    let about = "What comes to a client over a bad network, and what it must do. See docs/clients.md.";
    let mut text = format!("{{\n\"about\": {},\n\"cases\": [", json!(about));
    for (number, case) in cases.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(text, "{comma}\n{{\"name\": {}, \"steps\": [", case["name"]).expect("memory");
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

/// The cases hold what they are for, whatever the seeds bring.
#[test]
fn the_file_has_everything_that_can_happen() {
    let cases: Vec<Value> = (0..CASES).map(case).collect();
    let steps = || cases.iter().flat_map(|case| case["steps"].as_array().expect("steps"));
    let count = |fits: &dyn Fn(&Value) -> bool| steps().filter(|step| fits(step)).count();
    let is_of_alice = |step: &Value| step["frame"]["payload"]["memberships"][0]["user_id"] == "alice";
    let is_cut = |step: &Value| step["frame"]["payload"]["complete"] == false;
    assert!(count(&|step| step["cursors"].as_object().expect("cursors").len() > 1) > 100, "several chats");
    assert!(count(&is_cut) > 5, "answers in parts");
    let is_end = |step: &Value| {
        let payload = &step["frame"]["payload"];
        payload["complete"] == true && payload["from_seq"] == payload["to_seq"]
    };
    assert!(count(&is_end) > 5, "ends of them, after which nothing is asked for");
    assert!(count(&|step| step["connect"]["epoch"] == "e2") > 2, "another history");
    assert!(count(&is_of_alice) > 4, "alice leaves");
    assert!(count(&|step| step["connect"].is_object()) > CASES as usize, "connections");
    assert!(
        count(&|step| step["resumes"].as_object().expect("resumes").values().any(Value::is_number)) > 50,
        "resumes"
    );
}

#[test]
fn the_load_client_passes_the_vectors() {
    for case in (0..CASES).map(case) {
        let mut alice = Bench::new(Start::Head);
        for step in case["steps"].as_array().expect("steps") {
            alice.seen.clear();
            alice.now_ms = step["at_ms"].as_u64().expect("a time");
            if step.get("disconnect").is_some() {
                alice.session.disconnected();
            } else if let Some(connect) = step.get("connect") {
                alice.session.connected(alice.now_ms);
                alice.receive(&hello_of(connect["epoch"].as_str().expect("an epoch")));
                alice.receive(&chats_of(connect["heads"].as_object().expect("heads")));
            } else if let Some(frame) = step.get("frame") {
                alice.receive(&frame.to_string());
            }
            alice.turn();
            let mut asked = Map::new();
            for frame in alice.take("resume") {
                asked.extend(frame["payload"]["cursors"].as_object().expect("cursors").clone());
            }
            let at = format!("{}: {step}", case["name"]);
            let cursors: Map<String, Value> =
                alice.session.cursors().map(|(id, cursor, _)| (id.to_string(), cursor.into())).collect();
            assert_eq!(Value::from(cursors), step["cursors"], "{at}");
            assert_eq!(json!(shown(&alice.seen)), step["shown"], "{at}");
            for (chat_id, wanted) in step["resumes"].as_object().expect("resumes") {
                assert_eq!(asked.get(chat_id).unwrap_or(&Value::Null), wanted, "{chat_id} of {at}");
            }
        }
    }
}

/// The messages and departures among what a person was shown.
fn shown(seen: &[Observation]) -> Vec<(&str, i64)> {
    let events = seen.iter().filter_map(|what| match what {
        Observation::Event(event) if event.kind.starts_with("me") => Some((&*event.chat_id, event.seq)),
        _ => None,
    });
    events.collect()
}
