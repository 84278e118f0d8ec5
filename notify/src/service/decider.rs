//! The decider: events become notifications, receipts take them back.
//!
//! ```text
//!   chat.events ───▶ members, settings, cursors, presence ─▶ decide ─┬─▶ chat.notifications   push now
//!                                                                    ├─▶ notify_look          look again
//!                                                                    └─▶ notify_digest        mail, if it stays unread
//!   chat.cursors ──▶ notify_shown, notify_digest ──▶ chat.notifications  (read elsewhere), digests shrink
//! ```
//!
//! A chat of many members is one notification for all of them: the module `groups` finds them, page by page.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Transaction;
use runtime::clock;
use runtime::kafka::Received;
use schemas::topics::Topic;
use schemas::{ChatEvent, Cursor, Decoder, FrameError, Notification, notification_type};

use super::Notifier;
use super::consume::Work;
use super::digests::{self, Addition};
use super::error::Error;
use super::looks::{self, NewLook};
use super::metrics;
use super::shown;
use super::verdict::{Known, cause_name, is_asked, verdicts};
use crate::decide::{Look, Message};

/// People who are decided about at once, over all messages: bounds memory and the length of a transaction.
const MOST_PEOPLE: i64 = 20_000;

/// A record that matters.
enum Decoded {
    Event(ChatEvent),
    Cursor(Cursor),
}

/// The work of one process.
pub(crate) struct Decider {
    notifier: Arc<Notifier>,
    events_topic: String,
    events: Decoder<ChatEvent>,
    cursors: Decoder<Cursor>,
}

/// What a batch leads to.
#[derive(Default)]
pub(crate) struct Plan {
    notifications: Vec<Notification>,
    looks: Vec<NewLook>,
    additions: Vec<Addition>,
    /// Read up to, by person and chat.
    read: BTreeMap<(String, String), i64>,
}

impl Decider {
    pub(crate) fn new(notifier: &Arc<Notifier>, event_id: u32, cursor_id: u32) -> Self {
        Self {
            events_topic: notifier.config.names().topic(Topic::ChatEvents),
            events: Decoder::new(Arc::clone(&notifier.registry), event_id),
            cursors: Decoder::new(Arc::clone(&notifier.registry), cursor_id),
            notifier: Arc::clone(notifier),
        }
    }

    /// What the batch holds that matters, each with its record's place.
    async fn decode(&self, records: &[Received]) -> Result<Vec<(usize, Decoded)>, Error> {
        let mut decoded = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let Some(value) = &record.value else { continue };
            if *record.topic == *self.events_topic {
                // Most events of a busy history are messages; the others needn't be decoded.
                let may_tell =
                    record.event_type.as_deref().is_none_or(|kind| kind == schemas::event_type::MESSAGE_PERSISTED);
                if may_tell && let Some(event) = passed_over(self.events.decode(value).await, record)? {
                    decoded.push((place, Decoded::Event(event)));
                }
            } else if let Some(cursor) = passed_over(self.cursors.decode(value).await, record)? {
                decoded.push((place, Decoded::Cursor(cursor)));
            }
        }
        Ok(decoded)
    }

    /// Members of these events' chats, counted to where a chat is large.
    async fn sizes(&self, decoded: &[(usize, Decoded)]) -> Result<HashMap<String, i64>, Error> {
        let chats: HashSet<&str> = decoded
            .iter()
            .filter_map(|(_, decoded)| match decoded {
                Decoded::Event(event) => Some(event.chat_id.as_str()),
                Decoded::Cursor(_) => None,
            })
            .collect();
        if chats.is_empty() {
            return Ok(HashMap::new());
        }
        let chats: Vec<&str> = chats.into_iter().collect();
        self.notifier.people.sizes(&chats, self.large()).await
    }

    fn large(&self) -> i64 {
        i64::from(self.notifier.config.notify.large_chat_members)
    }

    async fn decide(&self, events: &[ChatEvent], sizes: &HashMap<String, i64>, plan: &mut Plan) -> Result<(), Error> {
        let notifier = &*self.notifier;
        let most = self.large();
        let is_large = |chat_id: &str| sizes.get(chat_id).is_some_and(|size| *size >= most);
        let chats: HashSet<&str> = events.iter().map(|event| event.chat_id.as_str()).collect();
        let small: Vec<&str> = chats.into_iter().filter(|chat_id| !is_large(chat_id)).collect();
        let members = notifier.people.members(&small).await?;
        let (pairs, asked) = pairs(events, &members);
        let (chat_ids, user_ids): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
        let asked: Vec<&str> = asked.into_iter().collect();
        let (cursors, presences) =
            tokio::join!(notifier.people.cursors(&chat_ids, &user_ids), notifier.presences.of(&asked));
        let (cursors, now_ms) = (cursors?, clock::now_ms());
        let known = Known { cursors: &cursors, presences: &presences, has_mail: notifier.outlets.mail.is_some() };
        for event in events {
            if is_large(&event.chat_id) {
                if event.message.is_some() {
                    plan.notifications.push(group_of(event, now_ms));
                }
                continue;
            }
            let Some(members) = members.get(&event.chat_id) else { continue };
            let role = members.iter().find(|member| member.stay.user_id == event.actor_id);
            let Ok(message) = Message::of(event, role.map(|member| member.stay.member_role.as_str())) else { continue };
            let verdicts = verdicts(&message, members, &known, &notifier.policy, Look::First, now_ms);
            for (user_id, cause) in verdicts.push {
                plan.notifications.push(message_of(&message, user_id, cause_name(cause), now_ms));
            }
            for (due_ms, user_ids) in verdicts.look {
                let (chat_id, seq) = (event.chat_id.clone(), event.seq);
                plan.looks.push(NewLook { chat_id, seq, user_ids, is_bulk: false, due_ms });
            }
            for (user_id, at_ms, quiet) in verdicts.mail {
                plan.additions.push(Addition { user_id, chat_id: event.chat_id.clone(), seq: event.seq, at_ms, quiet });
            }
        }
        Ok(())
    }
}

