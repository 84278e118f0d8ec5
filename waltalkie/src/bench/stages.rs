//! Where the time went and what had to be read again, by the roles' own metrics over a run, for roles in this process.

use std::collections::BTreeMap;

use serde::Serialize;

/// The stages of a message's way, in its order, and the histograms that measure them.
const STAGES: [(&str, &str); 6] = [
    ("hand-over to Kafka's acknowledgement", "waltalkie_gateway_accept_seconds"),
    ("a batch's transaction in Postgres", "waltalkie_persister_batch_seconds"),
    ("hand-over to the persister's answer", "waltalkie_gateway_decide_seconds"),
    ("Postgres' commit to the CDC worker", "waltalkie_cdc_arrival_seconds"),
    ("a Kafka transaction of the CDC worker", "waltalkie_cdc_publish_seconds"),
    ("an event's time to a gateway", "waltalkie_fanout_event_age_seconds"),
];

/// What the way through Redis didn't bring, or clients asked for again, and the counters of it.
const READ_AGAIN: [(&str, &str); 4] = [
    ("gaps", "waltalkie_fanout_gaps_total"),
    ("events for gaps", "waltalkie_fanout_healed_events_total"),
    ("resumes", "waltalkie_fanout_resumes_total"),
    ("events for resumes", "waltalkie_fanout_resumed_events_total"),
];

/// How long a stage took on average.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Stage {
    pub(crate) stage: &'static str,
    pub(crate) mean_ms: f64,
}

/// Sums and counts at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages {
    times: BTreeMap<&'static str, (f64, f64)>,
    read_again: BTreeMap<&'static str, f64>,
}

impl Stages {
    /// From what `/metrics` shows.
    pub(crate) fn of(metrics: &str) -> Self {
        let value = |name: &str, part: &str| -> f64 {
            let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(part));
            // Labels, if any, stand between the name and the value.
            lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Self {
            times: STAGES.into_iter().map(|(_, name)| (name, (value(name, "_sum"), value(name, "_count")))).collect(),
            read_again: READ_AGAIN.into_iter().map(|(what, name)| (what, value(name, ""))).collect(),
        }
    }

    /// Means since an earlier moment, of the stages that something passed.
    pub(crate) fn means_since(&self, earlier: &Self) -> Vec<Stage> {
        let at = |stages: &Self, name: &str| stages.times.get(name).copied().unwrap_or_default();
        let mean = |(stage, name): &(&'static str, &str)| {
            let ((sum, count), (sum_before, count_before)) = (at(self, name), at(earlier, name));
            let passed = count - count_before;
            let mean_ms = ((sum - sum_before) / passed * 100_000.0).round() / 100.0;
            (passed > 0.0).then_some(Stage { stage, mean_ms })
        };
        STAGES.iter().filter_map(mean).collect()
    }

    /// What was read again since an earlier moment.
    pub(crate) fn read_again_since(&self, earlier: &Self) -> BTreeMap<&'static str, u64> {
        let since = |(what, count): (&&'static str, &f64)| {
            (*what, (count - earlier.read_again.get(what).unwrap_or(&0.0)).max(0.0) as u64)
        };
        self.read_again.iter().map(since).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_span() {
        let at = |sum: f64, count: u32| {
            Stages::of(&format!(
                "# HELP x\nwaltalkie_cdc_publish_seconds_sum {sum}\nwaltalkie_cdc_publish_seconds_count {count}\n"
            ))
        };
        let means = at(3.0, 200).means_since(&at(1.0, 100));
        assert_eq!(means, [Stage { stage: "a Kafka transaction of the CDC worker", mean_ms: 20.0 }]);
        assert!(at(1.0, 100).means_since(&at(1.0, 100)).is_empty(), "nothing passed");
        let resumes = |count: u32| Stages::of(&format!("waltalkie_fanout_resumes_total {count}\n"));
        assert_eq!(resumes(7).read_again_since(&resumes(5))["resumes"], 2);
    }
}
