//! Topics: making them, and what the cluster says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::topics::{Partitions, Topic};

use crate::config::Kafka;
use crate::names::Names;

const APPLIED_BY_OTHERS: &str = ". This login may not make topics, or may not see that it is there: `waltalkie migrate \
                                 --print topics` prints what somebody else has to make, and it needs Describe on all of them";

/// What making topics can fail with.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The cluster doesn't answer.
    #[error("Kafka at {brokers} doesn't answer")]
    Away {
        /// Addresses.
        brokers: String,
        /// What the client says.
        #[source]
        source: KafkaError,
    },
    /// A topic isn't there.
    #[error("topic {topic} isn't there, or may not be described; `waltalkie migrate` makes it")]
    NoTopic {
        /// Topic.
        topic: String,
    },
    /// A topic can't be made.
    #[error("topic {topic} can't be made: {code}{}", if *code == RDKafkaErrorCode::TopicAuthorizationFailed { APPLIED_BY_OTHERS } else { "" })]
    Refused {
        /// Topic.
        topic: String,
        /// Kafka's reason.
        code: RDKafkaErrorCode,
    },
}

/// An administrator of the configured cluster.
pub struct Admin {
    pub(super) client: Arc<AdminClient<DefaultClientContext>>,
    brokers: String,
}

/// What the cluster says of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Partitions, 0 if there is no such topic.
    pub partitions: usize,
    /// Fewest copies of a partition.
    pub replicas: usize,
}

/// A topic as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    /// Which one it is.
    pub topic: Topic,
    /// Name, with the prefix.
    pub name: String,
    /// Partitions.
    pub partitions: u16,
    /// Copies.
    pub replicas: u16,
    /// Settings.
    pub config: Vec<(&'static str, String)>,
}

/// Every topic of an installation.
pub fn topic_plans(kafka: &Kafka, names: &Names) -> Vec<TopicPlan> {
    let plan = |&topic: &Topic| {
        let partitions = match topic.partitions() {
            Partitions::Configured => kafka.partitions,
            Partitions::Fixed(count) => count,
        };
        let mut config = vec![("min.insync.replicas", kafka.min_insync_replicas.to_string())];
        let fixed = Topic::ALL_HAVE.iter().chain(topic.config());
        config.extend(fixed.map(|&(key, value)| (key, value.to_owned())));
        if kafka.tiered_storage && topic == Topic::ChatEvents {
            config.push(("remote.storage.enable", "true".to_owned()));
            config.push(("local.retention.ms", kafka.local_retention_ms.to_string()));
        }
        TopicPlan { topic, name: names.topic(topic), partitions, replicas: kafka.replication_factor, config }
    };
    Topic::ALL.iter().map(plan).collect()
}

impl Admin {
    /// Connects lazily.
    pub fn new(kafka: &Kafka) -> Result<Self, AdminError> {
        let client = super::client_config(kafka)
            .create()
            .map(Arc::new)
            .map_err(|source| AdminError::Away { brokers: kafka.brokers.clone(), source })?;
        Ok(Self { client, brokers: kafka.brokers.clone() })
    }

