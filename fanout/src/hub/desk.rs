//! What the hub and one connection share: the connection's queue, and the chats that it gets events of.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;

use crate::frames;
use crate::writer::Outgoing;

/// The last delivered `seq` of a chat on this node.
pub(crate) type Head = Arc<AtomicI64>;

/// A connection's desk at the hub.
pub(crate) struct Desk {
    pub(crate) outgoing: Outgoing,
    chats: Mutex<HashMap<Arc<str>, View>>,
}

struct View {
    head: Head,
    told: i64,
    /// The person is in the chat; otherwise a resume is still being answered.
    is_open: bool,
}

impl Desk {
    pub(crate) fn new(outgoing_bytes: usize) -> Self {
        Self { outgoing: Outgoing::new(outgoing_bytes), chats: Mutex::default() }
    }

    fn chats(&self) -> MutexGuard<'_, HashMap<Arc<str>, View>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection gets events of the chat from here on, and was told its head.
    pub(super) fn attach(&self, chat_id: &Arc<str>, head: &Head, told: i64) {
        self.chats().insert(Arc::clone(chat_id), View { head: Arc::clone(head), told, is_open: true });
    }

    /// The person is in the chat no more, or again, while a resume of it is being answered.
    pub(super) fn set_open(&self, chat_id: &str, is_open: bool) {
        if let Some(view) = self.chats().get_mut(chat_id) {
            view.is_open = is_open;
        }
    }

    pub(super) fn detach(&self, chat_id: &str) {
        self.chats().remove(chat_id);
    }

    pub(super) fn take_chats(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.chats()).into_keys().collect()
    }

    /// The chat's head, if the connection's person is a member as far as this node knows.
    pub(crate) fn head_of(&self, chat_id: &str) -> Option<i64> {
        self.chats().get(chat_id).filter(|view| view.is_open).map(|view| view.head.load(Ordering::Acquire))
    }

    /// The `heads` frame of the chats that moved since it was last asked for.
    pub(crate) fn heads(&self) -> Utf8Bytes {
        let mut chats = self.chats();
        let mut moved = BTreeMap::new();
        for (chat_id, view) in chats.iter_mut().filter(|(_, view)| view.is_open) {
            let head = view.head.load(Ordering::Acquire);
            if head > view.told {
                view.told = head;
                moved.insert(&**chat_id, head);
            }
        }
        frames::heads(moved)
    }
}
