mod vectors;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::observation::Anomaly;

fn message(seq: i64) -> String {
    let payload = json!({
        "chat_id": "c1", "seq": seq, "message_id": Uuid::from_u128(seq as u128), "message_seq": seq,
        "sender_id": "bob", "actor_id": "bob", "content": format!("message {seq}"), "attachments": [],
    });
    json!({ "event": "message", "payload": payload }).to_string()
}

fn hello() -> String {
    hello_of("e1")
}

fn hello_of(epoch: &str) -> String {
    let payload = json!({ "session_id": "s", "user_id": "alice", "heartbeat_ms": 5_000, "epoch": epoch,
        "limits": { "content_bytes": 16_384, "frame_bytes": 65_536 } });
    json!({ "event": "hello", "payload": payload }).to_string()
}

fn chats(head: i64) -> String {
    chats_of(&serde_json::Map::from_iter([("c1".to_owned(), head.into())]))
}

fn chats_of(heads: &serde_json::Map<String, Value>) -> String {
    let chat = |(id, head)| json!({ "chat_id": id, "head_seq": head, "delivered_seq": 0, "read_seq": 0, "visible": [[1, null]] });
    let chats: Vec<Value> = heads.iter().map(chat).collect();
    json!({ "event": "chats", "payload": { "chats": chats, "complete": true } }).to_string()
}

fn resumed(from: i64, to: i64, complete: bool) -> String {
    let payload = json!({ "chat_id": "c1", "from_seq": from, "to_seq": to, "complete": complete });
    json!({ "event": "resumed", "payload": payload }).to_string()
}

struct Bench {
    session: Session,
    now_ms: u64,
    frames: Vec<Value>,
    seen: Vec<Observation>,
}

impl Bench {
    fn new(start: Start) -> Self {
        let habits = Habits { start, ..Habits::default() };
        Self { session: Session::new("alice", habits), now_ms: 0, frames: Vec::new(), seen: Vec::new() }
    }

    fn connect(&mut self, head: i64) {
        self.session.connected(self.now_ms);
        self.receive(&hello());
        self.receive(&chats(head));
    }

    fn receive(&mut self, frame: &str) {
        self.session.receive(frame, self.now_ms, 0.5);
        self.turn();
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.turn();
    }

    fn turn(&mut self) {
        self.session.tick(self.now_ms);
        while let Some(output) = self.session.pop() {
            match output {
                Output::Frame(text) => self.frames.push(serde_json::from_str(&text).expect("JSON")),
                Output::Observe(what) => self.seen.push(what),
                _ => {}
            }
        }
    }

    fn take(&mut self, event: &str) -> Vec<Value> {
        self.frames.extract_if(.., |frame| frame["event"] == event).collect()
    }

    /// What the person was shown, as seqs.
    fn shown(&self) -> Vec<i64> {
        let mut seqs = Vec::new();
        for what in &self.seen {
            match what {
                Observation::Event(event) => seqs.push(event.seq),
                Observation::Skipped { from_seq, to_seq, .. } => seqs.extend(*from_seq..=*to_seq),
                _ => {}
            }
        }
        seqs
    }

    fn cursor(&self) -> i64 {
        self.session.cursors().next().map_or(0, |(_, cursor, _)| cursor)
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        let kinds = self.seen.iter().filter_map(|what| match what {
            Observation::Anomaly { kind, .. } => Some(*kind),
            _ => None,
        });
        kinds.collect()
    }
}

#[test]
fn a_new_device_begins_at_the_head_and_shows_what_comes() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(4);
    alice.receive(&message(5));
    alice.receive(&message(6));
    assert_eq!(alice.shown(), [5, 6]);
    assert!(alice.anomalies().is_empty() && alice.take("resume").is_empty());
}

