//! The checker checked: a sound run passes, and each thing that can go wrong, done to it, is found under its own name.

use std::collections::BTreeSet;

use schemas::{ChatEvent, ChatState, Membership, MessageState, Origin, event_type};

use super::*;

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

fn event(chat: &str, seq: i64, actor: &str, event_type: &str) -> ChatEvent {
    ChatEvent {
        event_id: ChatEvent::id_of(chat, seq),
        event_type: event_type.into(),
        chat_id: chat.into(),
        seq,
        actor_id: actor.into(),
        occurred_at: seq,
        origin: Origin { commit_lsn: seq, ..Origin::default() },
        message: None,
        memberships: Vec::new(),
        chat: None,
    }
}

fn joined(user: &str, seq: i64) -> Membership {
    Membership {
        user_id: user.into(),
        member_role: "member".into(),
        joined_seq: seq,
        left_seq: None,
        visible_from_seq: seq,
    }
}

fn created(chat: &str, people: &[&str]) -> ChatEvent {
    ChatEvent {
        memberships: people.iter().map(|user| joined(user, 1)).collect(),
        chat: Some(ChatState {
            chat_name: None,
            is_group: true,
            created_at: 1,
            app_data: None,
            avatar_url: None,
            deleted_shown_as: "tombstone".into(),
            history_for_new_members: false,
        }),
        ..event(chat, 1, people[0], event_type::CHAT_CREATED)
    }
}

fn about(chat: &str, seq: i64, actor: &str, event_type: &str, message_seq: i64, content: Option<&str>) -> ChatEvent {
    let message = MessageState {
        message_id: format!("{chat}-{message_seq}"),
        message_seq,
        sender_id: actor.into(),
        content: content.map(str::to_owned),
        ..MessageState::default()
    };
    ChatEvent { message: Some(message), ..event(chat, seq, actor, event_type) }
}

/// The log of a run: c has two people, then three; d has dave alone.
fn log() -> Vec<ChatEvent> {
    vec![
        created("c", &["alice", "bob"]),
        about("c", 2, "alice", event_type::MESSAGE_PERSISTED, 2, Some("hello canary:c")),
        about("c", 3, "bob", event_type::MESSAGE_PERSISTED, 3, Some("secret canary:c")),
        about("c", 4, "alice", event_type::MESSAGE_EDITED, 2, Some("hullo canary:c")),
        about("c", 5, "bob", event_type::MESSAGE_DELETED, 3, None),
        ChatEvent { memberships: vec![joined("carol", 6)], ..event("c", 6, "alice", event_type::MEMBER_JOINED) },
        about("c", 7, "alice", event_type::MESSAGE_PERSISTED, 7, Some("welcome canary:c")),
        created("d", &["dave"]),
        about("d", 2, "dave", event_type::MESSAGE_PERSISTED, 2, Some("alone canary:d")),
    ]
}

fn seen(event: &ChatEvent) -> Record {
    let frame = match event.event_type.as_str() {
        event_type::MESSAGE_PERSISTED => "message",
        event_type::MESSAGE_EDITED => "message_edited",
        event_type::MESSAGE_DELETED => "message_deleted",
        event_type::CHAT_CREATED => "chat_created",
        _ => "member_joined",
    };
    let message = event.message.as_ref();
    Record::Seen(Seen {
        chat_id: event.chat_id.clone(),
        seq: event.seq,
        to_seq: event.seq,
        frame: frame.into(),
        message_id: message.map(|message| message.message_id.clone()),
        message_seq: message.map(|message| message.message_seq),
        content: message.and_then(|message| message.content.clone()),
    })
}

