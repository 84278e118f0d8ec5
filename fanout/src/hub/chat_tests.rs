use super::super::entitlement::Stay;
use super::*;
use schemas::{MessageState, Origin};

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
    Item { event, way: None, span: None }
}

fn long(seq: i64) -> Item {
    let mut item = message(seq);
    item.event.message.as_mut().expect("message").content = Some("x".repeat(16_000));
    item
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

fn joined(seq: i64, user_id: &str) -> Item {
    let mut item = left(seq, user_id);
    item.event.event_type = event_type::MEMBER_JOINED.into();
    item.event.memberships[0].joined_seq = seq;
    item.event.memberships[0].left_seq = None;
    item
}

struct Fixture {
    chat: Chat,
    desk: Arc<Desk>,
}

const USER: &str = "u";

fn stays() -> Stays {
    let mut stays = Stays::default();
    stays.push(Stay::new(1, None, 1));
    stays
}

fn fixture(held: Option<Box<Held>>) -> Fixture {
    narrow(held, 1 << 20)
}

/// With so much room for the connection.
fn narrow(held: Option<Box<Held>>, outgoing_bytes: usize) -> Fixture {
    let mut chat = Chat::new(Arc::from("c"), 0);
    chat.activate(10, 0);
    let desk = Arc::new(Desk::new(1, outgoing_bytes));
    chat.link(&Arc::from(USER), &stays(), 10, Link { held, knows_presence: true, ..Link::new(Arc::clone(&desk)) }, 10);
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
                let frame: serde_json::Value = serde_json::from_str(frame.text()).expect("JSON");
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
    let mut fixture = fixture(None);
    fixture.live(message(11));
    fixture.live(left(12, USER));
    fixture.live(message(13));
    assert_eq!(fixture.events(), named(&[("message", 11), ("member_left", 12)]));
    assert!(fixture.chat.members.is_empty() && fixture.chat.idle_since_ms.is_some());
    assert_eq!(fixture.desk.head_of("c"), None);
}

#[test]
fn an_event_is_one_frame_for_all_who_see_it_and_one_for_all_others() {
    let mut fixture = fixture(None);
    let mut come = |user_id: &str, visible_from_seq| {
        let mut stays = Stays::default();
        stays.push(Stay::new(8, None, visible_from_seq));
        let desk = Arc::new(Desk::new(2, 1 << 20));
        let link = Link { knows_presence: true, ..Link::new(Arc::clone(&desk)) };
        fixture.chat.link(&Arc::from(user_id), &stays, 10, link, 10);
        desk
    };
    let (seeing, one, other) = (come("sees", 1), come("came later", 8), come("came later too", 8));
    // An edit of what was said before two of them came.
    let mut edit = message(11);
    edit.event.event_type = event_type::MESSAGE_EDITED.into();
    edit.event.message.as_mut().expect("message").message_seq = 5;
    fixture.live(edit);
    let [mine, seen, hidden, hidden_too] =
        [&fixture.desk, &seeing, &one, &other].map(|desk| desk.outgoing.take_all().pop().expect("a frame"));
    assert!(mine.is_same(&seen) && hidden.is_same(&hidden_too) && !mine.is_same(&hidden));
    assert!(mine.text().contains("message_edited") && hidden.text().contains("skipped"));
}

#[test]
fn an_event_of_an_unknown_type_is_skipped_and_counted() {
    let mut fixture = fixture(None);
    let [mut unknown, mut withheld] = [message(11), message(13)];
    unknown.event.event_type = "reaction.added".into();
    // A type that has no frame and is known.
    withheld.event.event_type = event_type::WITHHELD.into();
    for item in [unknown, message(12), withheld] {
        fixture.chat.live(item);
    }
    assert_eq!(fixture.chat.deliver(0).unknown, 1);
    assert_eq!(fixture.events(), named(&[("skipped", 11), ("message", 12), ("skipped", 13)]));
}

#[test]
fn live_events_wait_behind_a_resume() {
    let mut fixture = fixture(Some(Box::default()));
    fixture.live(message(11));
    assert_eq!(fixture.events(), []);
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    assert_eq!(fixture.chat.finish_resume(USER, 1, &done, 0), None);
    fixture.live(message(12));
    assert_eq!(fixture.events(), named(&[("resumed", 10), ("message", 11), ("message", 12)]));
}

#[test]
fn a_resume_that_did_not_come_to_its_end_leaves_the_chat_behind() {
    let mut fixture = fixture(Some(Box::default()));
    fixture.live(message(11));
    let done = Resumed { from_seq: 3, to_seq: 7, is_complete: false, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    fixture.live(message(12));
    assert_eq!(fixture.events(), named(&[("resumed", 7)]));
}

#[test]
fn too_many_held_events_break_the_holding() {
    let mut fixture = fixture(Some(Box::default()));
    for seq in 11..=11 + HELD_FRAMES as i64 {
        fixture.live(message(seq));
    }
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    let frames = fixture.desk.outgoing.take_all();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].text().contains(r#""complete":false"#), "{}", frames[0].text());
}

#[test]
fn held_events_that_would_fill_the_queue_are_read_again_instead() {
    let mut fixture = fixture(Some(Box::default()));
    // A quarter of the queue, then one more.
    for seq in 11..=11 + (1 << 18) / 16_000 {
        fixture.live(long(seq));
    }
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    let frames = fixture.desk.outgoing.take_all();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].text().contains(r#""complete":false"#), "{}", frames[0].text());
    assert!(fixture.desk.hold(1 << 18), "nothing is held any more");
    fixture.desk.release(1 << 18);
    // Few enough, but the queue is full of other things.
    fixture.chat.link_of(USER, 1).expect("a member").held = Some(Box::default());
    fixture.live(long(28));
    fixture.desk.outgoing.push("x".repeat(800_000).into());
    fixture.chat.finish_resume(USER, 1, &done, 0);
    let frames = fixture.desk.outgoing.take_all();
    assert!(!fixture.desk.outgoing.has_ended());
    assert!(frames[1].text().contains(r#""complete":false"#), "{}", frames[1].text());
}

#[test]
fn what_a_gap_held_comes_at_the_pace_of_the_connection() {
    let mut fixture = fixture(None);
    fixture.chat.live(message(200));
    let sequence = fixture.chat.sequence.as_mut().expect("active");
    assert_eq!(sequence.read(0), Some((11, 110)));
    // More at once than may wait for a socket.
    sequence.healed((11..=110).map(|seq| (seq, long(seq))).collect(), 0);
    let outcome = fixture.chat.deliver(0);
    assert!(!fixture.desk.outgoing.has_ended());
    let came = 10 + fixture.events().len() as i64;
    assert!((11..110).contains(&came), "{came}");
    let [CatchUp { connection: 1, from, to: 110, .. }] = &outcome.catch_ups[..] else { panic!("one lacks the rest") };
    assert_eq!(*from, came);
    // What follows waits for the rest.
    fixture.live(message(111));
    assert_eq!(fixture.events(), []);
    let done = Resumed { from_seq: came, to_seq: 110, is_complete: true, is_announced: false };
    assert_eq!(fixture.chat.finish_resume(USER, 1, &done, 0), None);
    fixture.live(message(112));
    assert_eq!(fixture.events(), named(&[("message", 111), ("message", 112)]));
}

#[test]
fn who_left_within_a_gap_that_has_no_room_still_gets_the_leaving() {
    let mut fixture = fixture(None);
    fixture.chat.live(message(200));
    let sequence = fixture.chat.sequence.as_mut().expect("active");
    assert_eq!(sequence.read(0), Some((11, 110)));
    let event = |seq| if seq == 100 { left(seq, USER) } else { long(seq) };
    sequence.healed((11..=110).map(|seq| (seq, event(seq))).collect(), 0);
    let outcome = fixture.chat.deliver(0);
    let [CatchUp { from, to: 100, stays, .. }] = &outcome.catch_ups[..] else { panic!("up to the leaving") };
    assert_eq!(stays.ended_at(), Some(100));
    let done = Resumed { from_seq: *from, to_seq: 100, is_complete: true, is_announced: false };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    assert!(fixture.chat.members.is_empty());
}

#[test]
fn who_left_and_came_back_within_a_gap_that_has_no_room_is_in_the_chat() {
    let mut fixture = fixture(None);
    fixture.chat.live(message(200));
    let sequence = fixture.chat.sequence.as_mut().expect("active");
    assert_eq!(sequence.read(0), Some((11, 110)));
    let event = |seq| match seq {
        90 => left(seq, USER),
        100 => joined(seq, USER),
        _ => long(seq),
    };
    sequence.healed((11..=110).map(|seq| (seq, event(seq))).collect(), 0);
    let outcome = fixture.chat.deliver(0);
    let [CatchUp { from, to: 110, stays, .. }] = &outcome.catch_ups[..] else { panic!("one lacks the rest") };
    assert!(*from < 90 && stays.open_since() == Some(100) && outcome.joined.is_empty());
    let done = Resumed { from_seq: *from, to_seq: 110, is_complete: true, is_announced: false };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    assert_eq!(fixture.desk.head_of("c"), Some(110));
    let link = fixture.chat.link_of(USER, 1).expect("a member");
    assert!(link.is_live());
}

#[test]
fn who_leaves_during_a_resume_still_gets_the_leaving() {
    let mut fixture = fixture(Some(Box::default()));
    fixture.live(left(11, USER));
    fixture.live(message(12));
    assert_eq!(fixture.chat.members.iter().count(), 1);
    let done = Resumed { from_seq: 3, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    assert_eq!(fixture.events(), named(&[("resumed", 10), ("member_left", 11)]));
    assert!(fixture.chat.members.is_empty());
}

/// The connection must find the link again when it ends, though its person isn't in the chat any more.
#[test]
fn who_leaves_during_a_resume_and_disconnects_is_gone() {
    let mut fixture = fixture(Some(Box::default()));
    fixture.live(left(11, USER));
    assert_eq!(fixture.desk.head_of("c"), None);
    let chats = fixture.desk.take_chats();
    assert_eq!(chats, [Arc::from("c")]);
    assert!(fixture.chat.unlink(USER, 1, 0), "the last link");
    assert!(fixture.chat.members.is_empty());
}

#[test]
fn who_is_back_when_a_resume_ends_is_in_the_chat() {
    let mut fixture = fixture(Some(Box::default()));
    fixture.live(left(11, USER));
    fixture.live(joined(12, USER));
    let done = Resumed { from_seq: 5, to_seq: 10, is_complete: true, is_announced: true };
    fixture.chat.finish_resume(USER, 1, &done, 0);
    assert_eq!(fixture.desk.head_of("c"), Some(12));
}

#[test]
fn stays_read_ahead_of_the_stream_are_not_undone_by_it() {
    let mut fixture = fixture(None);
    let user: Arc<str> = Arc::from("rejoined");
    let mut ahead = Stays::default();
    ahead.push(Stay::new(1, Some(12), 1));
    ahead.push(Stay::new(13, None, 1));
    let desk = Arc::new(Desk::new(2, 1 << 20));
    fixture.chat.link(&user, &ahead, 13, Link { knows_presence: true, ..Link::new(desk) }, 10);
    fixture.live(message(11));
    fixture.live(left(12, "rejoined"));
    let member = fixture.chat.members.get(&user).expect("the stay that is open keeps them in");
    assert_eq!(member.stays, ahead);
}

#[test]
fn stays_read_behind_the_stream_are_brought_up() {
    let mut fixture = fixture(None);
    fixture.live(left(11, "other"));
    let mut stays = stays();
    assert!(fixture.chat.bring_up("other", &mut stays, 10));
    assert_eq!(stays.ended_at(), Some(11));
    assert!(!fixture.chat.bring_up("other", &mut stays, 9), "older than what is remembered");
}

#[test]
fn a_chat_that_rests_goes_to_the_head_when_somebody_comes() {
    let mut fixture = fixture(None);
    fixture.live(message(13));
    fixture.chat.activate(14, 0);
    assert_eq!(fixture.chat.last_seq(), 10, "somebody waits for 11");
    fixture.chat.unlink(USER, 1, 0);
    fixture.live(message(15));
    fixture.chat.activate(14, 0);
    assert_eq!(fixture.chat.last_seq(), 14);
    fixture.chat.deliver(0);
    assert_eq!(fixture.chat.last_seq(), 15, "what came meanwhile follows");
}

/// What can happen between a chat and one connection of a member.
#[derive(Debug, Clone)]
enum Step {
    Publish {
        arrives: bool,
    },
    Late(i64),
    Head,
    ReadEnds,
    /// The client asks for what is after so many of its events.
    Resume(i64),
    /// The resume that is being read ends after so many events.
    ResumeEnds(i64),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        4 => any::<bool>().prop_map(|arrives| Step::Publish { arrives }),
        1 => (11i64..60).prop_map(Step::Late),
        1 => Just(Step::Head),
        2 => Just(Step::ReadEnds),
        2 => (0i64..30).prop_map(Step::Resume),
        2 => (0i64..40).prop_map(Step::ResumeEnds),
    ];
    proptest::collection::vec(step, 0..120)
}

/// A client by the contract: a cursor that only events in order move, and what came early.
struct Viewer {
    cursor: i64,
    early: std::collections::BTreeSet<i64>,
    shown: Vec<i64>,
}

impl Viewer {
    fn take(&mut self, seq: i64) {
        if seq > self.cursor {
            self.early.insert(seq);
        }
        while self.early.remove(&(self.cursor + 1)) {
            self.cursor += 1;
            self.shown.push(self.cursor);
        }
    }
}

struct World {
    fixture: Fixture,
    viewer: Viewer,
    committed: i64,
    reading: Option<(i64, i64)>,
    /// A resume under way: from, to.
    resuming: Option<(i64, i64)>,
    now_ms: u64,
}

impl World {
    fn settle(&mut self) {
        for CatchUp { from, to, .. } in self.fixture.chat.deliver(0).catch_ups {
            self.resuming = Some((from, to));
        }
        if let Some(range) = self.fixture.chat.sequence.as_mut().and_then(|sequence| sequence.read(self.now_ms)) {
            self.reading = Some(range);
        }
        self.look();
    }

    fn look(&mut self) {
        for (event, seq) in self.fixture.events() {
            if event != "resumed" {
                self.viewer.take(seq);
            }
        }
    }

    fn resume(&mut self, cursor: i64) {
        let last = self.fixture.chat.last_seq();
        let link = self.fixture.chat.link_of(USER, 1).expect("a member");
        if let Some(held) = &mut link.held {
            held.again_from = Some(cursor.min(last));
            return;
        }
        link.is_behind = false;
        if cursor < last {
            link.held = Some(Box::default());
            self.resuming = Some((cursor, last));
        }
    }

    fn resume_ends(&mut self, most: i64) {
        let Some((from, to)) = self.resuming.take() else { return };
        let reached = to.min(from + most);
        // The tables are read past the hub, straight into the queue.
        self.look();
        (from + 1..=reached).for_each(|seq| self.viewer.take(seq));
        let done = Resumed { from_seq: from, to_seq: reached, is_complete: reached == to, is_announced: true };
        if let Some(again) = self.fixture.chat.finish_resume(USER, 1, &done, 0) {
            self.look();
            self.resume(again);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { arrives } => {
                self.committed += 1;
                if *arrives {
                    self.fixture.chat.live(message(self.committed));
                }
            }
            Step::Late(seq) if *seq <= self.committed => self.fixture.chat.live(message(*seq)),
            Step::Late(_) => {}
            Step::Head => {
                let (committed, now_ms) = (self.committed, self.now_ms);
                self.fixture.chat.sequence.as_mut().expect("active").head(committed, true, now_ms);
            }
            Step::ReadEnds => {
                self.now_ms += 3_000;
                if let Some((from, to)) = self.reading.take() {
                    let items = (from..=to.min(self.committed)).map(|seq| (seq, message(seq))).collect();
                    self.fixture.chat.sequence.as_mut().expect("active").healed(items, self.now_ms);
                }
            }
            Step::Resume(back) => self.resume((self.viewer.cursor - back).max(0)),
            Step::ResumeEnds(most) => self.resume_ends(*most),
        }
        self.settle();
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn any_interleaving_of_events_and_resumes_ends_in_the_whole_view(steps in steps(), has_room in proptest::bool::ANY) {
        let viewer = Viewer { cursor: 10, early: std::collections::BTreeSet::default(), shown: Vec::new() };
        // Where there is little room, for half a dozen events, a gap often has more than that.
        let fixture = narrow(None, if has_room { 1 << 20 } else { 3_000 });
        let mut world = World { fixture, viewer, committed: 10, reading: None, resuming: None, now_ms: 0 };
        for step in &steps {
            world.step(step);
        }
        // The faults end, and the client resumes as long as it misses something or was told that it isn't through.
        for _ in 0..50 {
            world.step(&Step::Head);
            world.step(&Step::ReadEnds);
            world.step(&Step::ResumeEnds(1_000));
            let is_behind = world.fixture.chat.link_of(USER, 1).expect("a member").is_behind;
            if is_behind || world.viewer.cursor < world.fixture.chat.last_seq() {
                world.step(&Step::Resume(0));
            }
        }
        let expected: Vec<i64> = (11..=world.committed).collect();
        proptest::prop_assert_eq!(&world.viewer.shown, &expected);
        proptest::prop_assert!(!world.fixture.desk.outgoing.has_ended());
        let link = world.fixture.chat.link_of(USER, 1).expect("a member");
        proptest::prop_assert!(link.is_live());
    }
}
