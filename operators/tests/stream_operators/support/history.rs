//! A history with everything in it that operators look at: talk, floods, repeated texts, late events, other types.

use std::collections::BTreeMap;

use operators::Row;
use operators::rules::Rules;
use operators::transform::{Tally, Transform};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtime::config::Operators;
use schemas::{ChatEvent, MessageState, Origin, event_type, partitioner};

use super::PARTITIONS;

/// A whole minute.
pub(crate) const NOON: i64 = 1_767_225_600_000;

/// A message.
pub(crate) fn sent(chat: &str, seq: i64, sender: &str, at_ms: i64, text: &str) -> ChatEvent {
    let message = MessageState {
        message_id: format!("{chat}-{seq}"),
        message_seq: seq,
        sender_id: sender.to_owned(),
        content: Some(text.to_owned()),
        created_at: at_ms,
        ..MessageState::default()
    };
    ChatEvent {
        event_type: event_type::MESSAGE_PERSISTED.to_owned(),
        message: Some(message),
        ..ChatEvent::withheld(chat, seq, sender.to_owned(), at_ms, Origin::default())
    }
}

/// Many events of some chats over some minutes, the same for the same seed.
pub(crate) fn history(seed: u64, events: usize) -> Vec<ChatEvent> {
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut now_ms, mut seqs) = (NOON, BTreeMap::new());
    let mut made = Vec::with_capacity(events);
    while made.len() < events {
        now_ms += dice.random_range(0..400);
        let chat = format!("chat-{}", dice.random_range(0..25));
        let mut next = || {
            let seq = seqs.entry(chat.clone()).or_insert(0);
            *seq += 1;
            *seq
        };
        let sender = format!("person-{}", dice.random_range(0..9));
        match dice.random_range(0..100) {
            0 => {
                for number in 0..dice.random_range(25..40) {
                    made.push(sent(&chat, next(), &sender, now_ms + number, &format!("flood {number} {now_ms}")));
                }
            }
            1 => {
                for number in 0..6 {
                    let sender = format!("bot-{number}");
                    made.push(sent(&chat, next(), &sender, now_ms + number * 7, "Buy NOW, it is cheap!"));
                }
            }
            2 => made.push(ChatEvent::withheld(&chat, next(), sender, now_ms, Origin::default())),
            3 => {
                let unknown = ChatEvent::withheld(&chat, next(), sender, now_ms, Origin::default());
                made.push(ChatEvent { event_type: "reaction.added".into(), ..unknown });
            }
            4..8 => {
                let late_ms = dice.random_range(0..150_000);
                made.push(sent(&chat, next(), &sender, now_ms - late_ms, "from a clock that is behind"));
            }
            _ => made.push(sent(&chat, next(), &sender, now_ms, &format!("message at {now_ms}, Grüße"))),
        }
    }
    made.truncate(events);
    made
}

/// The rows that follow from the events of each partition.
pub(crate) fn expected(config: &Operators, events: &[ChatEvent]) -> BTreeMap<i32, Vec<Row>> {
    let mut by_partition: BTreeMap<i32, (Transform, Vec<Row>)> =
        (0..PARTITIONS).map(|number| (number, (Transform::new(Rules::new(config)), Vec::new()))).collect();
    for event in events {
        let number = partitioner::partition_of(event.chat_id.as_bytes(), PARTITIONS);
        if let Some((transform, rows)) = by_partition.get_mut(&number) {
            transform.apply(event, rows, &mut Tally::default());
        }
    }
    by_partition.into_iter().map(|(number, (_, rows))| (number, rows)).collect()
}
