//! An event straight from its bytes into our structs: whoever rebuilds from the history reads millions of them.
//!
//! Only for the very schema of this version, field after field as `avro/ChatEvent.avsc` lists them. What isn't as expected is
//! left to Avro's own reader, which says what is wrong. The tests hold one against the other.

use super::{Attachment, ChatEvent, ChatState, Membership, MessageState, Origin};

/// The event of a whole datum; `None` where anything in it is unexpected.
pub(super) fn event(datum: &[u8]) -> Option<ChatEvent> {
    let mut rest = Datum(datum);
    let event = ChatEvent {
        event_id: rest.text()?,
        event_type: rest.text()?,
        chat_id: rest.text()?,
        seq: rest.long()?,
        actor_id: rest.text()?,
        occurred_at: rest.long()?,
        origin: Origin { shard: rest.int()?, commit_lsn: rest.long()?, ordinal: rest.long()? },
        message: rest.optional(Datum::message)?,
        memberships: rest.array(Datum::membership)?,
        chat: rest.optional(Datum::chat)?,
    };
    rest.0.is_empty().then_some(event)
}

/// What is left of a datum.
struct Datum<'a>(&'a [u8]);

impl Datum<'_> {
    /// Zigzag, in groups of seven bits, lowest first.
    fn long(&mut self) -> Option<i64> {
        let (mut zigzag, mut shift) = (0_u64, 0_u32);
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            // Of the tenth byte there is room for one bit.
            if shift == 63 && byte > 1 {
                return None;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
            shift += 7;
        }
    }

    fn int(&mut self) -> Option<i32> {
        i32::try_from(self.long()?).ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        match byte {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    /// A union of null and one type.
    #[allow(clippy::option_option, reason = "the outer one says whether it could be read, the inner one is what was")]
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.long()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    /// Blocks of items; the last one has none. A negative count is followed by the block's size in bytes.
    fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        loop {
            let mut count = self.long()?;
            if count < 0 {
                self.long()?;
                count = count.checked_neg()?;
            }
            if count == 0 {
                return Some(items);
            }
            for _ in 0..count {
                items.push(read(self)?);
            }
        }
    }

    fn message(&mut self) -> Option<MessageState> {
        Some(MessageState {
            message_id: self.text()?,
            message_seq: self.long()?,
            sender_id: self.text()?,
            content: self.optional(Self::text)?,
            parent_message_id: self.optional(Self::text)?,
            parent_seq: self.optional(Self::long)?,
            created_at: self.long()?,
            edited_at: self.optional(Self::long)?,
            deleted_at: self.optional(Self::long)?,
            app_data: self.optional(Self::text)?,
            attachments: self.array(Self::attachment)?,
        })
    }

    fn attachment(&mut self) -> Option<Attachment> {
        Some(Attachment {
            media_id: self.text()?,
            kind: self.text()?,
            file_name: self.text()?,
            content_type: self.text()?,
            size_bytes: self.long()?,
            width_px: self.optional(Self::long)?,
            height_px: self.optional(Self::long)?,
            duration_ms: self.optional(Self::long)?,
            thumbhash: self.optional(Self::text)?,
        })
    }

    fn membership(&mut self) -> Option<Membership> {
        Some(Membership {
            user_id: self.text()?,
            member_role: self.text()?,
            joined_seq: self.long()?,
            left_seq: self.optional(Self::long)?,
            visible_from_seq: self.long()?,
        })
    }

    fn chat(&mut self) -> Option<ChatState> {
        Some(ChatState {
            chat_name: self.optional(Self::text)?,
            is_group: self.boolean()?,
            created_at: self.long()?,
            app_data: self.optional(Self::text)?,
            avatar_url: self.optional(Self::text)?,
            deleted_shown_as: self.text()?,
            history_for_new_members: self.boolean()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::Encoder;
    use crate::codec::HEADER_BYTES;

    prop_compose! {
        fn attachment()(texts in vec(".{0,9}", 4), size_bytes: i64, numbers in vec(of(any::<i64>()), 3), hash in of(".*"))
            -> Attachment {
            let [media_id, kind, file_name, content_type] = texts.try_into().expect("four");
            let (width_px, height_px, duration_ms) = (numbers[0], numbers[1], numbers[2]);
            Attachment {
                media_id, kind, file_name, content_type, size_bytes, width_px, height_px, duration_ms, thumbhash: hash,
            }
        }
    }

    prop_compose! {
        fn message()(
            ids in (".{0,9}", ".{0,9}", of(".{0,200}"), of(".{0,9}"), of(".*")),
            numbers in any::<(i64, Option<i64>, i64, Option<i64>, Option<i64>)>(),
            attachments in vec(attachment(), 0..3),
        ) -> MessageState {
            MessageState {
                message_id: ids.0, message_seq: numbers.0, sender_id: ids.1, content: ids.2, parent_message_id: ids.3,
                parent_seq: numbers.1, created_at: numbers.2, edited_at: numbers.3, deleted_at: numbers.4, app_data: ids.4,
                attachments,
            }
        }
    }

    prop_compose! {
        fn membership()(user_id in ".{0,9}", member_role in ".{0,9}", numbers in any::<(i64, Option<i64>, i64)>())
            -> Membership {
            Membership {
                user_id, member_role, joined_seq: numbers.0, left_seq: numbers.1, visible_from_seq: numbers.2,
            }
        }
    }

    prop_compose! {
        fn chat()(texts in (of(".*"), of(".*"), of(".*"), ".{0,9}"), facts in any::<(bool, i64, bool)>()) -> ChatState {
            ChatState {
                chat_name: texts.0, is_group: facts.0, created_at: facts.1, app_data: texts.1, avatar_url: texts.2,
                deleted_shown_as: texts.3, history_for_new_members: facts.2,
            }
        }
    }

    prop_compose! {
        fn any_event()(
            texts in (".{0,9}", ".{0,9}", ".{0,9}", ".{0,9}"),
            numbers in any::<(i64, i64, i32, i64, i64)>(),
            message in of(message()),
            memberships in vec(membership(), 0..4),
            chat in of(chat()),
        ) -> ChatEvent {
            ChatEvent {
                event_id: texts.0, event_type: texts.1, chat_id: texts.2, seq: numbers.0, actor_id: texts.3,
                occurred_at: numbers.1,
                origin: Origin { shard: numbers.2, commit_lsn: numbers.3, ordinal: numbers.4 },
                message, memberships, chat,
            }
        }
    }

    fn datum(event: &ChatEvent) -> Vec<u8> {
        Encoder::new(7).encode(event).expect("fits its schema").split_off(HEADER_BYTES)
    }

    proptest! {
        #[test]
        fn every_event_is_read_as_it_was_written(event in any_event()) {
            prop_assert_eq!(super::event(&datum(&event)), Some(event));
        }

        #[test]
        fn bytes_that_are_bent_are_read_as_avro_reads_them_or_left_to_it(
            event in any_event(), place: prop::sample::Index, byte: u8, length: prop::sample::Index,
        ) {
            let mut bent = datum(&event);
            let place = place.index(bent.len());
            bent[place] = byte;
            bent.truncate(length.index(bent.len()) + 1);
            if let Some(found) = super::event(&bent) {
                // Whatever is accepted means the same when it is written again.
                prop_assert_eq!(super::event(&datum(&found)), Some(found));
            }
        }
    }

    #[test]
    fn blocks_may_tell_their_size() {
        // Two blocks, the first with its size, then none.
        let mut bytes = Datum(&[3, 4, 2, 4, 2, 6, 0]);
        assert_eq!(bytes.array(Datum::long), Some(vec![1, 2, 3]));
        assert!(bytes.0.is_empty());
        // A count that no datum can hold takes no memory for it.
        assert_eq!(Datum(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).array(Datum::long), None);
    }
}
