//! The rules, without I/O.

use schemas::{PartitionEnd, Position, TopicShape};

use super::{KafkaFacts, LastEvent, SlotFacts, timeline};
use crate::left_out;
use crate::lsn::Lsn;
use crate::position::mark_of;
use crate::replication::{Switch, System};
use crate::transaction::Place;

/// Everything that was found before a start.
pub(crate) struct Facts<'a> {
    pub(crate) slot: &'a SlotFacts,
    pub(crate) system: &'a System,
    /// Where the server's earlier timelines ended; asked only if its timeline isn't the position's.
    pub(crate) switches: &'a [Switch],
    pub(crate) kafka: &'a KafkaFacts,
    pub(crate) stored: Option<&'a Position>,
    /// Neither the history nor the event tables hold anything.
    pub(crate) is_unused: bool,
    /// The history is being completed from the tables, by us.
    pub(crate) is_completing: bool,
}

pub(super) const WAY_OUT: &str = "`waltalkie cdc resnapshot` completes the history from the tables, or says why it can't; read \
                       docs/operators.md, \"When the worker refuses\", first";

/// Why streaming must not start, and the way out.
pub(crate) fn refusal(facts: &Facts<'_>) -> Option<String> {
    let kept_in_mind = facts.stored.and_then(|stored| handover_refusal(stored).or_else(|| left_out::refusal(stored)));
    kept_in_mind.or_else(|| slot_refusal(facts.slot)).or_else(|| match facts.stored {
        Some(stored) => postgres_refusal(facts, stored).or_else(|| kafka_refusal(facts.kafka, stored)),
        None if facts.is_unused => None,
        None => Some(format!(
            "topic cdc.positions has no position of it, but there are events or rows: nobody can say which of them were \
             published. {WAY_OUT}"
        )),
    })
}

/// Why nothing may be published while the database moves.
pub(crate) fn handover_refusal(stored: &Position) -> Option<String> {
    stored.handed_over_at?;
    Some(
        "the database is being handed over to another server, and nothing may be written until it is there. Go on with \
         `waltalkie cdc handover finish` on the new server, or `waltalkie cdc handover cancel` on the old one"
            .into(),
    )
}

/// Why a slot is none of ours, and isn't to be touched.
pub(crate) fn foreign_slot(slot: &SlotFacts) -> Option<String> {
    if slot.plugin != "pgoutput" {
        return Some(format!(
            "it uses the plugin `{}` instead of pgoutput; drop it and run `waltalkie migrate`",
            slot.plugin
        ));
    }
    (!slot.is_of_this_database).then(|| "it belongs to another database of the server than the configured one".into())
}

/// Why a slot can't be streamed, whatever was published.
pub(crate) fn slot_refusal(slot: &SlotFacts) -> Option<String> {
    if let Some(reason) = foreign_slot(slot) {
        return Some(reason);
    }
    if slot.is_temporary {
        return Some(
            "it is temporary: made by hand, or a copy that a standby had not finished when it was promoted. docs/operators.md, \
             \"Failover\", says how a standby keeps it"
                .into(),
        );
    }
    let why = slot.invalidation_reason.as_deref().or((slot.wal_status == "lost").then_some("wal_removed"))?;
    Some(format!(
        "the server has given it up ({why}): WAL that wasn't read yet is gone, but the tables hold all that it said. Raise \
         max_slot_wal_keep_size. {WAY_OUT}"
    ))
}

fn postgres_refusal(facts: &Facts<'_>, stored: &Position) -> Option<String> {
    let (system, confirmable) = (facts.system, Lsn::from_bits(stored.confirmable_lsn));
    if stored.resnapshot_until_lsn.is_some() && !facts.is_completing {
        return Some(
            "the history is being completed from the tables and isn't whole yet: run `waltalkie cdc resnapshot` again, it goes \
             on where it was stopped"
                .into(),
        );
    }
    if stored.system_identifier != system.identifier {
        return Some(format!(
            "the stored position belongs to the Postgres cluster {}, this is {}: its LSNs mean nothing here. Point \
             postgres.truth_url at the right server. After a planned move: {WAY_OUT}",
            stored.system_identifier, system.identifier
        ));
    }
    if let Some(reason) = timeline::refusal(system, facts.switches, stored) {
        return Some(reason);
    }
    if system.flush_lsn < confirmable {
        return Some(format!(
            "the server's WAL ends at {}, before {confirmable}, which was published: it was restored from an older \
             backup, and new commits would reuse published LSNs. Restore Kafka to the same time, or: {WAY_OUT}",
            system.flush_lsn
        ));
    }
    if facts.slot.confirmed_flush_lsn > confirmable {
        return Some(format!(
            "it is confirmed up to {}, but only {confirmable} is known to be published: the slot was made anew or moved \
             by somebody, and Postgres would silently leave out what lies between. {WAY_OUT}",
            facts.slot.confirmed_flush_lsn
        ));
    }
    None
}