    /// Makes the topics that aren't there; returns the names of those that it made.
    pub async fn make_topics(&self, kafka: &Kafka, names: &Names) -> Result<Vec<String>, AdminError> {
        let there = self.visible_topics().await?;
        let plans: Vec<TopicPlan> =
            topic_plans(kafka, names).into_iter().filter(|plan| !there.contains(&plan.name)).collect();
        if plans.is_empty() {
            // Not even asked for, since asking needs the right to make topics.
            return Ok(Vec::new());
        }
        let wanted: Vec<NewTopic<'_>> = plans
            .iter()
            .map(|plan| {
                let copies = TopicReplication::Fixed(i32::from(plan.replicas));
                let base = NewTopic::new(&plan.name, i32::from(plan.partitions), copies);
                plan.config.iter().fold(base, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let results = self.client.create_topics(&wanted, &options).await.map_err(|source| self.away(source))?;
        let mut made = Vec::new();
        for result in results {
            match result {
                Ok(topic) => made.push(topic),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(AdminError::Refused { topic, code }),
            }
        }
        Ok(made)
    }

    /// Names of the topics that this login may see.
    pub(super) async fn visible_topics(&self) -> Result<BTreeSet<String>, AdminError> {
        self.blocking(|client| {
            let metadata = client.fetch_metadata(None, Duration::from_secs(10))?;
            Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
        })
        .await
    }

    /// Deletes every topic of an installation; for tests.
    pub async fn delete_topics(&self, names: &Names) -> Result<(), AdminError> {
        let named: Vec<String> = Topic::ALL.iter().map(|&topic| names.topic(topic)).collect();
        let topics: Vec<&str> = named.iter().map(String::as_str).collect();
        self.client.delete_topics(&topics, &AdminOptions::new()).await.map(drop).map_err(|source| self.away(source))
    }

    /// The cluster's identity.
    pub async fn cluster_id(&self) -> Result<String, AdminError> {
        self.blocking(|client| client.fetch_cluster_id(Duration::from_secs(10)).ok_or(KafkaError::Canceled)).await
    }

    /// `cluster/topic id`: what offsets of a topic mean something for. Another one is another log, whose offsets begin
    /// anew under the same name.
    pub async fn log_id(&self, topic: &str) -> Result<String, AdminError> {
        let name = topic.to_owned();
        let found = self
            .blocking(move |client| {
                let cluster_id = client.fetch_cluster_id(Duration::from_secs(10)).ok_or(KafkaError::Canceled)?;
                let mut ids = super::topic_ids(client, &[&name]).ok_or(KafkaError::Canceled)?;
                Ok(ids.remove(&name).map(|id| format!("{cluster_id}/{id}")))
            })
            .await?;
        found.ok_or_else(|| AdminError::NoTopic { topic: topic.to_owned() })
    }

    /// What the cluster says of a topic.
    pub async fn topic_facts(&self, name: &str) -> Result<TopicFacts, AdminError> {
        let name = name.to_owned();
        let metadata = self
            .blocking(move |client| {
                let metadata = client.fetch_metadata(Some(&name), Duration::from_secs(10))?;
                Ok(metadata.topics().first().filter(|topic| topic.error().is_none()).map(|topic| TopicFacts {
                    partitions: topic.partitions().len(),
                    replicas: topic.partitions().iter().map(|part| part.replicas().len()).min().unwrap_or(0),
                }))
            })
            .await?;
        Ok(metadata.unwrap_or(TopicFacts { partitions: 0, replicas: 0 }))
    }

    /// First offset and the one after the last that a reader of committed records comes to, by partition.
    pub async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, AdminError> {
        let (partitions, name) = (self.topic_facts(topic).await?.partitions, topic.to_owned());
        if partitions == 0 {
            return Err(AdminError::NoTopic { topic: name });
        }
        self.blocking(move |client| {
            let ends = |partition| client.fetch_watermarks(&name, partition, Duration::from_secs(10));
            (0..partitions as i32).map(|partition| Ok((partition, ends(partition)?))).collect()
        })
        .await
    }

    /// A topic's settings by name; none if they may not be read.
    pub async fn topic_config(&self, topic: &str) -> Result<BTreeMap<String, String>, AdminError> {
        let resource = ResourceSpecifier::Topic(topic);
        let configs = self.client.describe_configs([&resource], &AdminOptions::new()).await;
        let configs = configs.map_err(|source| self.away(source))?;
        let entries = configs.into_iter().filter_map(Result::ok).flat_map(|config: ConfigResource| config.entries);
        Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// Client calls that block go to a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&rdkafka::client::Client<DefaultClientContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || call(client.inner()))
            .await
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|source| self.away(source))
    }

    pub(super) fn away(&self, source: KafkaError) -> AdminError {
        AdminError::Away { brokers: self.brokers.clone(), source }
    }
}
