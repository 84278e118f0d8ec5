//! Who leads which partition, who coordinates the transactions, and the connections to them.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use runtime::config::Kafka;
use uuid::Uuid;

use super::broker::Broker;
use super::error::ProduceError;
use super::is_moving;
use super::security::Security;

/// Versions that say all that is needed, by topics' names.
const METADATA: i16 = 12;
const FIND_COORDINATOR: i16 = 3;
/// The coordinator of transactions, among coordinators.
const TRANSACTION: i8 = 1;

/// A broker's number in its cluster.
pub(super) type NodeId = i32;

/// What is known of the cluster.
pub(super) struct Cluster {
    security: Security,
    topics: Vec<String>,
    addresses: HashMap<NodeId, (String, u16)>,
    connections: HashMap<NodeId, Broker>,
    coordinator: NodeId,
    /// By topic in the order asked for.
    found: Vec<Found>,
}

/// A topic as the cluster has it.
struct Found {
    id: Uuid,
    /// The leader of each partition.
    leaders: Vec<NodeId>,
}

impl Cluster {
    /// Asks the brokers of the settings in turn until one knows everything; blocks.
    pub(super) fn find(kafka: &Kafka, topics: &[String], transactional_id: &str) -> Result<Self, ProduceError> {
        let security = Security::of(kafka)?;
        let mut last = ProduceError::Settings("kafka.brokers names no broker: host:port, several with commas".into());
        for place in kafka.brokers.split(',').map(str::trim).filter(|place| !place.is_empty()) {
            let Some((host, Ok(port))) = place.rsplit_once(':').map(|(host, port)| (host, port.parse())) else {
                last = ProduceError::Settings(format!("kafka.brokers: `{place}` isn't host:port"));
                continue;
            };
            let broker = match Broker::connect(host.trim_matches(['[', ']']), port, &security) {
                Ok(broker) => broker,
                Err(error) => {
                    // That there is no coordinator for the moment is worth more than that a broker is away.
                    last = if is_moving(&last) { last } else { error };
                    continue;
                }
            };
            match Self::ask(broker, security.clone(), topics, transactional_id) {
                Err(error) if error.is_transient() => last = error,
                // One that says no speaks for the cluster.
                outcome => return outcome,
            }
        }
        Err(last)
    }

    fn ask(
        mut first: Broker,
        security: Security,
        topics: &[String],
        transactional_id: &str,
    ) -> Result<Self, ProduceError> {
        let (coordinator, host, port) = find_coordinator(&mut first, transactional_id)?;
        let mut cluster = Self {
            security,
            topics: topics.to_owned(),
            addresses: HashMap::from([(coordinator, (host, port))]),
            connections: HashMap::new(),
            coordinator,
            found: Vec::new(),
        };
        cluster.learn_from(&mut first)?;
        Ok(cluster)
    }

    /// Asks who leads now. Only while no answer is awaited.
    pub(super) fn learn(&mut self) -> Result<(), ProduceError> {
        let mut broker = match self.connections.remove(&self.coordinator) {
            Some(broker) => broker,
            None => self.connect(self.coordinator)?,
        };
        let outcome = self.learn_from(&mut broker);
        self.connections.insert(self.coordinator, broker);
        outcome
    }

    fn learn_from(&mut self, broker: &mut Broker) -> Result<(), ProduceError> {
        let metadata = describe(broker, &self.topics)?;
        let found = leaders(broker, &self.topics, &metadata)?;
        for (name, (before, now)) in self.topics.iter().zip(self.found.iter().zip(&found)) {
            if before.id != now.id {
                return Err(ProduceError::Changed(format!("topic {name} was made anew")));
            }
            if before.leaders.len() != now.leaders.len() {
                let (before, now) = (before.leaders.len(), now.leaders.len());
                return Err(ProduceError::Changed(format!("topic {name} has {now} partitions instead of {before}")));
            }
        }
        self.found = found;
        let address = |host: &StrBytes, port: i32| (host.to_string(), u16::try_from(port).unwrap_or(0));
        let known = metadata.brokers.iter();
        self.addresses.extend(known.map(|broker| (broker.node_id.0, address(&broker.host, broker.port))));
        Ok(())
    }

