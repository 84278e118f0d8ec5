use std::collections::BTreeSet;

use proptest::prelude::*;
use schemas::{ChatEvent, Membership, MessageState, Origin, event_type};

use super::*;
use crate::quiet::{DoNotDisturb, QuietHours};

const CHAT: &str = "team";
const SEQ: i64 = 50;
const TABLE: &str = include_str!("../../tests/tables/decisions.txt");

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn event(kind: &str, sent_at_ms: i64) -> ChatEvent {
    let content = match kind {
        "mention" => "look here, @Bob",
        "all@admin" | "all@owner" | "all@member" => "@all: lunch",
        "mail_inside" => "write to shop@bob.example",
        "file" => "",
        _ => "hello Bob",
    };
    let kind_of_event = match kind {
        "edited" => event_type::MESSAGE_EDITED,
        "deleting" => event_type::MESSAGE_DELETED,
        "joined" => event_type::MEMBER_JOINED,
        "withheld" => event_type::WITHHELD,
        _ => event_type::MESSAGE_PERSISTED,
    };
    let message = MessageState {
        message_id: "0190b5a0-0000-7000-8000-000000000001".into(),
        message_seq: SEQ,
        sender_id: if kind == "own" { "u-bob" } else { "u-alice" }.into(),
        content: (kind != "deleted").then(|| content.to_owned()),
        created_at: sent_at_ms,
        deleted_at: (kind == "deleted").then_some(sent_at_ms),
        ..MessageState::default()
    };
    ChatEvent {
        event_id: ChatEvent::id_of(CHAT, SEQ),
        event_type: kind_of_event.into(),
        chat_id: CHAT.into(),
        seq: SEQ,
        actor_id: "u-alice".into(),
        occurred_at: sent_at_ms,
        origin: Origin::default(),
        message: (kind != "withheld").then_some(message),
        memberships: Vec::new(),
        chat: None,
    }
}

fn settings(changes: &str) -> Settings {
    let mut settings = Settings::default();
    for change in changes.split_whitespace() {
        match change {
            "default" => {}
            "+email" => settings.email = true,
            "-push" => settings.push = false,
            "-in_app" => settings.in_app = false,
            "muted" => settings.muted_chat_ids = BTreeSet::from([CHAT.to_owned()]),
            "mentions_only" => settings.mentions_only_chat_ids = BTreeSet::from([CHAT.to_owned()]),
            "dnd" => settings.do_not_disturb = Some(night_in_berlin()),
            other => panic!("no such setting: {other}"),
        }
    }
    settings
}

fn night_in_berlin() -> QuietHours {
    let hours = DoNotDisturb { from: "22:00".into(), to: "07:00".into(), time_zone: "Europe/Berlin".into() };
    hours.try_into().unwrap()
}

fn stay(joined_seq: i64, left_seq: Option<i64>, visible_from_seq: i64) -> Membership {
    Membership { user_id: "u-bob".into(), member_role: "member".into(), joined_seq, left_seq, visible_from_seq }
}

fn stays(person: &str) -> Vec<Membership> {
    match person {
        "stranger" => vec![],
        "left" => vec![stay(1, Some(SEQ + 1), 1)],
        "joined_later" => vec![stay(SEQ + 1, None, 1)],
        "hidden" => vec![stay(SEQ - 1, None, SEQ + 1)],
        "back" => vec![stay(SEQ - 5, None, SEQ - 5), stay(1, Some(SEQ - 20), 1)],
        _ => vec![stay(1, None, 1)],
    }
}

fn recipient<'a>(person: &str, settings: &'a Settings, stays: &'a [Membership], presence: Presence) -> Recipient<'a> {
    Recipient {
        user_id: "u-bob",
        display_name: Some("Bob"),
        stays,
        settings,
        delivered_seq: if matches!(person, "delivered" | "read") { SEQ } else { SEQ - 1 },
        read_seq: if person == "read" { SEQ } else { SEQ - 1 },
        presence,
        has_device: person != "no_device",
        has_address: person != "no_address",
    }
}

