//! Settings of topics that are there: which are otherwise than planned, and setting those that have to be.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::admin::{AdminOptions, AlterConfig, ConfigResource, ConfigSource, ResourceSpecifier};

use super::admin::{Admin, AdminError, TopicPlan, topic_plans};
use crate::config::Kafka;
use crate::names::Names;

/// A setting that is otherwise than planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Topic, with the prefix.
    pub topic: String,
    /// Setting, as Kafka names it.
    pub setting: &'static str,
    /// As it is.
    pub found: String,
    /// As it is planned.
    pub wanted: String,
    /// Whether records would be lost, refused or have another time.
    pub is_promise: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} has {} = {} instead of {}", self.topic, self.setting, self.found, self.wanted)
    }
}

impl Difference {
    /// The command that mends it.
    pub fn command(&self, brokers: &str) -> String {
        let Self { topic, setting, wanted, .. } = self;
        format!("kafka-configs.sh --bootstrap-server {brokers} --alter --topic {topic} --add-config {setting}={wanted}")
    }
}

/// What is otherwise than planned. What isn't told, since it may not be read or the broker doesn't know it, isn't judged.
pub fn differences(plan: &TopicPlan, found: &BTreeMap<String, String>) -> Vec<Difference> {
    let differing = plan.config.iter().filter_map(|&(setting, ref wanted)| {
        let found = found.get(setting).filter(|found| *found != wanted)?;
        Some(Difference {
            topic: plan.name.clone(),
            setting,
            found: found.clone(),
            wanted: wanted.clone(),
            is_promise: plan.topic.is_promise(setting),
        })
    });
    differing.collect()
}

impl Admin {
    /// Sets what has to be otherwise on topics that are there; returns what was set, or may not be set by this login.
    pub async fn mend_topics(&self, kafka: &Kafka, names: &Names) -> Result<Vec<(Difference, bool)>, AdminError> {
        let there = self.visible_topics().await?;
        let mut mended = Vec::new();
        for plan in topic_plans(kafka, names).iter().filter(|plan| there.contains(&plan.name)) {
            let mut wrong = differences(plan, &self.topic_config(&plan.name).await?);
            wrong.retain(|difference| difference.is_promise);
            if wrong.is_empty() {
                continue;
            }
            let is_set = self.set(&plan.name, &wrong).await?;
            mended.extend(wrong.into_iter().map(|difference| (difference, is_set)));
        }
        Ok(mended)
    }

    /// The client's request replaces all that a topic has of its own, so the rest of that is sent along.
    async fn set(&self, topic: &str, wrong: &[Difference]) -> Result<bool, AdminError> {
        let resource = ResourceSpecifier::Topic(topic);
        let described = self.client.describe_configs([&resource], &AdminOptions::new()).await;
        let described = described.map_err(|source| self.away(source))?;
        let entries = described.into_iter().filter_map(Result::ok).flat_map(|config: ConfigResource| config.entries);
        let own = entries.filter(|entry| entry.source == ConfigSource::DynamicTopic);
        let mut all: BTreeMap<String, String> = own.filter_map(|entry| Some((entry.name, entry.value?))).collect();
        all.extend(wrong.iter().map(|difference| (difference.setting.to_owned(), difference.wanted.clone())));
        let change = all.iter().fold(AlterConfig::new(resource), |change, (key, value)| change.set(key, value));
        let answers = self.client.alter_configs([&change], &AdminOptions::new()).await;
        let answers = answers.map_err(|source| self.away(source))?;
        Ok(answers.iter().all(Result::is_ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::topics::Topic;

    fn of(topic: Topic, key: &str, value: &str) -> Vec<Difference> {
        of_with(&Kafka::default(), topic, key, value)
    }

    fn of_with(kafka: &Kafka, topic: Topic, key: &str, value: &str) -> Vec<Difference> {
        let plans = topic_plans(kafka, &Names::new(String::new()));
        let plan = plans.iter().find(|plan| plan.topic == topic).unwrap();
        differences(plan, &BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn what_would_lose_or_refuse_records_is_told_with_the_line_that_mends_it() {
        assert_eq!(of(Topic::ChatEvents, "retention.ms", "-1"), []);
        let short = &of(Topic::ChatEvents, "retention.ms", "604800000")[0];
        assert!(short.is_promise, "{short}");
        let command = short.command("kafka:9092");
        assert!(command.ends_with("--alter --topic chat.events --add-config retention.ms=-1"), "{command}");
        for (topic, key, value) in [
            (Topic::ChatEvents, "message.timestamp.after.max.ms", "3600000"),
            (Topic::ChatEvents, "message.timestamp.type", "LogAppendTime"),
            (Topic::ChatEvents, "cleanup.policy", "compact"),
            (Topic::ChatAbuse, "unclean.leader.election.enable", "true"),
            (Topic::OperatorsState, "cleanup.policy", "delete"),
        ] {
            assert!(of(topic, key, value)[0].is_promise, "{topic:?} {key}");
        }
    }

    #[test]
    fn what_the_operator_may_say_is_told_and_no_more() {
        for (topic, key, value) in [
            (Topic::ChatCommands, "retention.ms", "86400000"),
            (Topic::ChatActivity, "retention.ms", "86400000"),
            (Topic::ChatEvents, "compression.type", "zstd"),
            (Topic::ChatEvents, "segment.bytes", "104857600"),
            (Topic::ChatCursors, "message.timestamp.type", "LogAppendTime"),
        ] {
            let told = of(topic, key, value);
            assert!(told.len() == 1 && !told[0].is_promise, "{told:?}");
        }
        assert_eq!(of(Topic::ChatEvents, "a.setting.of.a.later.version", "1"), []);
    }

    #[test]
    fn tiered_storage_is_asked_for_by_a_setting_alone() {
        assert_eq!(of(Topic::ChatEvents, "remote.storage.enable", "false"), []);
        let tiered = Kafka { tiered_storage: true, ..Kafka::default() };
        assert!(of_with(&tiered, Topic::ChatEvents, "remote.storage.enable", "false")[0].is_promise);
        assert!(!of_with(&tiered, Topic::ChatEvents, "local.retention.ms", "-2")[0].is_promise);
        assert_eq!(of_with(&tiered, Topic::ChatCursors, "remote.storage.enable", "false"), []);
    }
}