/// How many records are taken at once: so many that no more people than `most_people` have to be decided about, but for the
/// first message's. A chat that is large by itself is one notification.
fn cut(messages: impl Iterator<Item = (usize, i64)>, large: i64, most_people: i64) -> Option<usize> {
    let mut people = 0;
    for (place, size) in messages {
        let size = if size >= large { 1 } else { size };
        if people > 0 && people + size > most_people {
            return Some(place);
        }
        people += size;
    }
    None
}

/// Events of types that this version doesn't know, by their headers: nothing else of them is read.
fn unknown_events(records: &[Received], events_topic: &str) -> u64 {
    let is_unknown = |record: &&Received| {
        let kind = record.event_type.as_deref();
        *record.topic == *events_topic && kind.is_some_and(|kind| !schemas::event_type::is_known(kind))
    };
    records.iter().filter(is_unknown).count() as u64
}

/// Chats with people whose cursors matter, and people whose presence does.
fn pairs<'a>(
    events: &'a [ChatEvent],
    members: &'a HashMap<String, Vec<super::people::Member>>,
) -> (HashSet<(&'a str, &'a str)>, HashSet<&'a str>) {
    let (mut pairs, mut asked) = (HashSet::new(), HashSet::new());
    for event in events {
        for member in members.get(&event.chat_id).into_iter().flatten() {
            let user_id = member.stay.user_id.as_str();
            if user_id == event.actor_id {
                continue;
            }
            pairs.insert((event.chat_id.as_str(), user_id));
            if is_asked(member, &event.actor_id) {
                asked.insert(user_id);
            }
        }
    }
    (pairs, asked)
}

/// A record that can't be read tells nobody; one whose schema can't be had now waits for it.
fn passed_over<T>(decoded: Result<T, FrameError>, record: &Received) -> Result<Option<T>, Error> {
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            ::metrics::counter!(metrics::POISON).increment(1);
            let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
            tracing::error!(topic, partition, offset, error = %error, "a record can't be read, and nobody is told of it");
            Ok(None)
        }
    }
}

/// A message to one person.
pub(crate) fn message_of(message: &Message<'_>, user_id: String, told_because: &str, now_ms: i64) -> Notification {
    Notification {
        notification_id: format!("{user_id}/{}/{}", message.chat_id, message.seq),
        notification_type: notification_type::MESSAGE.into(),
        user_id: Some(user_id),
        chat_id: Some(message.chat_id.to_owned()),
        seq: Some(message.seq),
        message_id: Some(message.message_id.to_owned()),
        sender_id: Some(message.sender_id.to_owned()),
        told_because: Some(told_because.to_owned()),
        occurred_at: message.sent_at_ms,
        decided_at: now_ms,
        ..Notification::default()
    }
}

