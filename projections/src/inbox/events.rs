//! Input `chat.events`: who is a member, which messages wait for whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, Membership, MessageState, event_type, timestamp};
use tokio_postgres::Error;
use uuid::Uuid;

use super::{Inbox, PendingRow};
use crate::metrics;
use crate::projection::{Applied, Input, Refusal};
use crate::rows::Rows;

/// Of a crowd only so many that it is known to be one.
const LOAD_STAYS: &str = "
    SELECT k.chat_id, m.user_id, m.joined_seq, m.left_seq FROM unnest($1::text[], $2::bigint[]) AS k (chat_id, most)
     CROSS JOIN LATERAL (SELECT user_id, joined_seq, left_seq FROM inbox_member
                          WHERE chat_id = k.chat_id AND left_seq IS NULL LIMIT k.most) AS m
     UNION ALL
    SELECT m.chat_id, m.user_id, m.joined_seq, m.left_seq FROM inbox_member m
      JOIN unnest($3::text[], $4::text[], $5::bigint[]) AS k (chat_id, user_id, joined_seq)
        ON m.chat_id = k.chat_id AND m.user_id = k.user_id AND m.joined_seq = k.joined_seq
     WHERE m.left_seq IS NOT NULL";
/// Cursors below the batch's first message of the chat would decide nothing.
const LOAD_CURSORS: &str = "
    SELECT c.chat_id, c.user_id, c.delivered_seq FROM inbox_cursor c
      JOIN unnest($1::text[], $2::bigint[]) AS k (chat_id, first_seq)
        ON c.chat_id = k.chat_id AND c.delivered_seq >= k.first_seq";
const STORE_STAYS: &str = "
    INSERT INTO inbox_member (chat_id, user_id, joined_seq, left_seq)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    ON CONFLICT (chat_id, user_id, joined_seq) DO UPDATE SET left_seq = excluded.left_seq";
const REMOVE: &str = "
    DELETE FROM inbox i USING unnest($1::text[], $2::text[], $3::bigint[]) AS k (chat_id, user_id, left_seq)
     WHERE i.user_id = k.user_id AND i.chat_id = k.chat_id AND i.sequence_number <= k.left_seq";
const MARK_DELETED: &str = "
    UPDATE inbox i SET is_deleted = true FROM unnest($1::text[], $2::bigint[]) AS k (chat_id, sequence_number)
     WHERE i.chat_id = k.chat_id AND i.sequence_number = k.sequence_number AND NOT i.is_deleted";
const MAKE: &str = "
    INSERT INTO inbox (user_id, message_id, chat_id, sequence_number, is_deleted, created_at)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::boolean[], $6::timestamptz[])
    ON CONFLICT DO NOTHING";

/// About as many new rows as one transaction writes: a thousand messages to a chat of ten thousand would be ten million.
const ROWS_A_TRANSACTION: usize = 20_000;

/// What a batch of events knows and changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventState {
    /// A message to more members makes no rows.
    most_members: usize,
    /// Chats that have more members than that before, in and after this batch. Not all of them are loaded.
    crowds: HashSet<String>,
    /// Chats whose open stays are loaded; and those whose cursors are.
    known: HashSet<String>,
    with_cursors: HashSet<String>,
    /// How many of them.
    cursors: usize,
    /// Stays, by chat, person and the `seq` at which they began; the value is where they ended.
    pub(super) stays: Rows<(String, String, i64), Option<i64>>,
    /// The open ones among them: by chat and person, where they began.
    pub(super) open: HashMap<String, HashMap<String, i64>>,
    /// Delivered up to, by chat and person.
    pub(super) delivered: HashMap<String, HashMap<String, i64>>,
    /// New rows, by chat, `seq` and person.
    pub(super) made: BTreeMap<(String, i64, String), PendingRow>,
    /// Messages that were deleted, by chat and `seq`.
    pub(super) deleted: BTreeSet<(String, i64)>,
    /// People who left, by chat and person: their rows up to there go.
    pub(super) left: BTreeMap<(String, String), i64>,
}

impl EventState {
    pub(super) fn new(most_members: usize) -> Self {
        Self {
            most_members,
            crowds: HashSet::new(),
            known: HashSet::new(),
            with_cursors: HashSet::new(),
            cursors: 0,
            stays: Rows::default(),
            open: HashMap::new(),
            delivered: HashMap::new(),
            made: BTreeMap::new(),
            deleted: BTreeSet::new(),
            left: BTreeMap::new(),
        }
    }

    /// Takes a stay as it is in the table.
    pub(super) fn loaded_stay(&mut self, chat_id: String, user_id: String, joined_seq: i64, left_seq: Option<i64>) {
        if left_seq.is_none() {
            self.open.entry(chat_id.clone()).or_default().insert(user_id.clone(), joined_seq);
        }
        self.stays.loaded((chat_id, user_id, joined_seq), left_seq);
    }

    /// Takes a cursor as it is in the table.
    pub(super) fn loaded_cursor(&mut self, chat_id: String, user_id: String, delivered_seq: i64) {
        self.cursors += 1;
        self.delivered.entry(chat_id).or_default().insert(user_id, delivered_seq);
    }