    /// Number of partitions of a topic.
    pub(super) fn partitions(&self, topic: usize) -> i32 {
        self.found[topic].leaders.len() as i32
    }

    /// Who leads a partition.
    pub(super) fn leader(&self, topic: usize, partition: i32) -> NodeId {
        self.found[topic].leaders.get(partition as usize).copied().unwrap_or(self.coordinator)
    }

    /// The connection to the coordinator of the transactions.
    pub(super) fn coordinator(&mut self) -> Result<&mut Broker, ProduceError> {
        self.broker(self.coordinator)
    }

    /// The connection to a broker; made when it is first needed.
    pub(super) fn broker(&mut self, node: NodeId) -> Result<&mut Broker, ProduceError> {
        if !self.connections.contains_key(&node) {
            let connected = self.connect(node)?;
            self.connections.insert(node, connected);
        }
        self.connections.get_mut(&node).ok_or_else(|| unknown(node))
    }

    fn connect(&self, node: NodeId) -> Result<Broker, ProduceError> {
        let (host, port) = self.addresses.get(&node).ok_or_else(|| unknown(node))?;
        Broker::connect(host, *port, &self.security)
    }

    /// Closes connections that brokers may have closed, or will soon. Only while no answer is awaited.
    pub(super) fn close_stale(&mut self) {
        self.connections.retain(|_, broker| !broker.is_stale());
    }
}

fn unknown(node: NodeId) -> ProduceError {
    ProduceError::Changed(format!("the cluster names broker {node} and doesn't say where it is"))
}

fn describe(broker: &mut Broker, topics: &[String]) -> Result<MetadataResponse, ProduceError> {
    let mut request = MetadataRequest::default();
    let named = |topic: &String| {
        let mut named = MetadataRequestTopic::default();
        named.name = Some(TopicName(StrBytes::from_string(topic.clone())));
        named
    };
    request.topics = Some(topics.iter().map(named).collect());
    request.allow_auto_topic_creation = false;
    broker.call(&request, METADATA)
}

fn leaders(broker: &Broker, topics: &[String], metadata: &MetadataResponse) -> Result<Vec<Found>, ProduceError> {
    let of_topic = |topic: &String| {
        let found = metadata.topics.iter().find(|found| found.name.as_ref().is_some_and(|name| name.as_str() == topic));
        let found = found.ok_or_else(|| ProduceError::NoTopic(format!("topic {topic}")))?;
        match ResponseError::try_from_code(found.error_code) {
            None => {}
            Some(ResponseError::UnknownTopicOrPartition) => {
                return Err(ProduceError::NoTopic(format!("topic {topic}")));
            }
            Some(source) => return Err(broker.refused(format!("Metadata of {topic}"), source)),
        }
        let mut leaders = vec![-1; found.partitions.len()];
        for partition in &found.partitions {
            let what = || format!("Metadata of partition {} of {topic}", partition.partition_index);
            if let Some(source) = ResponseError::try_from_code(partition.error_code)
                && partition.leader_id.0 < 0
            {
                return Err(broker.refused(what(), source));
            }
            let leader = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index));
            *leader.ok_or_else(|| broker.strange(what()))? = partition.leader_id.0;
        }
        Ok(Found { id: found.topic_id, leaders })
    };
    topics.iter().map(of_topic).collect()
}

fn find_coordinator(broker: &mut Broker, transactional_id: &str) -> Result<(NodeId, String, u16), ProduceError> {
    let mut request = FindCoordinatorRequest::default();
    request.key = StrBytes::from_string(transactional_id.to_owned());
    request.key_type = TRANSACTION;
    let answer = broker.call(&request, FIND_COORDINATOR)?;
    match ResponseError::try_from_code(answer.error_code) {
        None => Ok((answer.node_id.0, answer.host.to_string(), u16::try_from(answer.port).unwrap_or(0))),
        Some(source) => Err(broker.refused("FindCoordinator", source)),
    }
}
