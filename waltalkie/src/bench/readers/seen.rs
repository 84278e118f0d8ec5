//! How far one reader has come in each of its chats, and what isn't in order. Pure.

/// What a message is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// The next one.
    Next,
    /// One came after it already.
    OutOfOrder,
    /// It came before.
    Repeated,
    /// It isn't looked at: a resume brings it in its place.
    PassedOver,
}

#[derive(Debug)]
struct Place {
    chat: usize,
    last: i64,
    /// Below `last`, not seen.
    missing: i64,
    is_resuming: bool,
}

/// A reader's chats; few, so they are just looked through.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<Place>);

impl Seen {
    fn place(&mut self, chat: usize) -> Option<&mut Place> {
        self.0.iter_mut().find(|place| place.chat == chat)
    }

    /// The server says where a chat stands. The cursor to resume from, if that is behind; a new chat begins there.
    pub(super) fn head(&mut self, chat: usize, head: i64) -> Option<i64> {
        let Some(place) = self.place(chat) else {
            self.0.push(Place { chat, last: head, missing: 0, is_resuming: false });
            return None;
        };
        place.is_resuming = head > place.last;
        place.is_resuming.then_some(place.last)
    }

    /// A resume has brought everything up to the chat's end.
    pub(super) fn resumed(&mut self, chat: usize) {
        if let Some(place) = self.place(chat) {
            place.is_resuming = false;
        }
    }

    /// A message came.
    pub(super) fn note(&mut self, chat: usize, seq: i64) -> Noted {
        let Some(place) = self.place(chat) else { return Noted::PassedOver };
        if seq == place.last + 1 {
            place.last = seq;
            return Noted::Next;
        }
        if place.is_resuming {
            return Noted::PassedOver;
        }
        if seq > place.last {
            place.missing += seq - place.last - 1;
            place.last = seq;
            Noted::OutOfOrder
        } else if place.missing > 0 {
            place.missing -= 1;
            Noted::OutOfOrder
        } else {
            Noted::Repeated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holes_and_repeats_are_told_apart() {
        let mut seen = Seen::default();
        assert_eq!((seen.head(3, 10), seen.head(4, 1)), (None, None));
        let noted: Vec<Noted> = [11, 13, 12, 12, 14].map(|seq| seen.note(3, seq)).into();
        assert_eq!(noted, [Noted::Next, Noted::OutOfOrder, Noted::OutOfOrder, Noted::Repeated, Noted::Next]);
        assert_eq!((seen.note(4, 2), seen.note(9, 2)), (Noted::Next, Noted::PassedOver));
    }

    #[test]
    fn what_comes_early_behind_a_resume_is_waited_for() {
        let mut seen = Seen::default();
        seen.head(1, 10);
        assert_eq!(seen.head(1, 12), Some(10));
        let noted: Vec<Noted> = [13, 11, 12, 13, 12].map(|seq| seen.note(1, seq)).into();
        assert_eq!(noted, [Noted::PassedOver, Noted::Next, Noted::Next, Noted::Next, Noted::PassedOver]);
        seen.resumed(1);
        assert_eq!((seen.note(1, 14), seen.note(1, 14)), (Noted::Next, Noted::Repeated));
        assert_eq!(seen.head(1, 14), None);
    }
}
