//! Mail as a digest: one mail for all that stayed unread, however many messages, and none for what was read meanwhile.
//!
//! A [`Digest`] is one person's state, pure and small, kept by the caller (it is serde's). It holds places, not bodies: those
//! are read when the mail is made, so that what was edited or deleted meanwhile is mailed as it is then, or not at all.
//!
//! *At most once.* [`Digest::take`] empties it; the caller stores that and the mail to be sent in one transaction. The mail's
//! [`Due::id`] depends on what is in it alone, and becomes its `Message-ID`: sent again after a lost answer, mail programs
//! show it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quiet::QuietHours;

/// Unread messages that are counted singly in a chat; older ones only add to its count.
const MOST_PLACES: usize = 999;
/// Chats whose messages have places in one digest; of further ones only the latest does, and the rest is counted.
const MOST_CHATS: usize = 200;
/// Chats in one digest at all: it is one row of a table.
const MOST_COUNTED_CHATS: usize = 2_000;

/// Times that the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Least time between two mails to a person, in milliseconds.
    pub least_gap_ms: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { least_gap_ms: 3_600_000 }
    }
}

/// What waits to be mailed to one person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Digest {
    chats: BTreeMap<String, Waiting>,
    /// When the last mail was taken.
    taken_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    /// When the oldest one is due.
    at_ms: i64,
    /// Places of unread messages, ascending.
    seqs: Vec<i64>,
    /// When each of them is due; empty where an earlier version wrote this.
    #[serde(default)]
    due_ms: Vec<i64>,
    /// How many older ones there are beside them.
    older: u64,
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The same for the same content.
    pub id: String,
    /// By chat.
    pub chats: Vec<DueChat>,
}

/// What of one chat is in a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueChat {
    /// Which.
    pub chat_id: String,
    /// Places of unread messages, ascending; at most 999, the latest.
    pub seqs: Vec<i64>,
    /// How many unread messages there are in all.
    pub count: u64,
}

impl Digest {
    /// Adds a message that is to be mailed if it is unread at `at_ms`, as [`decide`](crate::decide::Mail::Digest) says it.
    /// The same one again changes nothing. Says whether it has a place or is counted: with 2,000 chats waiting, further ones aren't.
    pub fn add(&mut self, chat_id: &str, seq: i64, at_ms: i64) -> bool {
        let (is_new, chats) = (!self.chats.contains_key(chat_id), self.chats.len());
        if is_new && chats >= MOST_COUNTED_CHATS {
            return false;
        }
        let most_places = if chats + usize::from(is_new) > MOST_CHATS { 1 } else { MOST_PLACES };
        let waiting = self.chats.entry(chat_id.to_owned()).or_insert_with(|| Waiting { at_ms, ..Waiting::default() });
        let Err(place) = waiting.seqs.binary_search(&seq) else { return true };
        // Whatever is before the first of a full list was there already, or is counted now.
        if place == 0 && waiting.older > 0 {
            return true;
        }
        if waiting.due_ms.len() != waiting.seqs.len() {
            waiting.due_ms = vec![waiting.at_ms; waiting.seqs.len()];
        }
        waiting.seqs.insert(place, seq);
        waiting.due_ms.insert(place, at_ms);
        waiting.at_ms = waiting.at_ms.min(at_ms);
        let surplus = waiting.seqs.len().saturating_sub(most_places);
        waiting.seqs.drain(..surplus);
        waiting.due_ms.drain(..surplus);
        waiting.older += surplus as u64;
        true
    }

    /// A chat was read up to a place: what is read isn't mailed, and isn't what the next mail is due for. With nothing left there
    /// is no mail. Says whether that changes anything.
    pub fn read(&mut self, chat_id: &str, read_seq: i64) -> bool {
        let Some(waiting) = self.chats.get_mut(chat_id) else { return false };
        let read = waiting.seqs.partition_point(|seq| *seq <= read_seq);
        if read == 0 {
            return false;
        }
        waiting.older = 0;
        waiting.seqs.drain(..read);
        waiting.due_ms.drain(..read.min(waiting.due_ms.len()));
        if let (Some(oldest), true) = (waiting.due_ms.iter().min(), waiting.due_ms.len() == waiting.seqs.len()) {
            waiting.at_ms = *oldest;
        }
        if waiting.seqs.is_empty() {
            self.chats.remove(chat_id);
        }
        true
    }

    /// A chat isn't mailed any more, as when the person left or muted it.
    pub fn forget(&mut self, chat_id: &str) {
        self.chats.remove(chat_id);
    }

