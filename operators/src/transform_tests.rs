use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::{ChatAbuse, ChatActivity, ChatEvent, MessageState, OperatorWindow, Origin, abuse_kind, event_type};

use crate::rules::{Kind, Rules};
use crate::transform::{Late, Tally, Transform};
use crate::window::{MOST_SENDERS, Row};

const RULES: Rules = Rules {
    watermark_delay_ms: 1_000,
    lateness_ms: 30_000,
    flood_limit: 4,
    flood_window_ms: 10_000,
    repeat_limit: 3,
    repeat_window_ms: 60_000,
};
const MINUTE: i64 = 60_000;
/// A whole minute.
const NOON: i64 = 1_767_225_600_000;

fn sent(chat: &str, sender: &str, at_ms: i64, text: &str) -> ChatEvent {
    let message = MessageState {
        sender_id: sender.to_owned(),
        content: Some(text.to_owned()),
        created_at: at_ms,
        ..MessageState::default()
    };
    ChatEvent {
        event_type: event_type::MESSAGE_PERSISTED.to_owned(),
        message: Some(message),
        ..ChatEvent::withheld(chat, at_ms - NOON, sender.to_owned(), at_ms, Origin::default())
    }
}

/// Something that only moves time.
fn tick(at_ms: i64) -> ChatEvent {
    ChatEvent::withheld("elsewhere", 1, "nobody".to_owned(), at_ms, Origin::default())
}

fn rows_of(transform: &mut Transform, events: &[ChatEvent]) -> (Vec<Row>, Tally) {
    let (mut rows, mut tally) = (Vec::new(), Tally::default());
    for event in events {
        transform.apply(event, &mut rows, &mut tally);
    }
    (rows, tally)
}

fn run(events: &[ChatEvent]) -> (Vec<Row>, Tally) {
    rows_of(&mut Transform::new(RULES), events)
}

fn activity(rows: &[Row]) -> Vec<ChatActivity> {
    rows.iter().filter_map(|row| if let Row::Activity(row) = row { Some(row.clone()) } else { None }).collect()
}

fn abuse(rows: &[Row]) -> Vec<ChatAbuse> {
    rows.iter().filter_map(|row| if let Row::Abuse(row) = row { Some(row.clone()) } else { None }).collect()
}

#[test]
fn a_minute_is_told_once_when_later_events_have_passed_its_end() {
    let mut transform = Transform::new(RULES);
    let begun = [
        sent("c", "alice", NOON, "Grüße"),
        sent("c", "bob", NOON + 59_999, "four"),
        sent("c", "alice", NOON + 30_000, ""),
        tick(NOON + MINUTE + 999),
    ];
    assert_eq!(rows_of(&mut transform, &begun).0, []);
    let (rows, tally) = rows_of(&mut transform, &[tick(NOON + MINUTE + 1_000), tick(NOON + 10 * MINUTE)]);
    let expected = ChatActivity {
        chat_id: "c".into(),
        window_start: NOON,
        window_end: NOON + MINUTE,
        revision: 0,
        messages: 3,
        senders: 2,
        text_bytes: 11,
        late_messages: 0,
    };
    assert_eq!((rows, tally), (vec![Row::Activity(expected)], Tally::default()));
    assert_eq!(transform.windows(), [0, 0, 0]);
}

#[test]
fn late_events_make_one_more_row_and_later_ones_are_dropped() {
    let end = NOON + MINUTE;
    let (rows, tally) = run(&[
        sent("c", "alice", NOON, "in time"),
        tick(end + 1_000),
        // The watermark is at the end: late, each of them.
        sent("c", "bob", NOON + 1, "late"),
        sent("c", "bob", NOON + 2, "late too"),
        sent("quiet", "bob", NOON + 3, "the only one of this chat"),
        tick(end + 30_999),
        tick(end + 31_000),
        sent("c", "bob", NOON + 4, "too late"),
        tick(end + 10 * MINUTE),
    ]);
    let told: Vec<(String, i64, i64, i64)> =
        activity(&rows).into_iter().map(|row| (row.chat_id, row.revision, row.messages, row.late_messages)).collect();
    assert_eq!(told, [("c".into(), 0, 1, 0), ("c".into(), 1, 3, 2), ("quiet".into(), 0, 1, 1)]);
    assert_eq!(tally.late[Kind::Activity as usize], Late { counted: 3, dropped: 1 });
    let unchanged = run(&[sent("c", "alice", NOON, "in time"), tick(end + 1_000), tick(end + 31_000)]).0;
    assert_eq!(unchanged.len(), 1);
}