fn span(ms: i64) -> String {
    let (minutes, seconds) = (ms / 60_000, ms / 1_000 % 60);
    match (minutes / 60, minutes % 60, seconds) {
        (0, minutes, 0) => format!("+{minutes}m"),
        (0, 0, seconds) => format!("+{seconds}s"),
        (hours, 0, 0) => format!("+{hours}h"),
        (hours, minutes, 0) => format!("+{hours}h{minutes}m"),
        _ => format!("+{ms}ms"),
    }
}

/// What the function says, in the words of the table.
fn said(decided: Result<Decision, Reason>, now_ms: i64) -> [String; 4] {
    let decision = match decided {
        Err(reason) => return ["nothing".into(), "nothing".into(), "nothing".into(), reason.name().into()],
        Ok(decision) => decision,
    };
    let in_app = match decision.in_app {
        InApp::Show => "show",
        InApp::No(reason) => reason.name(),
    };
    let push = match decision.push {
        Push::Send => "send".into(),
        Push::LookAgain { at_ms } => format!("again{}", span(at_ms - now_ms)),
        Push::No(reason) => reason.name().into(),
    };
    let mail = match decision.mail {
        Mail::Digest { at_ms } => span(at_ms - now_ms),
        Mail::No(reason) => reason.name().into(),
    };
    let cause = match decision.cause {
        Cause::Message => "message",
        Cause::Mention => "mention",
        Cause::MentionAll => "all",
    };
    [in_app.into(), push, mail, cause.into()]
}

#[test]
fn the_table_holds() {
    let mut cases = BTreeSet::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [kind, changes, person, presence, look, time, expected @ ..] = fields.as_slice() else {
            panic!("{line}");
        };
        assert_eq!(expected.len(), 4, "{line}");
        let now_ms = ms(match *time {
            "noon" | "late" => "2026-01-15T11:00:00Z",
            "night" => "2026-01-15T22:00:00Z",
            "evening" => "2026-01-15T20:50:00Z",
            "dawn" => "2026-01-15T06:00:00Z",
            "summer" => "2026-07-15T05:30:00Z",
            other => panic!("no such time: {other}"),
        });
        let sent_at_ms = if *time == "late" { now_ms - 25 * 3_600_000 } else { now_ms };
        let presence = match *presence {
            "online" => Presence::Online,
            "idle" => Presence::Idle,
            "offline" => Presence::Offline,
            "unknown" => Presence::NotKnown { until_ms: now_ms + 10_000 },
            "settled" => Presence::NotKnown { until_ms: now_ms },
            other => panic!("no such presence: {other}"),
        };
        let look = match *look {
            "1st" => Look::First,
            "again" => Look::Again,
            other => panic!("no such look: {other}"),
        };
        let role = kind.strip_prefix("all@").unwrap_or("member");
        let (event, settings, stays) = (event(kind, sent_at_ms), settings(changes), stays(person));
        let to = recipient(person, &settings, &stays, presence);
        let decided =
            Message::of(&event, Some(role)).and_then(|message| decide(&message, &to, &Policy::default(), look, now_ms));
        assert_eq!(said(decided, now_ms), *expected, "{line}");
        assert!(cases.insert(fields[..6].join("|")), "twice: {line}");
    }
    assert!(cases.len() >= 60, "only {} cases", cases.len());
}

fn any_presence() -> impl Strategy<Value = Presence> {
    prop_oneof![
        Just(Presence::Online),
        Just(Presence::Idle),
        Just(Presence::Offline),
        (-30_000..30_000_i64).prop_map(|ms| Presence::NotKnown { until_ms: ms })
    ]
}