/// Why the position and Kafka don't belong together, and the way out.
pub(crate) fn kafka_refusal(kafka: &KafkaFacts, stored: &Position) -> Option<String> {
    if !stored.cluster_id.is_empty() && stored.cluster_id != kafka.cluster_id {
        return Some(format!(
            "the stored position belongs to the Kafka cluster {}, this is {}: it was copied or restored, and its offsets \
             may differ. {WAY_OUT}",
            stored.cluster_id, kafka.cluster_id
        ));
    }
    if let Some(reason) = reshaped(kafka, stored) {
        return Some(reason);
    }
    let published = mark_of(stored).place;
    if let Some(last) = last_new_event(kafka, stored).filter(|last| *last > published) {
        return Some(format!(
            "the history has an event of {}, past the stored position at {}: cdc.positions has lost its end, and what it said \
             was published would be published again. {WAY_OUT}",
            last.commit_lsn, published.commit_lsn
        ));
    }
    let made_anew = |shape: &&TopicShape| {
        let id = kafka.topic_ids.get(&shape.topic_name);
        !shape.topic_uuid.is_empty() && id.is_some_and(|id| *id != shape.topic_uuid)
    };
    if has_published(stored)
        && let Some(TopicShape { topic_name, .. }) = stored.topics.iter().find(made_anew)
    {
        return Some(format!("topic {topic_name} was made anew: its events are gone. {WAY_OUT}"));
    }
    stored.partitions.iter().find_map(|end| {
        let (topic, partition) = (&end.topic_name, end.partition_number);
        match kafka.topic_ids.get(topic) {
            Some(id) if !end.topic_uuid.is_empty() && *id != end.topic_uuid => {
                return Some(format!("topic {topic} was made anew: its events are gone. {WAY_OUT}"));
            }
            _ => {}
        }
        let high = kafka.ends.get(&(topic.clone(), partition)).copied()?;
        (high <= end.last_offset).then(|| {
            format!(
                "{topic}/{partition} ends at offset {high}, but {} was acknowledged there: Kafka has lost the end of the \
                 partition. {WAY_OUT}",
                end.last_offset
            )
        })
    })
}

/// Why a topic's number of partitions isn't the one that chats were spread over.
pub(crate) fn reshaped(kafka: &KafkaFacts, stored: &Position) -> Option<String> {
    // No key has moved.
    if !has_published(stored) {
        return None;
    }
    // One that was made anew is another topic, whatever its shape. Positions of earlier versions have ids with ends only.
    let is_same = |before: &TopicShape| {
        let id = kafka.topic_ids.get(&before.topic_name);
        let is_at_end = |end: &PartitionEnd| end.topic_name == before.topic_name && Some(&end.topic_uuid) == id;
        Some(&before.topic_uuid) == id || before.topic_uuid.is_empty() && stored.partitions.iter().any(is_at_end)
    };
    let of_topic = |before: &TopicShape| {
        let now = kafka.topics.iter().find(|now| now.topic_name == before.topic_name)?;
        (now.partition_count != before.partition_count && is_same(before)).then(|| {
            format!(
                "topic {} has {} partitions, and had {} when the position was written: many keys belong to another partition \
                 now, and what follows would overtake what is in the old one. Kafka can't take partitions away again; \
                 docs/operators.md, \"A new generation of the history\", says how to go on with another number",
                before.topic_name, now.partition_count, before.partition_count
            )
        })
    };
    stored.topics.iter().find_map(of_topic)
}

fn has_published(stored: &Position) -> bool {
    mark_of(stored).place > Place::START || !stored.partitions.is_empty()
}

/// The furthest place that was published from this server, whose LSNs alone compare with its WAL. What was published before
/// the database came here by a hand-over lies elsewhere; without one, anything may be of here.
pub(crate) fn last_of_here(
    kafka: &KafkaFacts,
    stored: Option<&Position>,
    system: &System,
    all: Option<Place>,
) -> Option<Place> {
    match stored.filter(|stored| stored.system_identifier == system.identifier) {
        Some(stored) => last_new_event(kafka, stored).max(Some(mark_of(stored).place)),
        None => all,
    }
}

/// The furthest place among the last events that the position may not know of. What lies at or before the ends that it
/// records was acknowledged before it was written, and may come from another server, whose LSNs don't compare.
fn last_new_event(kafka: &KafkaFacts, stored: &Position) -> Option<Place> {
    let known = |last: &LastEvent| {
        stored.partitions.iter().any(|end| {
            end.topic_name == last.topic && end.partition_number == last.partition && last.offset <= end.last_offset
        })
    };
    kafka.last_events.iter().filter(|last| !known(last)).map(|last| last.place).max()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
