//! Histories for tests: random, but such as the persister would write.

use proptest::prelude::*;
use schemas::{ChatEvent, Membership, MessageState, Origin, event_type};
use uuid::Uuid;

/// What somebody tries; it becomes an event if the chat's state allows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action {
    chat: u8,
    user: u8,
    kind: u8,
    pick: u8,
}

/// Up to `most` actions in a few chats of a few people.
pub(crate) fn actions(most: usize) -> impl Strategy<Value = Vec<Action>> {
    let action = (0..2_u8, 0..4_u8, 0..12_u8, any::<u8>()).prop_map(|(chat, user, kind, pick)| Action {
        chat,
        user,
        kind,
        pick,
    });
    prop::collection::vec(action, 0..most)
}

/// Where to cut a sequence into batches.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..9_usize, 1..40)
}

/// The sequence in pieces of these lengths, the last length again and again.
pub(crate) fn batches<'a, T>(records: &'a [T], lengths: &[usize]) -> Vec<&'a [T]> {
    let mut rest = records;
    let mut batches = Vec::new();
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(3));
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[derive(Default)]
struct Chat {
    seq: i64,
    open: Vec<Membership>,
    messages: Vec<MessageState>,
}

/// The events that these actions make.
pub(crate) fn history(actions: &[Action]) -> Vec<ChatEvent> {
    let mut chats = [Chat::default(), Chat::default()];
    actions.iter().filter_map(|action| chats[usize::from(action.chat)].event(*action)).collect()
}

impl Chat {
    fn event(&mut self, action: Action) -> Option<ChatEvent> {
        let user = format!("u{}", action.user);
        let seq = self.seq + 1;
        let at = self.open.iter().position(|stay| stay.user_id == user);
        let (event_type, message, memberships) = match (action.kind, at) {
            (0..=2, None) => {
                let stay = Membership {
                    user_id: user.clone(),
                    member_role: "member".into(),
                    joined_seq: seq,
                    left_seq: None,
                    visible_from_seq: if action.pick.is_multiple_of(2) { 1 } else { seq },
                };
                self.open.push(stay.clone());
                (event_type::MEMBER_JOINED, None, vec![stay])
            }
            (0, Some(at)) => {
                let stay = Membership { left_seq: Some(seq), ..self.open.remove(at) };
                (event_type::MEMBER_LEFT, None, vec![stay])
            }
            (1, Some(at)) => {
                self.open[at].member_role = format!("role{}", action.pick % 3);
                (event_type::MEMBER_UPDATED, None, vec![self.open[at].clone()])
            }
            (2..=7, Some(_)) => {
                let message = MessageState {
                    message_id: Uuid::from_u128(u128::from(action.chat) << 64 | seq as u128).to_string(),
                    message_seq: seq,
                    sender_id: user.clone(),
                    content: Some(format!("text {seq}")),
                    created_at: 1_000 * seq,
                    ..MessageState::default()
                };
                self.messages.push(message.clone());
                (event_type::MESSAGE_PERSISTED, Some(message), vec![])
            }
            (8..=10, Some(_)) if !self.messages.is_empty() => {
                let at = self.messages.len() - 1 - usize::from(action.pick) % self.messages.len().min(3);
                let message = &mut self.messages[at];
                if message.deleted_at.is_some() {
                    return None;
                }
                let event_type = if action.kind == 8 {
                    message.content = Some(format!("edited {seq}"));
                    message.edited_at = Some(1_000 * seq);
                    event_type::MESSAGE_EDITED
                } else {
                    message.content = None;
                    message.deleted_at = Some(1_000 * seq);
                    event_type::MESSAGE_DELETED
                };
                (event_type, Some(message.clone()), vec![])
            }
            (11, _) if action.pick.is_multiple_of(2) => (event_type::WITHHELD, None, vec![]),
            (11, _) => ("poll.closed", None, vec![]),
            _ => return None,
        };
        self.seq = seq;
        let chat_id = format!("chat{}", action.chat);
        Some(ChatEvent {
            event_id: ChatEvent::id_of(&chat_id, seq),
            event_type: event_type.to_owned(),
            chat_id,
            seq,
            actor_id: user,
            occurred_at: 1_000 * seq,
            origin: Origin::default(),
            message,
            memberships,
            chat: None,
        })
    }
}
