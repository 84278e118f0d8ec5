//! Records of today, one for each thing that a record can say: what golden files are made of.

use serde_json::Value;

use crate::codec::HEADER_BYTES;
use crate::{
    Attachment, ChatAbuse, ChatActivity, ChatCommand, ChatEvent, ChatSettings, ChatState, CommandMember, Cursor,
    DigestChat, Encoder, Mark, Membership, MessageState, Notification, OperatorProgress, OperatorState, OperatorWindow,
    Origin, PartitionEnd, Position, Record, TopicShape, User, abuse_kind, event_type, notification_type,
};

/// A record, written.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// The Avro datum, without a header.
    pub(super) datum: Vec<u8>,
    /// What it says.
    pub(super) json: Value,
}

/// Samples of every record. New fields and new types get theirs here: a test wants each field set in one of them.
pub(super) fn all() -> Vec<(&'static str, Vec<Sample>)> {
    vec![
        (ChatCommand::NAME, commands()),
        (ChatEvent::NAME, events()),
        (User::NAME, users()),
        (Mark::NAME, marks()),
        (Cursor::NAME, vec![sample("cursor", &cursor())]),
        (Notification::NAME, notifications()),
        (Position::NAME, positions()),
        (ChatActivity::NAME, activity()),
        (ChatAbuse::NAME, abuse()),
        (OperatorState::NAME, operator_states()),
    ]
}

fn sample<R: Record>(name: &'static str, value: &R) -> Sample {
    let framed = Encoder::new(0).encode(value).expect("fits its schema");
    let datum = framed[HEADER_BYTES..].to_vec();
    Sample { name, datum, json: serde_json::to_value(value).expect("fits JSON") }
}

const AT: i64 = 1_767_225_600_123;
const MESSAGE: &str = "0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55";

fn event(seq: i64, event_type: &str) -> ChatEvent {
    let origin = Origin { shard: 0, commit_lsn: 23_961_448 + seq, ordinal: 0 };
    ChatEvent { event_type: event_type.into(), ..ChatEvent::withheld("launch", seq, "alice".into(), AT + seq, origin) }
}

fn message(content: Option<&str>) -> MessageState {
    MessageState {
        message_id: MESSAGE.into(),
        message_seq: 2,
        sender_id: "alice".into(),
        content: content.map(str::to_owned),
        created_at: AT + 2,
        ..MessageState::default()
    }
}

fn stay(user_id: &str, member_role: &str, left_seq: Option<i64>) -> Membership {
    Membership {
        user_id: user_id.into(),
        member_role: member_role.into(),
        joined_seq: 1,
        left_seq,
        visible_from_seq: 1,
    }
}