    /// Nothing is mailed any more, as after an unsubscribe.
    pub fn clear(&mut self) {
        self.chats.clear();
    }

    /// The chats that wait.
    pub fn chat_ids(&self) -> impl Iterator<Item = &str> {
        self.chats.keys().map(String::as_str)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
    }

    /// When the next mail is due, in milliseconds since 1970: with its oldest message, but not too soon after the mail
    /// before, and not in do-not-disturb hours.
    pub fn due_at(&self, policy: &Policy, quiet: Option<&QuietHours>) -> Option<i64> {
        let oldest_ms = self.chats.values().map(|waiting| waiting.at_ms).min()?;
        let allowed_ms = self.taken_at_ms.map_or(i64::MIN, |at_ms| at_ms.saturating_add(policy.least_gap_ms));
        let due_ms = oldest_ms.max(allowed_ms);
        Some(quiet.and_then(|hours| hours.end_of(due_ms)).unwrap_or(due_ms))
    }

    /// The mail that is due now, with all that waits, also what alone wouldn't be due yet. It waits no more.
    pub fn take(&mut self, now_ms: i64, policy: &Policy, quiet: Option<&QuietHours>) -> Option<Due> {
        // Late, as after a night without a server, it can fall into the hours of silence again.
        let is_due = self.due_at(policy, quiet)? <= now_ms && quiet.is_none_or(|hours| hours.end_of(now_ms).is_none());
        if !is_due {
            return None;
        }
        self.taken_at_ms = Some(now_ms);
        let chats: Vec<DueChat> = std::mem::take(&mut self.chats)
            .into_iter()
            .map(|(chat_id, waiting)| {
                let count = waiting.older + waiting.seqs.len() as u64;
                DueChat { chat_id, seqs: waiting.seqs, count }
            })
            .collect();
        Some(Due { id: id_of(&chats), chats })
    }
}