/// Each person sees what they may, on two connections; alice is told of her sends.
fn sound() -> Evidence {
    let log = log();
    let mut truth = log.clone();
    for event in &mut truth {
        event.origin = Origin::default();
    }
    truth[2].message.as_mut().unwrap().content = None;
    truth[2].message.as_mut().unwrap().deleted_at = Some(5);
    let stays: Vec<Stay> = log
        .iter()
        .flat_map(|event| {
            event.memberships.iter().map(|membership| Stay {
                chat_id: event.chat_id.clone(),
                user_id: membership.user_id.clone(),
                joined_seq: membership.joined_seq,
                left_seq: None,
                visible_from_seq: membership.visible_from_seq,
            })
        })
        .collect();
    let observers = PEOPLE
        .iter()
        .map(|user| {
            let from = if *user == "carol" { 5 } else { 0 };
            let start = |seq| Record::Starts { chat_id: "c".into(), seq };
            let mut records = vec![Record::Opened, start(from)];
            for event in log.iter().filter(|event| event.chat_id == "c" && event.seq > from) {
                records.push(seen(event));
                if *user == "alice" && event.seq == 4 {
                    records.extend([Record::Opened, start(4)]);
                }
            }
            if *user == "alice" {
                for seq in [2, 7] {
                    records.push(Record::Acked { chat_id: "c".into(), message_id: format!("c-{seq}"), seq });
                }
                records.push(Record::Failed { message_id: "c-never".into() });
            }
            Observer { name: format!("{user}/1"), user_id: (*user).into(), records }
        })
        .collect();
    let head = |chat: &str, head_seq, message_seq, content: &str| Head {
        chat_id: chat.into(),
        head_seq,
        message_seq: Some(message_seq),
        content: Some(content.into()),
    };
    let read = ReadModels {
        membership: stays.clone(),
        heads: vec![head("c", 7, 7, "welcome canary:c"), head("d", 2, 2, "alone canary:d")],
        pending: vec![Pending { chat_id: "c".into(), seq: 7, user_id: "carol".into() }],
        delivered: vec![
            ("c".into(), "alice".into(), 7),
            ("c".into(), "bob".into(), 7),
            ("c".into(), "carol".into(), 6),
        ],
    };
    Evidence { observers, truth, stays, log, read }
}

/// Which rules a run breaks after something was done to it.
fn broken(mutate: impl FnOnce(&mut Evidence)) -> BTreeSet<Rule> {
    let mut evidence = sound();
    mutate(&mut evidence);
    check(&evidence).into_iter().map(|finding| finding.rule).collect()
}

fn place_of(evidence: &Evidence, observer: usize, seq: i64) -> usize {
    let is_there = |record: &Record| matches!(record, Record::Seen(seen) if seen.seq == seq);
    evidence.observers[observer].records.iter().position(is_there).unwrap()
}

fn only(rule: Rule) -> BTreeSet<Rule> {
    BTreeSet::from([rule])
}

#[test]
fn a_sound_run_passes() {
    insist(&sound()).unwrap();
}

#[test]
fn a_lost_acknowledged_message_is_found() {
    let rules = broken(|evidence| {
        evidence.observers[0].records.push(Record::Acked { chat_id: "c".into(), message_id: "c-8".into(), seq: 8 });
    });
    assert_eq!(rules, only(Rule::LostWrite));
}

#[test]
fn a_false_place_in_an_acknowledgement_is_found() {
    let rules = broken(|evidence| {
        evidence.observers[0].records.push(Record::Acked { chat_id: "c".into(), message_id: "c-7".into(), seq: 6 });
    });
    assert_eq!(rules, only(Rule::LostWrite));
}

#[test]
fn a_message_lost_on_its_way_is_found() {
    for observer in 0..PEOPLE.len() {
        let rules = broken(|evidence| {
            let last = place_of(evidence, observer, 7);
            evidence.observers[observer].records.remove(last);
        });
        assert_eq!(rules, only(Rule::Unseen));
    }
    let rules = broken(|evidence| {
        let middle = place_of(evidence, 1, 3);
        evidence.observers[1].records.remove(middle);
    });
    assert_eq!(rules, BTreeSet::from([Rule::Unseen, Rule::Skipped]));
}

#[test]
fn a_client_that_saw_nothing_is_found() {
    let rules = broken(|evidence| evidence.observers[1].records.clear());
    assert_eq!(rules, only(Rule::Unseen));
}

#[test]
fn two_places_swapped_are_found() {
    let rules = broken(|evidence| {
        let (two, three) = (place_of(evidence, 1, 2), place_of(evidence, 1, 3));
        evidence.observers[1].records.swap(two, three);
    });
    assert!(rules.contains(&Rule::Nonmonotonic), "{rules:?}");
    let rules = broken(|evidence| {
        let (two, three) = (place_of(evidence, 1, 2), place_of(evidence, 1, 3));
        for (place, seq) in [(two, 3), (three, 2)] {
            let Record::Seen(seen) = &mut evidence.observers[1].records[place] else { unreachable!() };
            (seen.seq, seen.to_seq) = (seq, seq);
        }
        evidence.observers[1].records.swap(two, three);
    });
    assert!(rules.contains(&Rule::Inconsistent), "{rules:?}");
}