    fn take_stay(&mut self, chat_id: &str, stay: &Membership) {
        let key = (chat_id.to_owned(), stay.user_id.clone(), stay.joined_seq);
        // A stay that has ended stays ended: whoever comes back begins another one.
        let left_seq = self.stays.get(&key).copied().flatten().or(stay.left_seq);
        self.stays.set(key, left_seq);
        let open = self.open.entry(chat_id.to_owned()).or_default();
        match left_seq {
            None => {
                open.insert(stay.user_id.clone(), stay.joined_seq);
            }
            Some(left_seq) => {
                if open.get(&stay.user_id) == Some(&stay.joined_seq) {
                    open.remove(&stay.user_id);
                }
                let (first, last) =
                    ((chat_id.to_owned(), 0, String::new()), (chat_id.to_owned(), left_seq + 1, String::new()));
                let theirs = self.made.range(first..last).filter(|((_, _, user), _)| *user == stay.user_id);
                for key in theirs.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.made.remove(&key);
                }
                let last = self.left.entry((chat_id.to_owned(), stay.user_id.clone())).or_insert(left_seq);
                *last = left_seq.max(*last);
            }
        }
    }

    fn take_message(&mut self, chat_id: &str, seq: i64, message: &MessageState) -> Result<(), Refusal> {
        let message_id = Uuid::try_parse(&message.message_id)
            .map_err(|_| Refusal(format!("message.message_id `{}` is no UUID", message.message_id)))?;
        let row = PendingRow { message_id, created_at: message.created_at, is_deleted: message.deleted_at.is_some() };
        let Some(open) = self.open.get(chat_id) else { return Ok(()) };
        if open.len() > self.most_members || self.crowds.contains(chat_id) {
            return Ok(());
        }
        let delivered = self.delivered.get(chat_id);
        for (user, joined_seq) in open {
            let delivered_seq = delivered.and_then(|users| users.get(user)).copied().unwrap_or(0);
            if *joined_seq <= seq && *user != message.sender_id && delivered_seq < seq {
                self.made.insert((chat_id.to_owned(), seq, user.clone()), row);
            }
        }
        Ok(())
    }

    fn take_delete(&mut self, chat_id: &str, message_seq: i64) {
        let (from, to) =
            ((chat_id.to_owned(), message_seq, String::new()), (chat_id.to_owned(), message_seq + 1, String::new()));
        for (_, row) in self.made.range_mut(from..to) {
            row.is_deleted = true;
        }
        self.deleted.insert((chat_id.to_owned(), message_seq));
    }
}

impl Input<ChatEvent> for Inbox {
    const LOOP: &'static str = "inbox";
    const LAG_METRIC: &'static str = metrics::INBOX_EVENTS_LAG;
    const EVERY: Duration = Duration::from_secs(1);
    type State = EventState;

    fn stays_behind(&self) -> Duration {
        self.delay
    }

    fn state(&self) -> EventState {
        EventState::new(self.most_members)
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut EventState,
    ) -> Result<(), Error> {
        load_stays(transaction, events, state).await?;
        load_cursors(transaction, events, state).await
    }

    fn apply(state: &mut EventState, event: &ChatEvent) -> Result<Applied, Refusal> {
        for stay in &event.memberships {
            state.take_stay(&event.chat_id, stay);
        }
        let message = || {
            event
                .message
                .as_ref()
                .ok_or_else(|| Refusal(format!("{} {} has no message", event.event_type, event.event_id)))
        };
        match event.event_type.as_str() {
            event_type::MESSAGE_PERSISTED => state.take_message(&event.chat_id, event.seq, message()?)?,
            event_type::MESSAGE_DELETED => state.take_delete(&event.chat_id, message()?.message_seq),
            _ => {}
        }
        Ok(Applied::of(event))
    }

    fn is_full(state: &EventState) -> bool {
        state.made.len() >= ROWS_A_TRANSACTION
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &EventState) -> Result<(), Error> {
        store_stays(transaction, state).await?;
        // What is in the table already comes before what is new: new rows have all changes of the batch in them.
        if !state.left.is_empty() {
            let chats: Vec<&str> = state.left.keys().map(|(chat, _)| chat.as_str()).collect();
            let users: Vec<&str> = state.left.keys().map(|(_, user)| user.as_str()).collect();
            let seqs: Vec<i64> = state.left.values().copied().collect();
            let statement = transaction.prepare_cached(REMOVE).await?;
            transaction.execute(&statement, &[&chats, &users, &seqs]).await?;
        }
        if !state.deleted.is_empty() {
            let chats: Vec<&str> = state.deleted.iter().map(|(chat, _)| chat.as_str()).collect();
            let seqs: Vec<i64> = state.deleted.iter().map(|(_, seq)| *seq).collect();
            let statement = transaction.prepare_cached(MARK_DELETED).await?;
            transaction.execute(&statement, &[&chats, &seqs]).await?;
        }
        make(transaction, state).await
    }

    fn size(state: &EventState) -> usize {
        state.stays.len() + state.cursors + state.made.len()
    }

