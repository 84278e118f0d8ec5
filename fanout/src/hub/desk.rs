//! What the hub and one connection share: the connection's queue, and the chats that it gets events of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frames;
use crate::websocket::Frame;
use crate::writer::Outgoing;

/// The last delivered `seq` of a chat on this node; shared by all who are attached to it.
#[derive(Debug)]
pub(crate) struct Head {
    chat_id: Arc<str>,
    seq: AtomicI64,
}

impl Head {
    pub(crate) const fn new(chat_id: Arc<str>) -> Self {
        Self { chat_id, seq: AtomicI64::new(0) }
    }

    pub(crate) fn set(&self, seq: i64) {
        self.seq.store(seq, Ordering::Release);
    }

    pub(crate) fn get(&self) -> i64 {
        self.seq.load(Ordering::Acquire)
    }
}

/// A connection's desk at the hub.
pub(crate) struct Desk {
    pub(crate) outgoing: Outgoing,
    /// Ordered by the chats' ids: there are many desks, and most have few chats.
    chats: Mutex<Vec<View>>,
    /// Bytes of frames that wait behind resumes, of all chats. The hub's alone.
    held_bytes: AtomicUsize,
}

struct View {
    head: Arc<Head>,
    told: i64,
    /// The person is in the chat; otherwise a resume is still being answered.
    is_open: bool,
}

fn place_of(chats: &[View], chat_id: &str) -> Result<usize, usize> {
    chats.binary_search_by(|view| (*view.head.chat_id).cmp(chat_id))
}

impl Desk {
    pub(crate) fn new(outgoing_bytes: usize) -> Self {
        Self { outgoing: Outgoing::new(outgoing_bytes), chats: Mutex::default(), held_bytes: AtomicUsize::new(0) }
    }

    /// Makes room for a frame behind a resume; `false` if too much waits there already: of what may wait for the socket,
    /// resumes fill half, and a quarter is left for what comes live.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let is_taken = self.held_bytes.load(Ordering::Relaxed) + bytes <= self.outgoing.limit_bytes() / 4;
        if is_taken {
            self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        is_taken
    }

    /// So much waits there no more.
    pub(super) fn release(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn chats(&self) -> MutexGuard<'_, Vec<View>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many chats will be attached.
    pub(super) fn expect(&self, chats: usize) {
        self.chats().reserve_exact(chats);
    }

    /// The connection gets events of the chat from here on, and was told its head.
    pub(super) fn attach(&self, head: &Arc<Head>, told: i64) {
        let view = View { head: Arc::clone(head), told, is_open: true };
        let mut chats = self.chats();
        match place_of(&chats, &head.chat_id) {
            Ok(place) => chats[place] = view,
            Err(place) => chats.insert(place, view),
        }
    }

    /// The person is in the chat no more, or again, while a resume of it is being answered.
    pub(super) fn set_open(&self, chat_id: &str, is_open: bool) {
        let mut chats = self.chats();
        if let Ok(place) = place_of(&chats, chat_id) {
            chats[place].is_open = is_open;
        }
    }

    pub(super) fn detach(&self, chat_id: &str) {
        let mut chats = self.chats();
        if let Ok(place) = place_of(&chats, chat_id) {
            chats.remove(place);
        }
    }

    pub(super) fn take_chats(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.chats()).iter().map(|view| Arc::clone(&view.head.chat_id)).collect()
    }

    /// The chat's head, if the connection's person is a member as far as this node knows.
    pub(crate) fn head_of(&self, chat_id: &str) -> Option<i64> {
        let chats = self.chats();
        let view = place_of(&chats, chat_id).ok().map(|place| &chats[place])?;
        view.is_open.then(|| view.head.get())
    }

    /// The `heads` frame of the chats that moved since it was last asked for.
    pub(crate) fn heads(&self) -> Frame {
        let mut chats = self.chats();
        let mut moved = BTreeMap::new();
        for view in chats.iter_mut().filter(|view| view.is_open) {
            let head = view.head.get();
            if head > view.told {
                view.told = head;
                moved.insert(&*view.head.chat_id, head);
            }
        }
        frames::heads(moved)
    }
}
