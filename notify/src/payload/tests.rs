use proptest::prelude::*;
use schemas::Attachment;
use serde_json::json;

use super::*;
use crate::languages::Languages;
use crate::text::Language;

const MESSAGE: &str = "0190b5a0-1c2d-7e3f-8a4b-5c6d7e8f9012";

fn alert() -> Alert<'static> {
    Alert {
        cause: Cause::Message,
        chat_id: "team-1",
        chat_name: Some("Team"),
        message_id: MESSAGE,
        seq: 42,
        sender_id: "u-alice",
        sender_name: "Alice",
        text: Some("Lunch at\n noon?"),
        attachments: &[],
        sent_at_ms: 1_790_000_000_500,
        badge: 3,
        link: "https://chat.example/#/chats/team-1?message=0190b5a0-1c2d-7e3f-8a4b-5c6d7e8f9012",
    }
}

fn web_push(alert: &Alert<'_>, mode: ContentMode, language: Language) -> WebPushPush {
    WebPushPush::message(alert, mode, Languages::built_in().texts(language))
}

fn file(kind: &str) -> Attachment {
    Attachment {
        media_id: "m1".into(),
        kind: kind.into(),
        file_name: "secret-plan.bin".into(),
        content_type: "application/octet-stream".into(),
        size_bytes: 1,
        width_px: None,
        height_px: None,
        duration_ms: None,
        thumbhash: None,
    }
}

#[test]
fn apns_of_a_group_in_full() {
    let push = ApnsPush::message(&alert(), ContentMode::Full);
    assert_eq!(
        push.payload,
        json!({
            "aps": {
                "alert": { "title": "Team", "subtitle": "Alice", "body": "Lunch at noon?" },
                "badge": 3,
                "sound": "default",
                "thread-id": "team-1",
                "category": "WALTALKIE_MESSAGE",
                "mutable-content": 1
            },
            "waltalkie": {
                "type": "message",
                "chat_id": "team-1",
                "message_id": MESSAGE,
                "seq": 42,
                "sender_id": "u-alice",
                "link": alert().link
            }
        })
    );
    assert_eq!((push.priority, push.collapse_id.as_str()), (ApnsPriority::Now, MESSAGE));
    assert_eq!(push.expires_at_s, 1_790_000_000 + 7 * 86_400);
}

#[test]
fn apns_of_other_modes() {
    let alert = Alert { cause: Cause::Mention, chat_name: None, ..alert() };
    let sender = ApnsPush::message(&alert, ContentMode::SenderOnly).payload;
    assert_eq!(sender["aps"]["alert"], json!({ "title": "Alice", "loc-key": "WALTALKIE_MENTION" }));
    let nothing = ApnsPush::message(&alert, ContentMode::Nothing).payload;
    assert_eq!(nothing["aps"]["alert"], json!({ "loc-key": "WALTALKIE_MESSAGE" }));
    assert_eq!(nothing["waltalkie"]["sender_id"], json!(null));
}

#[test]
fn fcm_of_a_group_in_full() {
    assert_eq!(
        FcmPush::message(&alert(), ContentMode::Full).message,
        json!({
            "data": {
                "type": "message",
                "chat_id": "team-1",
                "message_id": MESSAGE,
                "seq": "42",
                "badge": "3",
                "sender_id": "u-alice",
                "link": alert().link
            },
            "android": {
                "priority": "HIGH",
                "ttl": "604800s",
                "collapse_key": "team-1",
                "notification": {
                    "title": "Team",
                    "body": "Alice: Lunch at noon?",
                    "tag": MESSAGE,
                    "channel_id": "messages",
                    "notification_count": 3
                }
            }
        })
    );
}

#[test]
fn fcm_of_other_modes() {
    let sender = FcmPush::message(&alert(), ContentMode::SenderOnly).message;
    assert_eq!(
        sender["android"]["notification"],
        json!({
            "title": "Team",
            "body_loc_key": "WALTALKIE_MESSAGE",
            "body_loc_args": ["Alice"],
            "tag": MESSAGE,
            "channel_id": "messages",
            "notification_count": 3
        })
    );
    let nothing = FcmPush::message(&Alert { cause: Cause::MentionAll, ..alert() }, ContentMode::Nothing).message;
    assert_eq!(nothing["android"]["notification"]["body_loc_key"], "WALTALKIE_MESSAGE");
    assert_eq!(nothing["android"]["notification"]["body_loc_args"], json!([]));
    assert_eq!(nothing["android"]["notification"]["title"], json!(null));
}

#[test]
fn web_push_of_a_one_to_one_chat() {
    let alert = Alert { chat_name: None, ..alert() };
    let push = web_push(&alert, ContentMode::Full, Language::EN);
    assert_eq!(
        push.payload,
        json!({
            "type": "message",
            "title": "Alice",
            "subtitle": null,
            "body": "Lunch at noon?",
            "body_loc_key": null,
            "lang": "en",
            "tag": MESSAGE,
            "chat_id": "team-1",
            "message_id": MESSAGE,
            "seq": 42,
            "sender_id": "u-alice",
            "badge": 3,
            "link": alert.link,
            "timestamp": 1_790_000_000_500_i64
        })
    );
    assert_eq!((push.urgency, push.ttl_s), (Urgency::Normal, 604_800));
    let (topic, other) = (push.topic, Alert { chat_id: "team-2", ..alert });
    assert_eq!(topic.len(), 32);
    assert_ne!(web_push(&other, ContentMode::Full, Language::EN).topic, topic);
}

