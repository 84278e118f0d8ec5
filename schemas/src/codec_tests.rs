use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    Attachment, ChatCommand, ChatEvent, ChatState, Cursor, Decoder, Encoder, Mark, Membership, MessageState, Origin,
    PartitionEnd, Position, Record, TopicShape, User, codec, registry::Registry,
};

fn decoder<R: Record>() -> Decoder<R> {
    // No schema has to be asked for, so nothing needs to listen there.
    Decoder::new(Arc::new(Registry::new("http://127.0.0.1:1", "").expect("a URL")), 7)
}

fn round_trip<R: Record + PartialEq + std::fmt::Debug>(value: &R) {
    let framed = Encoder::<R>::new(7).encode(value).expect("fits its schema");
    assert_eq!(codec::schema_id_of(&framed).expect("framed"), 7);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let back = runtime.block_on(decoder::<R>().decode(&framed)).expect("decodes");
    assert_eq!(&back, value);
}

fn event(text: Option<String>, seq: i64) -> ChatEvent {
    ChatEvent {
        event_id: ChatEvent::id_of("c", seq),
        event_type: "message.persisted".into(),
        chat_id: "c".into(),
        seq,
        actor_id: "alice".into(),
        occurred_at: 1,
        origin: Origin { shard: 0, commit_lsn: i64::MAX, ordinal: 3 },
        message: Some(MessageState {
            message_id: "m".into(),
            message_seq: seq,
            sender_id: "alice".into(),
            content: text,
            parent_seq: Some(9),
            attachments: vec![Attachment {
                media_id: "x".into(),
                kind: "image".into(),
                file_name: "a.png".into(),
                content_type: "image/png".into(),
                size_bytes: 1 << 60,
                width_px: Some(1),
                height_px: None,
                duration_ms: None,
                thumbhash: Some("h".into()),
            }],
            ..MessageState::default()
        }),
        memberships: vec![Membership {
            user_id: "bob".into(),
            member_role: "member".into(),
            joined_seq: 1,
            left_seq: None,
            visible_from_seq: 1,
        }],
        chat: Some(ChatState {
            chat_name: None,
            is_group: true,
            created_at: -5,
            app_data: None,
            avatar_url: None,
            deleted_shown_as: "tombstone".into(),
            history_for_new_members: false,
        }),
    }
}

proptest! {
    #[test]
    fn events_come_back(text in proptest::option::of(".*"), seq: i64) {
        round_trip(&event(text, seq));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes: Vec<u8>) {
        let mut framed = vec![0, 0, 0, 0, 7];
        framed.extend(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let _ = runtime.block_on(decoder::<ChatEvent>().decode(&framed));
    }
}

#[test]
fn every_other_record_comes_back() {
    round_trip(&ChatCommand {
        command_id: "1".into(),
        chat: Some(crate::ChatSettings::default()),
        ..ChatCommand::default()
    });
    round_trip(&Mark {
        chat_id: "c".into(),
        user_id: "u".into(),
        delivered_seq: Some(3),
        read_seq: None,
        marked_at: 1,
    });
    round_trip(&Cursor { chat_id: "c".into(), user_id: "u".into(), delivered_seq: 3, read_seq: 2, updated_at: 1 });
    round_trip(&User { user_id: "u".into(), display_name: None, avatar_url: None, email: None, updated_at: 1 });
    round_trip(&Position {
        slot: "s".into(),
        system_identifier: "1".into(),
        timeline: 1,
        commit_lsn: -1,
        ordinal: -1,
        confirmable_lsn: 5,
        cluster_id: "k".into(),
        partitions: vec![PartitionEnd {
            topic_name: "t".into(),
            topic_uuid: "u".into(),
            partition_number: 1,
            last_offset: 2,
        }],
        topics: vec![TopicShape { topic_name: "t".into(), topic_uuid: "u".into(), partition_count: 3 }],
        resnapshot_until_lsn: None,
        handed_over_at: None,
        left_out_at: Some(1),
        written_at: 1,
    });
}