#[test]
fn a_jump_resumes_at_once_and_a_head_after_a_second() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(4);
    alice.receive(&message(7));
    assert_eq!(alice.take("resume")[0]["payload"], json!({ "cursors": { "c1": 4 }, "epoch": "e1" }));
    for seq in [5, 6, 7] {
        alice.receive(&message(seq));
    }
    alice.receive(&resumed(4, 7, true));
    assert_eq!((alice.shown(), alice.anomalies()), (vec![5, 6, 7], vec![Anomaly::Gap]));
    alice.receive(r#"{"event":"heads","payload":{"c1":9,"other":3}}"#);
    alice.pass(999);
    assert!(alice.take("resume").is_empty());
    alice.pass(1);
    assert_eq!(alice.take("resume")[0]["payload"]["cursors"], json!({ "c1": 7 }));
    alice.receive(&message(8));
    alice.receive(&resumed(7, 8, false));
    assert_eq!(alice.take("resume")[0]["payload"]["cursors"], json!({ "c1": 8 }));
}

#[test]
fn an_answered_resume_is_forgotten_and_a_later_head_asks_in_time() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(3);
    alice.receive(&message(7));
    alice.receive(&message(5));
    for seq in 4..=6 {
        alice.receive(&message(seq));
    }
    // The page ended before what had come live: the cursor is at the head already, and the rest is nothing.
    alice.receive(&resumed(3, 6, false));
    alice.receive(&resumed(7, 7, true));
    assert_eq!(alice.cursor(), 7);
    alice.take("resume");
    alice.pass(1_000);
    assert!(alice.take("resume").is_empty(), "nothing is missing");
    alice.receive(r#"{"event":"heads","payload":{"c1":8}}"#);
    alice.pass(1_000);
    assert_eq!(alice.take("resume")[0]["payload"]["cursors"], json!({ "c1": 7 }));
}

#[test]
fn an_ack_never_moves_the_cursor_and_an_unknown_event_does() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(4);
    let command = Command::send(&"c1".into(), "hi");
    let op_id = command.op_id;
    alice.session.command(command);
    alice.turn();
    assert_eq!(alice.take("send_message")[0]["payload"]["message_id"], json!(op_id));
    let ack = |state, seq: Option<i64>| {
        json!({ "event": "ack", "id": op_id, "payload": { "state": state, "seq": seq } }).to_string()
    };
    alice.receive(&ack("accepted", None));
    alice.receive(&ack("persisted", Some(5)));
    assert_eq!((alice.cursor(), alice.session.pending()), (4, 0));
    assert!(alice.seen.ends_with(&[Observation::Accepted { op_id }, Observation::Persisted { op_id, seq: Some(5) },]));
    alice.receive(r#"{"event":"poll_opened","payload":{"chat_id":"c1","seq":5,"question":"?"}}"#);
    alice.receive(r#"{"event":"skipped","payload":{"chat_id":"c1","from_seq":6,"to_seq":9}}"#);
    assert_eq!((alice.cursor(), alice.shown()), (9, vec![5, 6, 7, 8, 9]));
}

#[test]
fn commands_wait_for_a_connection_in_step_and_survive_it() {
    let mut alice = Bench::new(Start::Head);
    let chat_id: Arc<str> = "c1".into();
    let sends: Vec<Command> = (0..3).map(|number| Command::send(&chat_id, number.to_string())).collect();
    for command in &sends {
        alice.session.command(command.clone());
    }
    alice.turn();
    assert!(alice.frames.is_empty());
    alice.connect(0);
    let ids = |frames: Vec<Value>| -> Vec<Value> { frames.into_iter().map(|frame| frame["id"].clone()).collect() };
    let all: Vec<Value> = sends.iter().map(|command| json!(command.op_id)).collect();
    assert_eq!(ids(alice.take("send_message")), all);
    alice.receive(&json!({ "event": "ack", "id": all[0], "payload": { "state": "persisted", "seq": 1 } }).to_string());
    alice.session.disconnected();
    alice.connect(1);
    assert_eq!(ids(alice.take("send_message")), all[1..]);
    let refusal = json!({ "code": "forbidden", "message": "no", "temporary": false });
    alice.receive(&json!({ "event": "error", "id": all[1], "payload": refusal }).to_string());
    assert_eq!(alice.take("discard_message")[0]["payload"]["message_id"], all[1]);
    alice.session.end();
    alice.turn();
    assert_eq!(alice.seen.last(), Some(&Observation::Unknown { op_id: sends[2].op_id }));
}

#[test]
fn marks_leave_once_a_second_and_not_for_a_chat_that_was_left() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(0);
    alice.receive(&message(1));
    alice.receive(&message(2));
    assert_eq!(alice.take("mark_delivered")[0]["payload"]["marks"], json!({ "c1": 1 }));
    alice.pass(1_000);
    assert_eq!(alice.take("mark_delivered")[0]["payload"]["marks"], json!({ "c1": 2 }));
    let gone = json!({ "user_id": "alice", "role": "member", "joined_seq": 1, "left_seq": 3, "visible_from_seq": 1 });
    let left = json!({ "chat_id": "c1", "seq": 3, "actor_id": "bob", "memberships": [gone] });
    alice.receive(&json!({ "event": "member_left", "payload": left }).to_string());
    alice.pass(2_000);
    assert!(alice.take("mark_delivered").is_empty());
}