#[test]
fn web_push_of_other_modes() {
    let alert = Alert { cause: Cause::MentionAll, ..alert() };
    let push = web_push(&alert, ContentMode::SenderOnly, Language::DE);
    assert_eq!(push.urgency, Urgency::High);
    assert_eq!(
        (&push.payload["title"], &push.payload["subtitle"], &push.payload["body"], &push.payload["body_loc_key"]),
        (&json!("Team"), &json!("Alice"), &json!("Alle wurden erwähnt"), &json!("WALTALKIE_MENTION_ALL"))
    );
    let nothing = web_push(&alert, ContentMode::Nothing, Language::DE).payload;
    assert_eq!((&nothing["title"], &nothing["body"]), (&json!(null), &json!("Neue Nachricht")));
}

#[test]
fn files_without_words_have_a_phrase_in_full_mode_only() {
    for (kind, phrase) in
        [("image", Phrase::Photo), ("video", Phrase::Video), ("audio", Phrase::Audio), ("other", Phrase::File)]
    {
        let files = [file(kind)];
        let alert = Alert { text: Some(" "), attachments: &files, ..alert() };
        let shown = |mode| ApnsPush::message(&alert, mode).payload["aps"]["alert"]["loc-key"].clone();
        assert_eq!(shown(ContentMode::Full), phrase.key());
        assert_eq!(shown(ContentMode::SenderOnly), Phrase::Message.key());
        assert_eq!(shown(ContentMode::Nothing), Phrase::Message.key());
    }
}

#[test]
fn reading_clears_where_the_platform_lets_it() {
    let read = ReadElsewhere { chat_id: "team-1", read_seq: 42, badge: 0 };
    let apns = ApnsPush::read(&read, 1_790_000_000_500);
    assert_eq!(
        apns.payload,
        json!({
            "aps": { "badge": 0, "content-available": 1 },
            "waltalkie": { "type": "read", "chat_id": "team-1", "read_seq": 42 }
        })
    );
    assert_eq!(apns.priority, ApnsPriority::Saving);
    assert!(apns.collapse_id.len() <= 64);
    assert_eq!(
        FcmPush::read(&read).message,
        json!({
            "data": { "type": "read", "chat_id": "team-1", "read_seq": "42", "badge": "0" },
            "android": { "priority": "NORMAL", "ttl": "604800s", "collapse_key": "read/team-1" }
        })
    );
}

/// Blocks of JSON of a section, in order.
fn documented(page: &str, section: &str) -> Vec<serde_json::Value> {
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap()).collect()
}

#[test]
fn what_apps_receive_is_what_the_documentation_says() {
    let alert = Alert {
        chat_id: "launch",
        chat_name: Some("Launch"),
        message_id: "0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55",
        sender_id: "alice",
        link: "https://chat.example.com/#/chats/launch",
        ..alert()
    };
    let read = ReadElsewhere { chat_id: "launch", read_seq: 42, badge: 0 };
    let expected = [
        ApnsPush::message(&alert, ContentMode::Full).payload,
        ApnsPush::read(&read, alert.sent_at_ms).payload,
        FcmPush::message(&alert, ContentMode::Full).message,
        FcmPush::read(&read).message,
        web_push(&alert, ContentMode::Full, Language::EN).payload,
    ];
    assert_eq!(documented(include_str!("../../../docs/notifications.md"), "What apps receive"), expected);
}

#[test]
fn links_come_from_the_operators_template() {
    let links = Links::new("https://chat.example/#/chats/{chat_id}?message={message_id}").unwrap();
    assert_eq!(links.to("team-1", MESSAGE), alert().link);
    assert_eq!(Links::new("app:{chat_id}").unwrap().to("a", "b"), "app:a");
    assert!(Links::new("https://chat.example").is_err());
}

proptest! {
    #[test]
    fn nothing_is_too_large_and_no_mode_says_too_much(
        text in prop::option::of("\\PC{0,2000}"), name in "\\PC{0,300}", sender in "[a-z]{8}\\PC{0,300}", is_group: bool,
    ) {
        let secret = "tell-nobody-of-this";
        let text = text.map(|text| format!("{secret} {text}"));
        let files = [file("image")];
        let chat_id = "x".repeat(64);
        let link = format!("https://chat.example/#/chats/{chat_id}?message={MESSAGE}");
        let alert = Alert {
            chat_id: &chat_id,
            link: &link,
            chat_name: is_group.then_some(name.as_str()),
            sender_name: &sender,
            text: text.as_deref(),
            attachments: &files,
            ..alert()
        };
        for mode in [ContentMode::Full, ContentMode::SenderOnly, ContentMode::Nothing] {
            let all = [
                ApnsPush::message(&alert, mode).payload.to_string(),
                FcmPush::message(&alert, mode).message.to_string(),
                web_push(&alert, mode, Language::DE).payload.to_string(),
            ];
            for json in all {
                prop_assert!(json.len() <= 3_993, "{} bytes", json.len());
                prop_assert!(!json.contains("secret-plan"));
                prop_assert!(mode == ContentMode::Full || !json.contains(secret));
                prop_assert!(mode != ContentMode::Nothing || !json.contains(&sender[..8]));
                prop_assert!(mode != ContentMode::Nothing || !json.contains("u-alice"));
            }
        }
    }
}