fn chat(chat_name: Option<&str>) -> ChatState {
    ChatState {
        chat_name: chat_name.map(str::to_owned),
        is_group: chat_name.is_some(),
        created_at: AT,
        app_data: chat_name.map(|_| r#"{"ticket":7}"#.into()),
        avatar_url: chat_name.map(|_| "https://cdn.example/launch.png".into()),
        deleted_shown_as: "tombstone".into(),
        history_for_new_members: true,
    }
}

/// One for each event type, in the order of a chat's life, and the fullest and the emptiest ones beside them.
fn events() -> Vec<Sample> {
    let members = vec![stay("alice", "owner", None), stay("bob", "member", None)];
    let attachment = Attachment {
        media_id: "0197f9d2-9a00-7000-8000-000000000001".into(),
        kind: "video".into(),
        file_name: "Grüße 🚀.mp4".into(),
        content_type: "video/mp4".into(),
        size_bytes: 5_368_709_120,
        width_px: Some(1920),
        height_px: Some(1080),
        duration_ms: Some(61_500),
        thumbhash: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
    };
    let file = Attachment { width_px: None, height_px: None, duration_ms: None, thumbhash: None, ..attachment.clone() };
    let full = MessageState {
        message_seq: 9,
        parent_message_id: Some(MESSAGE.into()),
        parent_seq: Some(2),
        app_data: Some(r#"{"priority":"high"}"#.into()),
        attachments: vec![attachment, file],
        ..message(Some("Grüße 🚀, with files"))
    };
    let edited = MessageState { edited_at: Some(AT + 3), ..message(Some("hello, all")) };
    let deleted = MessageState { edited_at: Some(AT + 3), deleted_at: Some(AT + 4), ..message(None) };
    let named = |name, event: &ChatEvent| sample(name, event);
    vec![
        named(
            "chat.created",
            &ChatEvent { memberships: members, chat: Some(chat(Some("Launch"))), ..event(1, event_type::CHAT_CREATED) },
        ),
        named(
            "message.persisted",
            &ChatEvent { message: Some(message(Some("hello"))), ..event(2, event_type::MESSAGE_PERSISTED) },
        ),
        named("message.edited", &ChatEvent { message: Some(edited), ..event(3, event_type::MESSAGE_EDITED) }),
        named("message.deleted", &ChatEvent { message: Some(deleted), ..event(4, event_type::MESSAGE_DELETED) }),
        named("chat.updated", &ChatEvent { chat: Some(chat(None)), ..event(5, event_type::CHAT_UPDATED) }),
        named(
            "member.joined",
            &ChatEvent { memberships: vec![stay("carol", "member", None)], ..event(6, event_type::MEMBER_JOINED) },
        ),
        named(
            "member.updated",
            &ChatEvent { memberships: vec![stay("carol", "admin", None)], ..event(7, event_type::MEMBER_UPDATED) },
        ),
        named(
            "member.left",
            &ChatEvent { memberships: vec![stay("carol", "admin", Some(8))], ..event(8, event_type::MEMBER_LEFT) },
        ),
        named("message.persisted-full", &ChatEvent { message: Some(full), ..event(9, event_type::MESSAGE_PERSISTED) }),
        named("withheld", &event(10, event_type::WITHHELD)),
    ]
}

fn commands() -> Vec<Sample> {
    let bare = ChatCommand {
        command_id: "0197f9d2-0000-7000-8000-000000000001".into(),
        command_type: "message.delete".into(),
        chat_id: "launch".into(),
        user_id: "alice".into(),
        session_id: "0197f9d2-0000-7000-8000-000000000002".into(),
        session_counter: 3,
        node_id: "gateway-1".into(),
        issued_at: AT,
        message_id: Some(MESSAGE.into()),
        ..ChatCommand::default()
    };
    let send = ChatCommand {
        command_type: "message.send".into(),
        based_on_seq: Some(8),
        content: Some("Grüße 🚀".into()),
        parent_message_id: Some(MESSAGE.into()),
        app_data: Some("{}".into()),
        media_ids: vec!["0197f9d2-9a00-7000-8000-000000000001".into()],
        ..bare.clone()
    };
    let create = ChatCommand {
        command_type: "chat.create".into(),
        message_id: None,
        members: vec![
            CommandMember { user_id: "bob".into(), member_role: Some("admin".into()) },
            CommandMember { user_id: "carol".into(), member_role: None },
        ],
        chat: Some(ChatSettings {
            is_group: Some(true),
            chat_name: Some("Launch".into()),
            app_data: Some("{}".into()),
            avatar_url: Some("https://cdn.example/launch.png".into()),
            deleted_shown_as: Some("hidden".into()),
            history_for_new_members: Some(false),
        }),
        ..bare.clone()
    };
    vec![sample("message.delete", &bare), sample("message.send", &send), sample("chat.create", &create)]
}

fn users() -> Vec<Sample> {
    let bare = User { user_id: "bob".into(), display_name: None, avatar_url: None, email: None, updated_at: AT };
    let full = User {
        display_name: Some("Bob 🚀".into()),
        avatar_url: Some("https://cdn.example/bob.png".into()),
        email: Some("bob@example.org".into()),
        ..bare.clone()
    };
    vec![sample("bare", &bare), sample("full", &full)]
}

fn marks() -> Vec<Sample> {
    let delivered =
        Mark { chat_id: "launch".into(), user_id: "bob".into(), delivered_seq: Some(9), read_seq: None, marked_at: AT };
    let read = Mark { delivered_seq: None, read_seq: Some(8), ..delivered.clone() };
    vec![sample("delivered", &delivered), sample("read", &read)]
}

fn cursor() -> Cursor {
    Cursor { chat_id: "launch".into(), user_id: "bob".into(), delivered_seq: 9, read_seq: 8, updated_at: AT }
}

/// One for each type.
fn notifications() -> Vec<Sample> {
    let message = Notification {
        notification_id: "bob/launch/9".into(),
        notification_type: notification_type::MESSAGE.into(),
        user_id: Some("bob".into()),
        chat_id: Some("launch".into()),
        seq: Some(9),
        message_id: Some(MESSAGE.into()),
        sender_id: Some("alice".into()),
        told_because: Some("mention".into()),
        device_id: Some("phone".into()),
        occurred_at: AT,
        decided_at: AT + 7,
        ..Notification::default()
    };
    let group = Notification {
        notification_id: "/launch/9".into(),
        notification_type: notification_type::GROUP.into(),
        user_id: None,
        told_because: None,
        device_id: None,
        ..message.clone()
    };
    let read = Notification {
        notification_id: "bob/launch/9/read".into(),
        notification_type: notification_type::READ.into(),
        message_id: None,
        sender_id: None,
        told_because: None,
        device_id: None,
        ..message.clone()
    };
    let digest = Notification {
        notification_id: "bob/q83vEjRWeJq83vEjRWeJ".into(),
        notification_type: notification_type::DIGEST.into(),
        chat_id: None,
        seq: None,
        digest_id: Some("q83vEjRWeJq83vEjRWeJ".into()),
        digest_chats: vec![
            DigestChat { chat_id: "launch".into(), seqs: vec![9, 11], unread_count: 2 },
            DigestChat { chat_id: "team".into(), seqs: Vec::new(), unread_count: 0 },
        ],
        ..read.clone()
    };
    vec![sample("message", &message), sample("group", &group), sample("read", &read), sample("digest", &digest)]
}

fn positions() -> Vec<Sample> {
    let first = Position {
        slot: "waltalkie".into(),
        system_identifier: "7461122334455667788".into(),
        timeline: 1,
        commit_lsn: 0,
        ordinal: -1,
        confirmable_lsn: 23_961_448,
        cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
        partitions: Vec::new(),
        topics: Vec::new(),
        resnapshot_until_lsn: None,
        handed_over_at: None,
        left_out_at: None,
        written_at: AT,
    };
    let later = Position {
        commit_lsn: 23_961_999,
        ordinal: 4,
        partitions: vec![PartitionEnd {
            topic_name: "chat.events".into(),
            topic_uuid: "9sYkDPYvTe6yXl1xUQ0sGA".into(),
            partition_number: 2,
            last_offset: 1_234,
        }],
        topics: vec![TopicShape {
            topic_name: "chat.events".into(),
            topic_uuid: "9sYkDPYvTe6yXl1xUQ0sGA".into(),
            partition_count: 3,
        }],
        resnapshot_until_lsn: Some(23_962_000),
        handed_over_at: Some(AT + 1),
        left_out_at: Some(AT + 2),
        ..first.clone()
    };
    vec![sample("first", &first), sample("later", &later)]
}

fn activity() -> Vec<Sample> {
    let closed = ChatActivity {
        chat_id: "launch".into(),
        window_start: 1_767_225_600_000,
        window_end: 1_767_225_660_000,
        revision: 0,
        messages: 12,
        senders: 3,
        text_bytes: 345,
        late_messages: 0,
    };
    let revised = ChatActivity { revision: 1, messages: 14, text_bytes: 360, late_messages: 2, ..closed.clone() };
    vec![sample("closed", &closed), sample("revised", &revised)]
}

fn abuse() -> Vec<Sample> {
    let flood = ChatAbuse {
        chat_id: "launch".into(),
        abuse_kind: abuse_kind::FLOOD.into(),
        sender_id: "mallory".into(),
        window_start: 1_767_225_600_000,
        window_end: 1_767_225_610_000,
        revision: 0,
        messages: 31,
        senders: 1,
        limit_messages: 31,
        text_hash: None,
        detected_seq: 40,
        detected_at: AT,
    };
    let repeated = ChatAbuse {
        abuse_kind: abuse_kind::REPEATED_TEXT.into(),
        window_end: 1_767_225_660_000,
        revision: 1,
        messages: 9,
        senders: 4,
        limit_messages: 5,
        text_hash: Some("9f86d081884c7d65".into()),
        ..flood.clone()
    };
    vec![sample("flood", &flood), sample("repeated-text", &repeated)]
}

fn operator_states() -> Vec<Sample> {
    let progress = OperatorProgress {
        topic_log: "4L6g3nShT-eMCtK--X86sw/9sYkDPYvTe6yXl1xUQ0sGA".into(),
        next_offset: 1_235,
        watermark_at: Some(AT),
    };
    let window = OperatorWindow {
        window_kind: abuse_kind::REPEATED_TEXT.into(),
        chat_id: "launch".into(),
        detail: "9f86d081884c7d65".into(),
        window_start: 1_767_225_600_000,
        window_end: 1_767_225_660_000,
        messages: 6,
        text_bytes: 66,
        late_messages: 1,
        rows_written: 1,
        has_news: true,
        sender_hashes: vec![-7_046_029_254_386_353_131, 12],
        detected_sender: Some("mallory".into()),
        detected_seq: Some(40),
        detected_at: Some(AT),
        limit_messages: 5,
    };
    vec![
        sample("progress", &OperatorState { progress: Some(progress), open_window: None }),
        sample("window", &OperatorState { progress: None, open_window: Some(window) }),
    ]
}
