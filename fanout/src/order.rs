//! The sender's order after a refusal: once the gateway refused a send, later sends of that chat wait until it was sent
//! again or discarded. Pure; one for each connection.
//!
//! A client that hears nothing for long sends again what was accepted. If that attempt is refused and the first one is
//! persisted after all, the message is where it belongs and nobody will send it again: it blocks nothing.

use std::collections::{HashMap, VecDeque};

use schemas::wire::{Code, Rejection};
use uuid::Uuid;

/// Chats of one connection that may be blocked at a time. More is no client that looks at its answers.
const BLOCKED_CHATS: usize = 256;

/// The latest persisted sends that are remembered: an attempt that was under way meanwhile is refused soon after.
const PERSISTED_SENDS: usize = 64;

/// The refused send that blocks each chat.
#[derive(Debug, Default)]
pub(crate) struct Order {
    blocking: HashMap<String, Uuid>,
    persisted: VecDeque<Uuid>,
}

impl Order {
    /// Whether a send may go on now.
    pub(crate) fn check(&self, chat_id: &str, message_id: Uuid) -> Result<(), Rejection> {
        match self.blocking.get(chat_id) {
            Some(&earlier) if earlier != message_id => Err(Rejection::new(
                Code::BlockedByEarlier,
                format!(
                    "Message {earlier} of this chat was refused: send it again or discard it, then send this one again."
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The gateway refused a send; an earlier refused one goes on blocking. `false` if there are too many.
    pub(crate) fn refused(&mut self, chat_id: &str, message_id: Uuid) -> bool {
        if !self.blocking.contains_key(chat_id) && !self.persisted.contains(&message_id) {
            if self.blocking.len() >= BLOCKED_CHATS {
                return false;
            }
            self.blocking.insert(chat_id.to_owned(), message_id);
        }
        true
    }

    /// A send is in its chat, whatever becomes of its other attempts.
    pub(crate) fn persisted(&mut self, chat_id: &str, message_id: Uuid) {
        self.settled(chat_id, message_id);
        if self.persisted.len() == PERSISTED_SENDS {
            self.persisted.pop_front();
        }
        self.persisted.push_back(message_id);
    }

    /// A send went its way, or was discarded.
    pub(crate) fn settled(&mut self, chat_id: &str, message_id: Uuid) {
        if self.blocking.get(chat_id) == Some(&message_id) {
            self.blocking.remove(chat_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sends_wait_for_the_refused_one() {
        let (a, b, c) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let mut order = Order::default();
        assert!(order.refused("chat", a));
        assert_eq!(order.check("chat", b).expect_err("blocked").code, Code::BlockedByEarlier);
        assert!(order.refused("chat", b), "a blocked one blocks nothing itself");
        assert!(order.check("other", b).is_ok());
        order.settled("chat", b);
        assert!(order.check("chat", c).is_err());
        assert!(order.check("chat", a).is_ok());
        order.settled("chat", a);
        assert!(order.check("chat", b).is_ok());
    }

    #[test]
    fn what_is_persisted_blocks_nothing_though_another_attempt_was_refused() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut order = Order::default();
        assert!(order.refused("chat", a));
        order.persisted("chat", a);
        assert!(order.check("chat", b).is_ok());
        assert!(order.refused("chat", a));
        assert!(order.check("chat", b).is_ok());
        (10..1_000).for_each(|n| order.persisted("chat", Uuid::from_u128(n)));
        assert_eq!(order.persisted.len(), PERSISTED_SENDS);
    }

    #[test]
    fn memory_is_bounded() {
        let mut order = Order::default();
        let taken = (0..1_000).filter(|n| order.refused(&n.to_string(), Uuid::from_u128(1))).count();
        assert_eq!(taken, BLOCKED_CHATS);
    }
}