fn id_of(chats: &[DueChat]) -> String {
    use aws_lc_rs::digest::{Context, SHA256};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut hash = Context::new(&SHA256);
    for chat in chats {
        // Ids hold no slash and no space.
        hash.update(format!("{}/{}/{:?} ", chat.chat_id, chat.count, chat.seqs).as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..18])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quiet::DoNotDisturb;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;
    const POLICY: Policy = Policy { least_gap_ms: 60 * MINUTE };

    #[test]
    fn one_mail_however_many_messages() {
        let mut digest = Digest::default();
        for seq in 1..=50 {
            assert!(digest.add("team", seq, (15 + seq) * MINUTE));
            assert!(digest.add("team", seq, (15 + seq) * MINUTE));
        }
        digest.add("alice", 3, 20 * MINUTE);
        assert_eq!(digest.due_at(&POLICY, None), Some(16 * MINUTE));
        assert_eq!(digest.take(16 * MINUTE - 1, &POLICY, None), None);
        let due = digest.take(16 * MINUTE, &POLICY, None).unwrap();
        let counts: Vec<_> = due.chats.iter().map(|chat| (chat.chat_id.as_str(), chat.count)).collect();
        assert_eq!(counts, [("alice", 1), ("team", 50)]);
        assert!(digest.is_empty());
        assert_eq!(digest.take(1_000 * MINUTE, &POLICY, None), None);
    }

    #[test]
    fn what_is_read_is_cancelled() {
        let mut digest = Digest::default();
        for seq in 1..=3 {
            digest.add("team", seq, 15 * MINUTE);
        }
        digest.add("alice", 9, 15 * MINUTE);
        digest.read("team", 2);
        digest.read("alice", 9);
        let due = digest.clone().take(15 * MINUTE, &POLICY, None).unwrap();
        assert_eq!(due.chats, [DueChat { chat_id: "team".into(), seqs: vec![3], count: 1 }]);
        assert!(!digest.read("team", 2) && digest.read("team", 3));
        assert_eq!(digest.due_at(&POLICY, None), None);
        assert_eq!(digest.take(15 * MINUTE, &POLICY, None), None);
    }

    #[test]
    fn mails_keep_their_distance_and_the_night() {
        let mut digest = Digest::default();
        digest.add("team", 1, 0);
        assert!(digest.take(0, &POLICY, None).is_some());
        digest.add("team", 2, 5 * MINUTE);
        assert_eq!(digest.due_at(&POLICY, None), Some(60 * MINUTE));

        let night = DoNotDisturb { from: "22:00".into(), to: "07:00".into(), time_zone: "UTC".into() };
        let night = QuietHours::try_from(night).unwrap();
        let mut digest = Digest::default();
        let at = |hour: i64| hour * 60 * MINUTE;
        digest.add("team", 1, at(23));
        assert_eq!(digest.due_at(&POLICY, Some(&night)), Some(at(31)));
        assert_eq!(digest.take(at(30), &POLICY, Some(&night)), None);
        // Due by day, but asked late.
        let mut late = Digest::default();
        late.add("team", 1, at(20));
        assert_eq!(late.take(at(23), &POLICY, Some(&night)), None);
        assert!(late.take(at(31), &POLICY, Some(&night)).is_some());
    }

    #[test]
    fn counts_go_on_where_places_end() {
        let mut digest = Digest::default();
        for seq in 1..=1_200 {
            digest.add("team", seq, 0);
        }
        let due = digest.clone().take(0, &POLICY, None).unwrap();
        assert_eq!((due.chats[0].count, due.chats[0].seqs.len()), (1_200, 999));
        digest.read("team", 1_199);
        assert_eq!(digest.take(0, &POLICY, None).unwrap().chats[0].count, 1);
        let mut many = Digest::default();
        let taken =
            (0..3_000).filter(|chat| many.add(&format!("c{chat}"), 1, 0) && many.add(&format!("c{chat}"), 2, 0));
        assert_eq!(taken.count(), 2_000);
        let due = many.take(0, &POLICY, None).unwrap();
        assert!(due.chats.iter().all(|chat| chat.count == 2));
        assert_eq!(due.chats.iter().filter(|chat| chat.seqs == [2]).count(), 1_800);
    }

    #[test]
    fn what_was_read_makes_nothing_due() {
        let mut digest = Digest::default();
        digest.add("team", 1, 15 * MINUTE);
        digest.add("team", 2, 29 * MINUTE);
        digest.read("team", 1);
        assert_eq!(digest.due_at(&POLICY, None), Some(29 * MINUTE));
        // Of an earlier version, which kept no times.
        let kept = r#"{"chats": {"team": {"at_ms": 900000, "seqs": [1, 2], "older": 0}}}"#;
        let mut earlier: Digest = serde_json::from_str(kept).unwrap();
        earlier.add("team", 3, 40 * MINUTE);
        earlier.read("team", 2);
        assert_eq!(earlier.due_at(&POLICY, None), Some(40 * MINUTE));
        let mut earlier: Digest = serde_json::from_str(kept).unwrap();
        earlier.read("team", 1);
        assert_eq!(earlier.due_at(&POLICY, None), Some(15 * MINUTE));
    }

    #[test]
    fn state_survives_being_stored_and_ids_depend_on_content() {
        let mut digest = Digest::default();
        digest.add("team", 7, 15);
        let mut stored: Digest = serde_json::from_str(&serde_json::to_string(&digest).unwrap()).unwrap();
        let (first, second) = (digest.take(20, &POLICY, None).unwrap(), stored.take(99, &POLICY, None).unwrap());
        assert_eq!(first, second);
        let mut other = Digest::default();
        other.add("team", 8, 15);
        assert_ne!(other.take(20, &POLICY, None).unwrap().id, first.id);
    }

    proptest! {
        #[test]
        fn what_is_mailed_is_unread_and_mailed_once(
            steps in prop::collection::vec((0..3_u8, 0..4_usize, 1..40_i64), 1..200),
        ) {
            let (mut digest, mut read, mut mailed) = (Digest::default(), [0_i64; 4], std::collections::BTreeSet::new());
            let mut now_ms = 0;
            for (step, chat, seq) in steps {
                now_ms += MINUTE;
                let chat_id = format!("c{chat}");
                match step {
                    // The decision adds nothing that was read, and each message once.
                    0 if seq > read[chat] && !mailed.contains(&(chat_id.clone(), seq)) => {
                        digest.add(&chat_id, seq, now_ms);
                    }
                    1 => {
                        read[chat] = read[chat].max(seq);
                        digest.read(&chat_id, seq);
                    }
                    _ => {
                        now_ms += POLICY.least_gap_ms;
                        for part in digest.take(now_ms, &POLICY, None).map(|due| due.chats).unwrap_or_default() {
                            let place: usize = part.chat_id[1..].parse().unwrap();
                            for seq in part.seqs {
                                prop_assert!(seq > read[place]);
                                prop_assert!(mailed.insert((part.chat_id.clone(), seq)));
                            }
                        }
                    }
                }
            }
        }
    }
}