fn group_of(event: &ChatEvent, now_ms: i64) -> Notification {
    Notification {
        notification_id: format!("/{}/{}", event.chat_id, event.seq),
        notification_type: notification_type::GROUP.into(),
        chat_id: Some(event.chat_id.clone()),
        seq: Some(event.seq),
        message_id: event.message.as_ref().map(|message| message.message_id.clone()),
        sender_id: event.message.as_ref().map(|message| message.sender_id.clone()),
        occurred_at: event.occurred_at,
        decided_at: now_ms,
        ..Notification::default()
    }
}

impl Work for Decider {
    const NAME: &'static str = "notifier";
    const LAG: &'static str = metrics::DECIDER_LAG;
    const TOPICS: &'static [Topic] = &[Topic::ChatEvents, Topic::ChatCursors];
    const FROM_END: bool = true;
    const BATCH: usize = 1_000;
    type Plan = Plan;

    async fn prepare(&self, records: &[Received]) -> Result<(Plan, usize), Error> {
        let decoded = self.decode(records).await?;
        let sizes = self.sizes(&decoded).await?;
        let messages = decoded.iter().filter_map(|(place, decoded)| match decoded {
            Decoded::Event(event) => Some((*place, sizes.get(&event.chat_id).copied().unwrap_or_default())),
            Decoded::Cursor(_) => None,
        });
        let taken = cut(messages, self.large(), MOST_PEOPLE).unwrap_or(records.len());
        let (mut plan, mut events) = (Plan::default(), Vec::new());
        for (place, decoded) in decoded {
            match decoded {
                _ if place >= taken => break,
                Decoded::Event(event) => events.push(event),
                Decoded::Cursor(cursor) => {
                    let read = plan.read.entry((cursor.user_id, cursor.chat_id)).or_default();
                    *read = (*read).max(cursor.read_seq);
                }
            }
        }
        plan.read.retain(|_, read_seq| *read_seq > 0);
        if !events.is_empty() {
            Box::pin(self.decide(&events, &sizes, &mut plan)).await?;
        }
        Ok((plan, taken))
    }

    async fn apply(&self, transaction: &Transaction<'_>, plan: &Plan) -> Result<(), Error> {
        let notifier = &*self.notifier;
        looks::add(transaction, &plan.looks).await?;
        digests::add(transaction, &plan.additions, &notifier.digest_policy).await?;
        let mut read = Vec::new();
        if !plan.read.is_empty() {
            digests::read(transaction, &plan.read).await?;
            read = shown::read(transaction, &plan.read, clock::now_ms()).await?;
        }
        // Before the commit, so that nothing is missing after a crash; what comes twice is known by its id.
        notifier.publisher.publish(&plan.notifications).await?;
        notifier.publisher.publish(&read).await
    }

    fn done(&self, records: &[Received]) {
        let unknown = unknown_events(records, &self.events_topic);
        if unknown > 0 {
            ::metrics::counter!(metrics::UNKNOWN).increment(unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_unknown_types_are_counted() {
        let record = |topic: &str, kind: Option<&str>| Received {
            topic: topic.into(),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            event_type: kind.map(str::to_owned),
            trace: None,
        };
        let records = [
            record("chat.events", Some("reaction.added")),
            record("chat.events", Some("message.persisted")),
            record("chat.events", Some("withheld")),
            record("chat.events", None),
            record("chat.cursors", Some("reaction.added")),
        ];
        assert_eq!(unknown_events(&records, "chat.events"), 1);
    }

    #[test]
    fn a_batch_is_cut_where_it_would_concern_too_many_people() {
        let cut = |sizes: &[i64]| cut(sizes.iter().copied().enumerate(), 1_000, 2_000);
        assert_eq!(cut(&[]), None);
        assert_eq!(cut(&[900, 900]), None);
        assert_eq!(cut(&[900, 900, 201]), Some(2));
        // Large chats are one notification each, and one message is taken in any case.
        assert_eq!(cut(&[900, 1_000, 900, 1_000]), None);
        assert_eq!(super::cut([(3, 5_000), (4, 1)].into_iter(), 10_000, 2_000), Some(4));
    }
}
