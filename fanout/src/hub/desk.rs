//! What the hub and one connection share: the connection's queue, and the chats that it gets events of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frames;
use crate::websocket::Frame;
use crate::writer::Outgoing;

/// What a chat takes in `heads` beside its id.
const HEAD_BYTES: usize = 24;

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
    /// The connection's number at the hub.
    pub(crate) connection: u64,
    pub(crate) outgoing: Outgoing,
    chats: Mutex<Attached>,
    /// Bytes of frames that wait behind resumes, of all chats. The hub's alone.
    held_bytes: AtomicUsize,
}

/// The chats of one connection. There are many desks, and most have few chats.
#[derive(Default)]
struct Attached {
    /// Ordered by the chats' ids.
    views: Vec<View>,
    /// Those that the person is in no more, while a resume of them is still being answered.
    closed: Vec<Arc<str>>,
    /// The place where the next `heads` begin: what had no room in the last comes first.
    heads_from: usize,
}

struct View {
    head: Arc<Head>,
    told: i64,
}

impl Attached {
    fn place_of(&self, chat_id: &str) -> Result<usize, usize> {
        self.views.binary_search_by(|view| (*view.head.chat_id).cmp(chat_id))
    }

    fn set_open(&mut self, chat_id: &Arc<str>, is_open: bool) {
        self.closed.retain(|closed| closed != chat_id);
        if !is_open {
            self.closed.push(Arc::clone(chat_id));
        }
    }
}

impl Desk {
    pub(crate) fn new(connection: u64, outgoing_bytes: usize) -> Self {
        let outgoing = Outgoing::new(outgoing_bytes);
        Self { connection, outgoing, chats: Mutex::default(), held_bytes: AtomicUsize::new(0) }
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

    fn chats(&self) -> MutexGuard<'_, Attached> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many chats will be attached.
    pub(super) fn expect(&self, chats: usize) {
        self.chats().views.reserve_exact(chats);
    }

    /// The connection gets events of the chat from here on, and was told its head.
    pub(super) fn attach(&self, head: &Arc<Head>, told: i64) {
        let view = View { head: Arc::clone(head), told };
        let mut chats = self.chats();
        chats.set_open(&head.chat_id, true);
        match chats.place_of(&head.chat_id) {
            Ok(place) => chats.views[place] = view,
            Err(place) => chats.views.insert(place, view),
        }
    }

    /// The person is in the chat no more, or again, while a resume of it is being answered.
    pub(super) fn set_open(&self, chat_id: &Arc<str>, is_open: bool) {
        let mut chats = self.chats();
        if chats.place_of(chat_id).is_ok() {
            chats.set_open(chat_id, is_open);
        }
    }

    pub(super) fn detach(&self, chat_id: &Arc<str>) {
        let mut chats = self.chats();
        chats.set_open(chat_id, true);
        if let Ok(place) = chats.place_of(chat_id) {
            chats.views.remove(place);
        }
    }

    pub(super) fn take_chats(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.chats()).views.iter().map(|view| Arc::clone(&view.head.chat_id)).collect()
    }

    /// The chat's head, if the connection's person is a member as far as this node knows.
    pub(crate) fn head_of(&self, chat_id: &str) -> Option<i64> {
        let chats = self.chats();
        let view = chats.place_of(chat_id).ok().map(|place| &chats.views[place])?;
        (!chats.closed.contains(&view.head.chat_id)).then(|| view.head.get())
    }

    /// The `heads` frame of the chats that moved since it was last asked for. So many that they take a quarter of what may wait
    /// for the socket are told with the next.
    pub(crate) fn heads(&self) -> Frame {
        let mut chats = self.chats();
        let Attached { views, closed, heads_from } = &mut *chats;
        let count = views.len();
        let first = (*heads_from).min(count);
        let (before, after) = views.split_at_mut(first);
        let mut moved = BTreeMap::new();
        let mut room_bytes = self.outgoing.limit_bytes() / 4;
        for (place, view) in after.iter_mut().chain(before).enumerate() {
            let head = view.head.get();
            if head <= view.told || closed.contains(&view.head.chat_id) {
                continue;
            }
            let bytes = view.head.chat_id.len() + HEAD_BYTES;
            if bytes > room_bytes {
                *heads_from = (first + place) % count;
                break;
            }
            room_bytes -= bytes;
            view.told = head;
            moved.insert(&*view.head.chat_id, head);
        }
        frames::heads(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_very_many_chats_come_one_part_after_the_other() {
        const CHATS: usize = 3_000;
        const LIMIT_BYTES: usize = 65_536;
        let desk = Desk::new(1, LIMIT_BYTES);
        let heads: Vec<Arc<Head>> =
            (0..CHATS).map(|number| Arc::new(Head::new(Arc::from(format!("chat-{number:04}"))))).collect();
        for head in &heads {
            desk.attach(head, 0);
        }
        assert_eq!(desk.heads().text(), r#"{"event":"heads","payload":{}}"#);
        let mut told = std::collections::HashMap::new();
        for round in 1..=10 {
            // All of them move all the time: each has its turn all the same.
            for head in &heads {
                head.set(round);
            }
            let frame = desk.heads();
            assert!(frame.len() <= LIMIT_BYTES / 4 + 100, "{} bytes", frame.len());
            let frame: serde_json::Value = serde_json::from_str(frame.text()).expect("JSON");
            for (chat_id, seq) in frame["payload"].as_object().expect("heads") {
                assert!(told.insert(chat_id.clone(), seq.as_i64()).is_none_or(|before| before < seq.as_i64()));
            }
        }
        assert_eq!(told.len(), CHATS);
        // And what stands still is told once, whole.
        for _ in 0..10 {
            desk.heads();
        }
        assert_eq!(desk.heads().text(), r#"{"event":"heads","payload":{}}"#);
    }
}