prop_compose! {
    fn any_settings()(
        in_app: bool, push: bool, email: bool, is_muted: bool, is_mentions_only: bool, has_hours: bool,
    ) -> Settings {
        let chats = |wanted: bool| wanted.then(|| CHAT.to_owned()).into_iter().collect();
        Settings {
            in_app, push, email,
            do_not_disturb: has_hours.then(night_in_berlin),
            muted_chat_ids: chats(is_muted),
            mentions_only_chat_ids: chats(is_mentions_only),
            ..Settings::default()
        }
    }
}

proptest! {
    #[test]
    fn rules_hold_in_every_state(
        settings in any_settings(),
        presence in any_presence(),
        kind in prop::sample::select(vec!["plain", "mention", "all@admin", "all@member", "own", "file"]),
        person in prop::sample::select(vec![
            "member", "delivered", "read", "left", "stranger", "joined_later", "hidden", "back", "no_device", "no_address",
        ]),
        is_again: bool,
        now_s in 1_700_000_000..1_900_000_000_i64,
        age_s in 0..200_000_i64,
    ) {
        let now_ms = now_s * 1_000;
        let presence = match presence {
            Presence::NotKnown { until_ms } => Presence::NotKnown { until_ms: now_ms + until_ms },
            other => other,
        };
        let look = if is_again { Look::Again } else { Look::First };
        let (event, stays) = (event(kind, now_ms - age_s * 1_000), stays(person));
        let to = recipient(person, &settings, &stays, presence);
        let message = Message::of(&event, Some(kind.strip_prefix("all@").unwrap_or("member"))).unwrap();
        let decided = decide(&message, &to, &Policy::default(), look, now_ms);

        // Nobody's own, nobody outside, nothing read, nothing muted.
        let tells_nobody = kind == "own"
            || matches!(person, "read" | "left" | "stranger" | "joined_later" | "hidden")
            || settings.muted_chat_ids.contains(CHAT);
        prop_assert!(!tells_nobody || decided.is_err());
        let Ok(decision) = decided else { return Ok(()) };

        // A channel that is off stays off, and one that isn't is never said to be.
        prop_assert_eq!(decision.in_app == InApp::No(Reason::Off), !settings.in_app);
        prop_assert_eq!(decision.push == Push::No(Reason::Off), !settings.push);
        prop_assert_eq!(decision.mail == Mail::No(Reason::Off), !settings.email);

        // Nothing is heard in the hours of silence.
        let hours = settings.do_not_disturb.as_ref();
        if hours.is_some_and(|hours| hours.end_of(now_ms).is_some()) {
            prop_assert_ne!(decision.in_app, InApp::Show);
            prop_assert!(matches!(decision.push, Push::No(_)));
        }
        if let Mail::Digest { at_ms } = decision.mail {
            prop_assert!(at_ms >= now_ms);
            prop_assert!(hours.is_none_or(|hours| hours.end_of(at_ms).is_none()));
        }
        match decision.push {
            // Not known isn't offline as long as the message is young, and who looks online has had the time to take it.
            Push::Send => {
                let is_unknown = matches!(presence, Presence::NotKnown { until_ms } if until_ms > now_ms);
                prop_assert!(!is_unknown || (look == Look::Again && age_s > 120));
                prop_assert!(matches!(presence, Presence::Idle | Presence::Offline) || look == Look::Again);
                let is_unseen = presence == Presence::Idle && look == Look::First;
                prop_assert!((to.delivered_seq < SEQ || is_unseen) && to.has_device);
            }
            // Looking again comes to an end.
            Push::LookAgain { at_ms } => {
                prop_assert!(at_ms > now_ms);
                let later = Recipient { presence: Presence::Offline, ..to };
                let again = decide(&message, &later, &Policy::default(), Look::Again, at_ms);
                let is_looking = matches!(again, Ok(Decision { push: Push::LookAgain { .. }, .. }));
                prop_assert!(!is_looking);
            }
            Push::No(_) => {}
        }
    }
}