#[test]
fn a_flood_is_told_at_once_and_with_its_end() {
    let burst: Vec<ChatEvent> = (0..7).map(|number| sent("c", "mallory", NOON + number, "x")).collect();
    let mut transform = Transform::new(RULES);
    let (rows, _) = rows_of(&mut transform, &burst[..4]);
    let [row] = abuse(&rows).try_into().expect("one");
    assert_eq!((row.abuse_kind.as_str(), row.sender_id.as_str(), row.text_hash), (abuse_kind::FLOOD, "mallory", None));
    assert_eq!((row.revision, row.messages, row.limit_messages, row.senders), (0, 4, 4, 1));
    assert_eq!((row.detected_seq, row.detected_at), (3, NOON + 3));
    assert_eq!((row.window_start, row.window_end), (NOON, NOON + 10_000));
    let (rows, _) = rows_of(&mut transform, &burst[4..]);
    assert_eq!(rows, []);
    let (rows, _) = rows_of(&mut transform, &[tick(NOON + 11_000)]);
    let [row] = abuse(&rows).try_into().expect("one");
    assert_eq!((row.revision, row.messages, row.detected_seq), (1, 7, 3));
    // Below the limit, of several people, or of a service, it is none.
    let calm: Vec<ChatEvent> =
        (0..9).map(|number| sent("c", &format!("p{}", number % 3), NOON + number, "x")).collect();
    assert_eq!(abuse(&run(&calm).0), []);
    let service: Vec<ChatEvent> = (0..9).map(|number| sent("c", "waltalkie:system", NOON + number, "x")).collect();
    assert_eq!(abuse(&run(&service).0), []);
}

#[test]
fn a_repeated_text_is_told_whoever_sends_it_and_never_itself() {
    let texts = ["Buy NOW, cheap!!", "buy now cheap", "something else", "Buy... now: cheap"];
    let events: Vec<ChatEvent> =
        (0..4).map(|number| sent("c", &format!("p{number}"), NOON + number as i64, texts[number])).collect();
    let mut transform = Transform::new(RULES);
    let (rows, _) = rows_of(&mut transform, &events);
    let [row] = abuse(&rows).try_into().expect("one");
    assert_eq!((row.abuse_kind.as_str(), row.messages, row.senders), (abuse_kind::REPEATED_TEXT, 3, 3));
    assert_eq!((row.sender_id.as_str(), row.detected_seq), ("p3", 3));
    let kept = format!("{rows:?} {:?}", transform.take_changes()).to_lowercase();
    for word in ["buy", "cheap", "something"] {
        assert!(!kept.contains(word), "{word}");
    }
    let short: Vec<ChatEvent> = (0..9).map(|number| sent("c", &format!("p{number}"), NOON + number, "ok!")).collect();
    assert_eq!(abuse(&run(&short).0), []);
}

#[test]
fn what_nobody_looks_for_is_not_kept() {
    let rules = Rules { flood_limit: 0, repeat_limit: 0, ..RULES };
    let mut transform = Transform::new(rules);
    let events: Vec<ChatEvent> = (0..9).map(|at| sent("c", "mallory", NOON + at, "always the same")).collect();
    assert_eq!(abuse(&rows_of(&mut transform, &events).0), []);
    assert_eq!(transform.windows(), [1, 0, 0]);
}

#[test]
fn unknown_types_move_time_and_are_counted() {
    let unknown = ChatEvent { event_type: "reaction.added".into(), ..tick(NOON + 2 * MINUTE) };
    let (rows, tally) = run(&[sent("c", "alice", NOON, "hello"), unknown]);
    assert_eq!((activity(&rows).len(), tally.unknown), (1, 1));
}

#[test]
fn times_beyond_reason_neither_panic_nor_lose_their_place() {
    for at_ms in [i64::MIN, -1, 0, i64::MAX] {
        let (rows, _) =
            run(&[sent("c", "alice", 0, "x"), ChatEvent { occurred_at: at_ms, ..sent("c", "bob", 0, "x") }]);
        assert!(activity(&rows).len() <= 1, "{at_ms}");
    }
}