#[test]
fn a_repeated_message_is_found() {
    let rules = broken(|evidence| {
        let place = place_of(evidence, 1, 7);
        let again = evidence.observers[1].records[place].clone();
        evidence.observers[1].records.extend([Record::Opened, again]);
    });
    assert_eq!(rules, only(Rule::Duplicate));
    let rules = broken(|evidence| {
        let mut again = evidence.truth[6].clone();
        (again.seq, again.event_id) = (8, "c/8".into());
        evidence.truth.insert(7, again);
    });
    assert!(rules.contains(&Rule::Duplicate), "{rules:?}");
}

#[test]
fn frames_out_of_place_are_found_though_the_client_mended_them() {
    let mended = |kind: &str| Record::Mended { chat_id: "c".into(), seq: 7, kind: kind.into() };
    assert_eq!(broken(|evidence| evidence.observers[0].records.push(mended("repeated"))), only(Rule::Duplicate));
    assert_eq!(broken(|evidence| evidence.observers[0].records.push(mended("late"))), only(Rule::Nonmonotonic));
    assert_eq!(broken(|evidence| evidence.observers[0].records.push(mended("gap"))), BTreeSet::new());
}

#[test]
fn a_leak_is_found() {
    let stranger = |evidence: &mut Evidence| {
        let alone = seen(&evidence.log[8]);
        evidence.observers[0].records.push(alone);
    };
    assert!(broken(stranger).contains(&Rule::Leak));
    let hidden_history = |evidence: &mut Evidence| {
        let early = seen(&evidence.log[4]);
        evidence.observers[2].records.insert(1, early);
    };
    assert!(broken(hidden_history).contains(&Rule::Leak));
    let false_name = |evidence: &mut Evidence| {
        let place = place_of(evidence, 0, 7);
        let Record::Seen(seen) = &mut evidence.observers[0].records[place] else { unreachable!() };
        seen.content = Some("alone canary:d".into());
    };
    assert!(broken(false_name).contains(&Rule::Leak));
}

#[test]
fn a_deleted_body_is_found() {
    let resurrected = |evidence: &mut Evidence| {
        let late = seen(&evidence.log[2]);
        evidence.observers[1].records.push(late);
    };
    assert!(broken(resurrected).contains(&Rule::DeletedBody));
    let in_its_own_deletion = |evidence: &mut Evidence| {
        let place = place_of(evidence, 0, 5);
        let Record::Seen(seen) = &mut evidence.observers[0].records[place] else { unreachable!() };
        seen.content = Some("secret canary:c".into());
    };
    assert!(broken(in_its_own_deletion).contains(&Rule::DeletedBody));
    let in_the_tables =
        |evidence: &mut Evidence| evidence.truth[2].message.as_mut().unwrap().content = Some("secret canary:c".into());
    assert!(broken(in_the_tables).contains(&Rule::DeletedBody));
}

#[test]
fn a_refused_message_that_is_shown_is_found() {
    let rules = broken(|evidence| evidence.observers[0].records.push(Record::Failed { message_id: "c-7".into() }));
    assert_eq!(rules, only(Rule::AbortedRead));
}

#[test]
fn holes_and_repeats_in_tables_and_log_are_found() {
    assert!(broken(|evidence| drop(evidence.truth.remove(3))).contains(&Rule::Gap));
    assert!(broken(|evidence| drop(evidence.log.remove(3))).contains(&Rule::Gap));
    assert!(broken(|evidence| drop(evidence.log.remove(6))).contains(&Rule::Log));
    let twice = |evidence: &mut Evidence| {
        let again = evidence.log[6].clone();
        evidence.log.push(again);
    };
    assert_eq!(broken(twice), only(Rule::Log));
    let another_body = |evidence: &mut Evidence| evidence.log[1].message.as_mut().unwrap().content = Some("hi".into());
    assert_eq!(broken(another_body), only(Rule::Log));
}

#[test]
fn read_models_that_differ_from_the_log_are_found() {
    assert_eq!(broken(|evidence| drop(evidence.read.membership.pop())), only(Rule::Projection));
    assert_eq!(broken(|evidence| evidence.read.heads[0].head_seq = 6), only(Rule::Projection));
    assert_eq!(broken(|evidence| evidence.read.heads[0].content = Some("old".into())), only(Rule::Projection));
}

#[test]
fn an_inbox_that_lost_or_kept_a_row_is_found() {
    assert_eq!(broken(|evidence| evidence.read.pending.clear()), only(Rule::Inbox));
    let kept = Pending { chat_id: "c".into(), seq: 2, user_id: "bob".into() };
    assert_eq!(broken(|evidence| evidence.read.pending.push(kept)), only(Rule::Inbox));
}