#[test]
fn what_was_read_is_told_over_connections_but_not_of_another_epoch_or_a_chat_that_was_left() {
    let mut alice = Bench::new(Start::Head);
    let chat_id: Arc<str> = "c1".into();
    alice.connect(9);
    alice.session.mark_read(&chat_id, 4);
    alice.turn();
    assert_eq!(alice.take("mark_read")[0]["payload"]["marks"], json!({ "c1": 4 }));
    alice.session.mark_read(&chat_id, 5);
    alice.turn();
    assert!(alice.take("mark_read").is_empty(), "two in a second");
    alice.session.disconnected();
    alice.pass(1_000);
    alice.connect(9);
    assert_eq!(alice.take("mark_read")[0]["payload"]["marks"], json!({ "c1": 5 }));
    // It has arrived, as the server tells.
    alice.session.disconnected();
    alice.pass(1_000);
    alice.session.connected(alice.now_ms);
    alice.receive(&hello());
    alice.receive(&chats(9).replace("\"read_seq\":0", "\"read_seq\":5"));
    assert!(alice.take("mark_read").is_empty(), "the server has it");
    // The person is taken out of the chat while the device is away, and comes back.
    alice.session.disconnected();
    alice.session.mark_read(&chat_id, 6);
    alice.session.connected(alice.now_ms);
    alice.receive(&hello());
    alice.receive(&chats_of(&serde_json::Map::new()));
    alice.receive(&chats(9));
    alice.pass(1_000);
    assert!(alice.take("mark_read").is_empty(), "of a chat that was left");
    alice.session.disconnected();
    alice.session.mark_read(&chat_id, 7);
    alice.session.connected(alice.now_ms);
    alice.receive(&hello_of("e2"));
    alice.receive(&chats(9));
    alice.pass(1_000);
    assert!(alice.take("mark_read").is_empty(), "of another epoch");
}