/// The oldest are closed early, and what comes for them afterwards is late: no window is told twice as new.
#[test]
fn too_many_windows_push_the_watermark() {
    let mut transform = Transform::new(RULES).holding_at_most(300);
    let events: Vec<ChatEvent> =
        (0..1_000).map(|number| sent(&format!("c{number}"), "alice", NOON + number % 50_000, "hello")).collect();
    let (mut rows, mut tally) = (Vec::new(), Tally::default());
    for event in events.iter().chain(&events) {
        transform.apply(event, &mut rows, &mut tally);
        assert!(transform.windows().iter().sum::<usize>() <= 300);
    }
    assert!(tally.pushed > 0);
    let keys: Vec<(String, i64, i64)> =
        activity(&rows).into_iter().map(|row| (row.chat_id, row.window_start, row.revision)).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

#[test]
fn a_crowd_in_one_minute_is_counted_up_to_a_limit() {
    let events: Vec<ChatEvent> =
        (0..5_000).map(|number| sent("c", &format!("person-{number}"), NOON + number, "x")).collect();
    let (rows, _) = run(&[events, vec![tick(NOON + 2 * MINUTE)]].concat());
    let [row] = activity(&rows).try_into().expect("one");
    assert_eq!((row.messages, row.senders), (5_000, MOST_SENDERS as i64));
}

/// The changelog, as a compacted topic keeps it.
#[derive(Default)]
struct Changelog {
    windows: BTreeMap<String, OperatorWindow>,
    watermark_ms: Option<i64>,
}

impl Changelog {
    fn write(&mut self, transform: &mut Transform) {
        for change in transform.take_changes() {
            match change.window {
                Some(window) => drop(self.windows.insert(change.key, window)),
                None => drop(self.windows.remove(&change.key)),
            }
        }
        self.watermark_ms = transform.watermark_ms();
    }

    fn restore(&self) -> Transform {
        Transform::restored(RULES, self.watermark_ms, self.windows.values().cloned()).expect("known kinds")
    }
}

/// Mostly in order, with some that come late and some far too late.
fn histories() -> impl Strategy<Value = Vec<ChatEvent>> {
    let late_ms = prop_oneof![6 => Just(0_i64), 2 => 0..5_000_i64, 2 => 0..200_000_i64];
    let one = (0..4_u8, 0..3_u8, 0..4_000_i64, late_ms, 0..4_usize, 0..12_u8);
    proptest::collection::vec(one, 1..250).prop_map(|steps| {
        let texts = ["buy it now, cheap", "Buy it NOW cheap!", "hello there", "ok"];
        let mut now_ms = NOON;
        let event = |(chat, sender, step_ms, late_ms, text, kind): (u8, u8, i64, i64, usize, u8)| {
            now_ms += step_ms;
            match kind {
                0 => tick(now_ms - late_ms),
                1 => ChatEvent { event_type: "reaction.added".into(), ..tick(now_ms) },
                _ => sent(&format!("c{chat}"), &format!("p{sender}"), now_ms - late_ms, texts[text]),
            }
        };
        steps.into_iter().map(event).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any batches, any restarts between them, and batches that were tried and given up: the same rows in the same order.
    #[test]
    fn batches_and_restarts_change_nothing(
        events in histories(),
        batches in proptest::collection::vec((1..40_usize, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let (expected, _) = run(&events);
        let (mut log, mut transform, mut rows) = (Changelog::default(), Transform::new(RULES), Vec::new());
        let mut rest = events.as_slice();
        for (size, is_aborted, is_restarted) in batches.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, after) = rest.split_at(size.min(rest.len()));
            if is_aborted {
                rows_of(&mut transform, batch);
                transform = log.restore();
            }
            rows.extend(rows_of(&mut transform, batch).0);
            log.write(&mut transform);
            if is_restarted {
                transform = log.restore();
            }
            rest = after;
        }
        prop_assert_eq!(rows, expected);
        // Nothing is left over in the changelog, nothing is missing.
        prop_assert_eq!(log.windows.len(), transform.windows().iter().sum::<usize>());
    }

    /// The last row of each minute says what counting says, if nothing came too late.
    #[test]
    fn last_rows_say_what_was_sent(events in histories()) {
        let rules = Rules { lateness_ms: 10 * MINUTE, ..RULES };
        let end = [tick(NOON + 100 * MINUTE)];
        let (rows, tally) = rows_of(&mut Transform::new(rules), &[events.as_slice(), end.as_slice()].concat());
        prop_assert!(tally.late.iter().all(|late| late.dropped == 0));
        let mut expected: BTreeMap<(String, i64), (i64, i64, BTreeSet<String>)> = BTreeMap::new();
        for event in &events {
            if let Some(message) = &event.message {
                let start = event.occurred_at - event.occurred_at % MINUTE;
                let (messages, bytes, senders) = expected.entry((event.chat_id.clone(), start)).or_default();
                *messages += 1;
                *bytes += message.content.as_ref().map_or(0, String::len) as i64;
                senders.insert(message.sender_id.clone());
            }
        }
        let mut last = BTreeMap::new();
        for row in activity(&rows) {
            let revisions = last.insert((row.chat_id.clone(), row.window_start), row.clone());
            prop_assert_eq!(revisions.map_or(0, |row: ChatActivity| row.revision + 1), row.revision);
            prop_assert!(row.revision <= 1);
        }
        let told: BTreeMap<(String, i64), (i64, i64, i64)> =
            last.into_iter().map(|(key, row)| (key, (row.messages, row.text_bytes, row.senders))).collect();
        let wanted: BTreeMap<(String, i64), (i64, i64, i64)> =
            expected.into_iter().map(|(key, (messages, bytes, senders))| (key, (messages, bytes, senders.len() as i64))).collect();
        prop_assert_eq!(told, wanted);
    }
}
