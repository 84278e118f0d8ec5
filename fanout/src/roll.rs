//! Who is connected to this node: how often each person, by a token of when, and which sockets have to end if that token
//! no longer counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::hub::Desk;
use crate::inbound::Standing;
use crate::writer::Close;

/// The connections of this node, by person.
#[derive(Default)]
pub(crate) struct Roll {
    people: Mutex<People>,
}

#[derive(Default)]
struct People {
    entries: HashMap<String, Vec<Entry>>,
    next: u64,
}

struct Entry {
    number: u64,
    issued_at_ms: i64,
    /// There once the socket is open.
    desk: Weak<Desk>,
}

impl Roll {
    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.people().entries.values().map(Vec::len).sum()
    }

    /// A place for one more connection of a person; none if they have `most` of them.
    pub(crate) fn seat(self: &Arc<Self>, user_id: &str, issued_at_ms: i64, most: usize) -> Option<Seat> {
        let mut people = self.people();
        let number = people.next;
        let entries = people.entries.entry(user_id.to_owned()).or_default();
        if entries.len() >= most {
            return None;
        }
        entries.reserve_exact(1);
        entries.push(Entry { number, issued_at_ms, desk: Weak::new() });
        people.next += 1;
        ::metrics::gauge!(crate::metrics::CONNECTIONS).increment(1.0);
        Some(Seat { roll: Arc::clone(self), user_id: user_id.to_owned(), number })
    }

    /// Ends those of a person's connections whose tokens don't count any more.
    pub(crate) fn reconsider(&self, user_id: &str, standing: impl Fn(i64) -> Standing) {
        let people = self.people();
        for entry in people.entries.get(user_id).into_iter().flatten() {
            let close = Close::of(standing(entry.issued_at_ms));
            if let (Some(close), Some(desk)) = (close, entry.desk.upgrade()) {
                desk.outgoing.end(close);
            }
        }
    }
}

/// One connection's place, given back when dropped.
pub(crate) struct Seat {
    roll: Arc<Roll>,
    user_id: String,
    number: u64,
}

impl Seat {
    /// The socket is open from here on, and can be ended.
    pub(crate) fn open(&self, desk: &Arc<Desk>) {
        self.change(|entry| entry.desk = Arc::downgrade(desk));
    }

    /// The connection goes on with another token.
    pub(crate) fn renew(&self, issued_at_ms: i64) {
        self.change(|entry| entry.issued_at_ms = issued_at_ms);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let mut people = self.roll.people();
        let entries = people.entries.get_mut(&self.user_id);
        if let Some(entry) = entries.and_then(|entries| entries.iter_mut().find(|entry| entry.number == self.number)) {
            change(entry);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut people = self.roll.people();
        if let Some(entries) = people.entries.get_mut(&self.user_id) {
            entries.retain(|entry| entry.number != self.number);
            if entries.is_empty() {
                people.entries.remove(&self.user_id);
            }
        }
        ::metrics::gauge!(crate::metrics::CONNECTIONS).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_refused_tokens_end() {
        let roll = Arc::<Roll>::default();
        let desk = || Arc::new(Desk::new(0, 1_000));
        let (old, new, other) = (desk(), desk(), desk());
        let seats = [("alice", 1, &old), ("alice", 9, &new), ("bob", 1, &other)].map(|(user_id, issued, desk)| {
            let seat = roll.seat(user_id, issued, 2).expect("a seat");
            seat.open(desk);
            seat
        });
        assert!(roll.seat("alice", 9, 2).is_none());
        roll.reconsider("alice", |issued| if issued < 5 { Standing::Revoked } else { Standing::Good });
        assert!(old.outgoing.has_ended() && !new.outgoing.has_ended() && !other.outgoing.has_ended());
        seats[1].renew(2);
        roll.reconsider("alice", |_| Standing::Removed);
        assert!(new.outgoing.has_ended() && !other.outgoing.has_ended());
        drop(seats);
        assert_eq!(roll.connections(), 0);
    }
}