#[test]
fn heartbeats_go_out_and_silence_is_death() {
    let mut session = Session::new("alice", Habits::default());
    session.connected(0);
    session.receive(&hello(), 0, 0.5);
    session.receive(&chats(0), 0, 0.5);
    while session.pop().is_some() {}
    for now_ms in [5_000, 10_000] {
        session.tick(now_ms);
        assert_eq!(session.pop(), Some(Output::Frame(r#"{"event":"heartbeat"}"#.into())));
    }
    session.tick(15_000);
    assert_eq!(session.pop(), Some(Output::Dead));
    assert_eq!(session.next_due_ms(15_000), Some(20_000));
}

#[test]
fn another_epoch_begins_anew() {
    let mut alice = Bench::new(Start::Head);
    alice.connect(40);
    alice.session.disconnected();
    alice.session.connected(0);
    alice.receive(&hello().replace("\"e1\"", "\"e2\""));
    alice.receive(&chats(3));
    assert_eq!(alice.cursor(), 3);
    assert!(alice.seen.contains(&Observation::OtherEpoch { epoch: "e2".into() }));
}

/// What a bad network and a restless server do to a stream.
#[derive(Debug, Clone)]
enum Mishap {
    Deliver,
    Lose,
    Repeat,
    /// Comes after the next ones.
    Delay,
    Reconnect,
    Heads,
    Wait(u64),
}

fn mishaps() -> impl Strategy<Value = Vec<Mishap>> {
    let one = prop_oneof![
        6 => Just(Mishap::Deliver),
        2 => Just(Mishap::Lose),
        1 => Just(Mishap::Repeat),
        2 => Just(Mishap::Delay),
        1 => Just(Mishap::Reconnect),
        1 => Just(Mishap::Heads),
        1 => (0u64..3_000).prop_map(Mishap::Wait),
    ];
    prop::collection::vec(one, 0..120)
}

/// A server that answers a resume, in pages of `page` events, with live events of its own in between.
fn answer_resumes(alice: &mut Bench, head: i64, page: i64, hidden: &BTreeSet<i64>) {
    for _ in 0..200 {
        let asked = alice.take("resume");
        if asked.is_empty() {
            return;
        }
        for frame in asked {
            let from = frame["payload"]["cursors"]["c1"].as_i64().expect("a cursor");
            let to = head.min(from + page);
            for seq in from + 1..=to {
                alice.receive(&frame_of(seq, hidden));
            }
            alice.receive(&resumed(from, to, to == head));
        }
    }
    panic!("it asks for ever");
}

fn frame_of(seq: i64, hidden: &BTreeSet<i64>) -> String {
    if hidden.contains(&seq) {
        json!({ "event": "skipped", "payload": { "chat_id": "c1", "from_seq": seq, "to_seq": seq } }).to_string()
    } else {
        message(seq)
    }
}

proptest! {
    #[test]
    fn everything_is_shown_once_and_in_order(
        mishaps in mishaps(),
        page in 1i64..20,
        hidden in prop::collection::btree_set(1i64..120, 0..20),
        starts_at_the_beginning in any::<bool>(),
    ) {
        let mut alice = Bench::new(if starts_at_the_beginning { Start::Beginning } else { Start::Head });
        let first = 3;
        let mut head = first;
        let mut late: Vec<String> = Vec::new();
        alice.connect(head);
        answer_resumes(&mut alice, head, page, &hidden);
        for mishap in mishaps {
            let next = frame_of(head + 1, &hidden);
            match mishap {
                Mishap::Deliver | Mishap::Repeat => {
                    head += 1;
                    alice.receive(&next);
                    if matches!(mishap, Mishap::Repeat) {
                        alice.receive(&next);
                    }
                    for frame in late.drain(..) {
                        alice.receive(&frame);
                    }
                }
                Mishap::Lose => head += 1,
                Mishap::Delay => {
                    head += 1;
                    late.push(next);
                }
                Mishap::Reconnect => {
                    late.clear();
                    alice.session.disconnected();
                    alice.connect(head);
                }
                Mishap::Heads => alice.receive(&json!({ "event": "heads", "payload": { "c1": head } }).to_string()),
                Mishap::Wait(ms) => alice.pass(ms),
            }
            answer_resumes(&mut alice, head, page, &hidden);
        }
        // The end of every run: a head, and the second after which it is asked for.
        alice.receive(&json!({ "event": "heads", "payload": { "c1": head } }).to_string());
        alice.pass(1_000);
        answer_resumes(&mut alice, head, page, &hidden);
        let start = if starts_at_the_beginning { 0 } else { first };
        prop_assert_eq!(alice.shown(), (start + 1..=head).collect::<Vec<_>>());
        prop_assert_eq!(alice.cursor(), head);
        let shown = alice.seen.iter().filter_map(|what| match what {
            Observation::Event(event) => Some((event.seq, event.content.clone().unwrap_or_default())),
            _ => None,
        });
        for (seq, content) in shown {
            prop_assert!(!hidden.contains(&seq));
            prop_assert_eq!(content, format!("message {}", seq));
        }
    }

    #[test]
    fn a_perfect_stream_has_no_anomaly_and_asks_for_nothing(count in 1i64..50, waits in prop::collection::vec(0u64..2_000, 50)) {
        let mut alice = Bench::new(Start::Head);
        alice.connect(0);
        for (seq, wait_ms) in (1..=count).zip(waits) {
            alice.receive(&message(seq));
            alice.receive(&json!({ "event": "heads", "payload": { "c1": seq } }).to_string());
            alice.pass(wait_ms);
        }
        prop_assert!(alice.anomalies().is_empty());
        prop_assert!(alice.take("resume").is_empty());
        prop_assert_eq!(alice.shown().len() as i64, count);
    }
}
