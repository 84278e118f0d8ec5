use super::super::entitlement::Stay;
use super::*;
use schemas::{MessageState, Origin, event_type};

fn message(seq: i64) -> Item {
    let event = ChatEvent {
        event_id: ChatEvent::id_of("c", seq),
        event_type: event_type::MESSAGE_PERSISTED.into(),
        chat_id: "c".into(),
        seq,
        actor_id: "a".into(),
        occurred_at: 0,
        origin: Origin::default(),
        message: Some(MessageState { message_seq: seq, content: Some("hi".into()), ..MessageState::default() }),
        memberships: Vec::new(),
        chat: None,
    };
    Item { event, way: None }
}

fn left(seq: i64, user_id: &str) -> Item {
    let mut item = message(seq);
    item.event.event_type = event_type::MEMBER_LEFT.into();
    item.event.message = None;
    item.event.memberships = vec![Membership {
        user_id: user_id.into(),
        member_role: "member".into(),
        joined_seq: 1,
        left_seq: Some(seq),
        visible_from_seq: 1,
    }];
    item
}

struct Fixture {
    chat: Chat,
    desk: Arc<Desk>,
}

const USER: &str = "u";

fn stays() -> Stays {
    let mut stays = Stays::default();
    stays.push(Stay { joined_seq: 1, left_seq: None, visible_from_seq: 1 });
    stays
}

fn fixture(mode: Mode) -> Fixture {
    let mut chat = Chat::new(Arc::from("c"), 0);
    chat.activate(10);
    let desk = Arc::new(Desk::new(1 << 20));
    chat.link(&Arc::from(USER), &stays(), 10, Link { connection: 1, desk: Arc::clone(&desk), mode }, 10);
    Fixture { chat, desk }
}

impl Fixture {
    fn live(&mut self, item: Item) {
        self.chat.live(item);
        self.chat.deliver(0);
    }

    fn events(&self) -> Vec<(String, i64)> {
        self.desk
            .outgoing
            .take_all()
            .iter()
            .map(|frame| {
                let frame: serde_json::Value = serde_json::from_str(frame).expect("JSON");
                let payload = &frame["payload"];
                let seq = payload["seq"].as_i64().or(payload["to_seq"].as_i64()).expect("seq");
                (frame["event"].as_str().expect("event").to_owned(), seq)
            })
            .collect()
    }
}

fn named(events: &[(&str, i64)]) -> Vec<(String, i64)> {
    events.iter().map(|(event, seq)| ((*event).to_owned(), *seq)).collect()
}

#[test]
fn the_leaver_gets_the_leaving_and_nothing_after() {
    let mut fixture = fixture(Mode::Live);
    fixture.live(message(11));
    fixture.live(left(12, USER));
    fixture.live(message(13));
    assert_eq!(fixture.events(), named(&[("message", 11), ("member_left", 12)]));
    assert!(fixture.chat.members.is_empty() && fixture.chat.idle_since_ms.is_some());
    assert_eq!(fixture.desk.head_of("c"), None);
}

#[test]
fn live_events_wait_behind_a_resume() {
    let mut fixture = fixture(Mode::Held(Held::default()));
    fixture.live(message(11));
    assert_eq!(fixture.events(), []);
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    assert_eq!(fixture.chat.finish_resume(USER, 1, &done, 0), None);
    fixture.live(message(12));
    assert_eq!(fixture.events(), named(&[("resumed", 10), ("message", 11), ("message", 12)]));
}

#[test]
fn a_resume_that_did_not_come_to_its_end_leaves_the_chat_behind() {
    let mut fixture = fixture(Mode::Held(Held::default()));
    fixture.live(message(11));
    let done = Resumed { from_seq: 3, to_seq: 7, is_complete: false, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    fixture.live(message(12));
    assert_eq!(fixture.events(), named(&[("resumed", 7)]));
}

#[test]
fn too_many_held_events_break_the_holding() {
    let mut fixture = fixture(Mode::Held(Held::default()));
    for seq in 11..=11 + HELD_FRAMES as i64 {
        fixture.live(message(seq));
    }
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    let frames = fixture.desk.outgoing.take_all();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].contains(r#""complete":false"#), "{}", frames[0].as_str());
}

#[test]
fn who_leaves_during_a_resume_still_gets_the_leaving() {
    let mut fixture = fixture(Mode::Held(Held::default()));
    fixture.live(left(11, USER));
    fixture.live(message(12));
    assert_eq!(fixture.chat.members.len(), 1);
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    assert_eq!(fixture.events(), named(&[("resumed", 10), ("member_left", 11)]));
    assert!(fixture.chat.members.is_empty());
}

#[test]
fn stays_read_ahead_of_the_stream_are_not_undone_by_it() {
    let mut fixture = fixture(Mode::Live);
    let user: Arc<str> = Arc::from("rejoined");
    let mut ahead = Stays::default();
    ahead.push(Stay { joined_seq: 1, left_seq: Some(12), visible_from_seq: 1 });
    ahead.push(Stay { joined_seq: 13, left_seq: None, visible_from_seq: 1 });
    let desk = Arc::new(Desk::new(1 << 20));
    fixture.chat.link(&user, &ahead, 13, Link { connection: 2, desk, mode: Mode::Live }, 10);
    fixture.live(message(11));
    fixture.live(left(12, "rejoined"));
    assert!(fixture.chat.members.contains_key(&user), "the stay that is open keeps them in");
    assert_eq!(fixture.chat.members[&user].stays, ahead);
}

#[test]
fn stays_read_behind_the_stream_are_brought_up() {
    let mut fixture = fixture(Mode::Live);
    fixture.live(left(11, "other"));
    let mut stays = stays();
    assert!(fixture.chat.bring_up("other", &mut stays, 10));
    assert_eq!(stays.ended_at(), Some(11));
    assert!(!fixture.chat.bring_up("other", &mut stays, 9), "older than what is remembered");
}
