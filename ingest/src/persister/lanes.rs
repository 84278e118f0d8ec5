//! A large batch is two transactions side by side.

use std::collections::{HashMap, HashSet};

use super::Entry;

/// Commands from which on a batch is worth two transactions.
const LARGE: usize = 200;

/// Splits a large batch into two of about the same size by partition, so that Postgres works on both at once. No chat is
/// in both, and each partition's commands keep their order.
pub(super) fn split(entries: Vec<Entry>) -> [Vec<Entry>; 2] {
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for entry in &entries {
        *counts.entry(entry.record.partition).or_default() += 1;
    }
    if entries.len() < LARGE || counts.len() == 1 {
        return [entries, Vec::new()];
    }
    let mut by_size: Vec<(usize, i32)> = counts.into_iter().map(|(partition, count)| (count, partition)).collect();
    by_size.sort_unstable_by(|one, other| other.cmp(one));
    let (mut loads, mut second) = ([0, 0], HashSet::new());
    for (count, partition) in by_size {
        let lighter = usize::from(loads[1] < loads[0]);
        loads[lighter] += count;
        if lighter == 1 {
            second.insert(partition);
        }
    }
    let (other, one) = entries.into_iter().partition(|entry| second.contains(&entry.record.partition));
    [one, other]
}

#[cfg(test)]
mod tests {
    use runtime::kafka::Received;

    use super::*;

    fn entry(partition: i32, offset: i64) -> Entry {
        let record = Received {
            topic: "t".into(),
            partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            event_type: None,
            trace: None,
        };
        Entry { record, candidate: None, refusal: None }
    }

    fn places(lane: &[Entry]) -> Vec<(i32, i64)> {
        lane.iter().map(|entry| (entry.record.partition, entry.record.offset)).collect()
    }

    #[test]
    fn lanes_share_no_partition_and_keep_each_partitions_order() {
        let entries: Vec<Entry> = (0..900).map(|number| entry(number % 3, i64::from(number / 3))).collect();
        let [one, other] = split(entries);
        assert_eq!((one.len(), other.len()), (600, 300));
        let partitions = |lane: &[Entry]| lane.iter().map(|entry| entry.record.partition).collect::<HashSet<_>>();
        assert!(partitions(&one).is_disjoint(&partitions(&other)));
        for lane in [one, other] {
            for partition in partitions(&lane) {
                let offsets: Vec<i64> =
                    places(&lane).into_iter().filter(|place| place.0 == partition).map(|place| place.1).collect();
                assert_eq!(offsets, (0..300).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn small_batches_and_those_of_one_partition_stay_one() {
        let [one, other] = split((0..100).map(|number| entry(number % 2, i64::from(number))).collect());
        assert_eq!((one.len(), other.len()), (100, 0));
        let [one, other] = split((0..500).map(|number| entry(0, i64::from(number))).collect());
        assert_eq!((one.len(), other.len()), (500, 0));
    }
}