    fn settle(state: &mut EventState) {
        state.stays.settle();
        state.made.clear();
        state.deleted.clear();
        state.left.clear();
    }

    /// Of a crowd too little is known for more than the batch that it was loaded for.
    fn lasts(state: &EventState) -> bool {
        state.crowds.is_empty()
    }
}

/// The stays of the chats in which something happens, and those that these events change.
async fn load_stays(transaction: &Transaction<'_>, events: &[ChatEvent], state: &mut EventState) -> Result<(), Error> {
    let stays = || events.iter().flat_map(|event| event.memberships.iter().map(move |stay| (event, stay)));
    let is_new = |chat: &str| !state.known.contains(chat);
    let sends = events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED);
    let most = state.most_members + 1;
    let mut chats: BTreeMap<&str, usize> =
        sends.map(|event| (event.chat_id.as_str(), most)).filter(|(chat, _)| is_new(chat)).collect();
    // Each stay in the batch makes a chat smaller by one at most: with so many members it stays a crowd.
    for (event, _) in stays().filter(|(event, _)| is_new(&event.chat_id)) {
        *chats.entry(&event.chat_id).or_insert(most) += 1;
    }
    let (mut stay_chats, mut stay_users, mut stay_joined) = (Vec::new(), Vec::new(), Vec::new());
    for (event, stay) in stays() {
        if state.stays.get(&(event.chat_id.clone(), stay.user_id.clone(), stay.joined_seq)).is_none() {
            stay_chats.push(event.chat_id.as_str());
            stay_users.push(stay.user_id.as_str());
            stay_joined.push(stay.joined_seq);
        }
    }
    if chats.is_empty() && stay_chats.is_empty() {
        return Ok(());
    }
    let (names, rows): (Vec<&str>, Vec<i64>) = chats.iter().map(|(chat, most)| (*chat, *most as i64)).unzip();
    let statement = transaction.prepare_cached(LOAD_STAYS).await?;
    for row in transaction.query(&statement, &[&names, &rows, &stay_chats, &stay_users, &stay_joined]).await? {
        state.loaded_stay(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    }
    for (chat, most) in chats {
        if state.open.get(chat).is_some_and(|open| open.len() >= most) {
            state.crowds.insert(chat.to_owned());
        }
        state.known.insert(chat.to_owned());
    }
    Ok(())
}

/// How far the members have come of the chats in which a message is sent.
async fn load_cursors(
    transaction: &Transaction<'_>,
    events: &[ChatEvent],
    state: &mut EventState,
) -> Result<(), Error> {
    let mut firsts = BTreeMap::<&str, i64>::new();
    for event in events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
        let first = firsts.entry(&event.chat_id).or_insert(event.seq);
        *first = event.seq.min(*first);
    }
    firsts.retain(|chat, _| !state.crowds.contains(*chat) && !state.with_cursors.contains(*chat));
    if firsts.is_empty() {
        return Ok(());
    }
    state.with_cursors.extend(firsts.keys().map(|chat| (*chat).to_owned()));
    let (chats, seqs): (Vec<&str>, Vec<i64>) = firsts.into_iter().unzip();
    let statement = transaction.prepare_cached(LOAD_CURSORS).await?;
    for row in transaction.query(&statement, &[&chats, &seqs]).await? {
        state.loaded_cursor(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    Ok(())
}

async fn store_stays(transaction: &Transaction<'_>, state: &EventState) -> Result<(), Error> {
    let changed = state.stays.changed();
    if changed.is_empty() {
        return Ok(());
    }
    let chats: Vec<&str> = changed.iter().map(|((chat, _, _), _)| chat.as_str()).collect();
    let users: Vec<&str> = changed.iter().map(|((_, user, _), _)| user.as_str()).collect();
    let joined: Vec<i64> = changed.iter().map(|((_, _, joined), _)| *joined).collect();
    let left: Vec<Option<i64>> = changed.iter().map(|(_, left)| **left).collect();
    let statement = transaction.prepare_cached(STORE_STAYS).await?;
    transaction.execute(&statement, &[&chats, &users, &joined, &left]).await?;
    Ok(())
}

async fn make(transaction: &Transaction<'_>, state: &EventState) -> Result<(), Error> {
    if state.made.is_empty() {
        return Ok(());
    }
    let users: Vec<&str> = state.made.keys().map(|(_, _, user)| user.as_str()).collect();
    let ids: Vec<Uuid> = state.made.values().map(|row| row.message_id).collect();
    let chats: Vec<&str> = state.made.keys().map(|(chat, _, _)| chat.as_str()).collect();
    let seqs: Vec<i64> = state.made.keys().map(|(_, seq, _)| *seq).collect();
    let deleted: Vec<bool> = state.made.values().map(|row| row.is_deleted).collect();
    let times: Vec<_> = state.made.values().map(|row| timestamp::to_offset(row.created_at)).collect();
    let statement = transaction.prepare_cached(MAKE).await?;
    transaction.execute(&statement, &[&users, &ids, &chats, &seqs, &deleted, &times]).await?;
    Ok(())
}
