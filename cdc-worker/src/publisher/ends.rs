//! Where the partitions of the history end, as position records tell it.

use std::collections::BTreeMap;

use schemas::PartitionEnd;

/// The last offset that Kafka acknowledged, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<String, BTreeMap<i32, i64>>);

impl Ends {
    /// As a stored position has them.
    pub(super) fn of(stored: Vec<PartitionEnd>) -> Self {
        let mut ends = Self::default();
        for end in stored {
            ends.note(&end.topic_name, end.partition_number, end.last_offset);
        }
        ends
    }

    /// An acknowledged offset. Producers tell the last ones of their own, and they take turns: the other may have gone
    /// further since.
    pub(super) fn note(&mut self, topic: &str, partition: i32, offset: i64) {
        let of_topic = match self.0.get_mut(topic) {
            Some(of_topic) => of_topic,
            None => self.0.entry(topic.to_owned()).or_default(),
        };
        let end = of_topic.entry(partition).or_insert(offset);
        *end = offset.max(*end);
    }

    /// As a position record has them, with the topics' ids.
    pub(super) fn list(&self, topic_ids: &BTreeMap<String, String>) -> Vec<PartitionEnd> {
        let end = |topic: &String, (partition, offset): (&i32, &i64)| PartitionEnd {
            topic_name: topic.clone(),
            topic_uuid: topic_ids.get(topic).cloned().unwrap_or_default(),
            partition_number: *partition,
            last_offset: *offset,
        };
        self.0.iter().flat_map(|(topic, ends)| ends.iter().map(move |place| end(topic, place))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_never_go_back_when_producers_take_turns() {
        let mut ends = Ends::default();
        ends.note("chat.events", 0, 100);
        ends.note("chat.events", 0, 150);
        // The first producer's next transaction was of another partition; it still knows of its own last offset here.
        ends.note("chat.events", 0, 100);
        ends.note("chat.events", 1, 7);
        let listed = ends.list(&BTreeMap::from([("chat.events".to_owned(), "id".to_owned())]));
        let offsets: Vec<_> = listed.iter().map(|end| (end.partition_number, end.last_offset)).collect();
        assert_eq!(offsets, [(0, 150), (1, 7)]);
        assert_eq!(Ends::of(listed.clone()).list(&BTreeMap::from([("chat.events".into(), "id".into())])), listed);
    }
}
