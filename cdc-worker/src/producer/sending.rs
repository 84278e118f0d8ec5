//! Requests under way: batches out, their answers in, and what Kafka asks to be sent again.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ProduceRequest, ProducerId, TopicName};

use super::batch::Stamp;
use super::broker::Awaited;
use super::cluster::NodeId;
use super::error::ProduceError;
use super::{ASK_EVERY, ASK_PATIENTLY_EVERY, BUSY, Producer, is_busy, pause};

/// With and without transactions of version 2.
const PRODUCE: [i16; 2] = [11, 12];
/// The last one for clients; later ones are for brokers.
const ADD_PARTITIONS: i16 = 3;
/// How long a leader waits for its replicas: less than we wait for its answer.
const WAIT_FOR_REPLICAS_MS: i32 = 4_000;
/// Most requests that wait for an answer: as many as brokers remember for each partition.
const MOST_UNANSWERED: usize = 5;

/// A batch that was sent.
struct Sent {
    topic: usize,
    partition: i32,
    count: i32,
    batch: Bytes,
}

/// A request that was sent.
struct Pending {
    node: NodeId,
    awaited: Awaited,
    batches: Vec<Sent>,
}

/// Requests without an answer yet, the oldest first, and batches that Kafka wants again.
#[derive(Default)]
pub(super) struct Unanswered {
    requests: VecDeque<Pending>,
    again: VecDeque<Sent>,
    /// Why it wants the last of them again.
    refusal: Option<ProduceError>,
    /// A leader may have moved.
    is_astray: bool,
}

impl Producer {
    /// Sends what was gathered, without waiting for the answers.
    pub(super) fn send_gathered(&mut self) -> Result<(), ProduceError> {
        if self.gathered_bytes == 0 {
            return Ok(());
        }
        self.gathered_bytes = 0;
        if self.unanswered.requests.is_empty() {
            self.cluster.close_stale();
        }
        if !self.is_implicit {
            self.join_partitions()?;
        }
        let mut by_leader: HashMap<NodeId, Vec<Sent>> = HashMap::new();
        for (topic, of_topic) in self.topics.iter_mut().enumerate() {
            for (number, partition) in of_topic.partitions.iter_mut().enumerate() {
                let (number, count) = (number as i32, partition.gathered.count());
                if count == 0 {
                    continue;
                }
                let stamp = Stamp {
                    producer_id: self.identity.id,
                    producer_epoch: self.identity.epoch,
                    base_sequence: partition.next_sequence,
                };
                let batch = partition.gathered.finish(stamp, &mut self.compressor)?.into();
                partition.next_sequence = after(partition.next_sequence, count);
                partition.is_joined = true;
                let leader = self.cluster.leader(topic, number);
                by_leader.entry(leader).or_default().push(Sent { topic, partition: number, count, batch });
            }
        }
        for (node, batches) in by_leader {
            while self.unanswered.requests.len() >= MOST_UNANSWERED {
                self.await_oldest()?;
            }
            // A batch that follows one that Kafka wants again would be out of order; so are those between, as their answers
            // will say.
            if self.unanswered.again.is_empty() {
                self.produce(node, batches)?;
            } else {
                while !self.unanswered.requests.is_empty() {
                    self.await_oldest()?;
                }
                self.unanswered.again.extend(batches);
            }
        }
        Ok(())
    }

    /// Waits for all answers.
    pub(super) fn await_all(&mut self) -> Result<(), ProduceError> {
        let deadline = Instant::now() + BUSY;
        let mut patience = ASK_EVERY;
        loop {
            while !self.unanswered.requests.is_empty() {
                self.await_oldest()?;
            }
            if self.unanswered.again.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline
                && let Some(refusal) = self.unanswered.refusal.take()
            {
                return Err(refusal);
            }
            if std::mem::take(&mut self.unanswered.is_astray) {
                // Such a cluster has enough to do without being sent the same again and again.
                pause(patience);
                patience = (patience * 2).min(ASK_PATIENTLY_EVERY);
                match self.cluster.learn() {
                    // There is no leader for the moment, or no broker that knows of one.
                    Err(error) if error.refusal().is_some_and(is_passing) => {
                        self.unanswered.is_astray = true;
                        self.unanswered.refusal = Some(error);
                        continue;
                    }
                    outcome => outcome?,
                }
            } else {
                pause(ASK_EVERY);
            }
            self.send_again()?;
        }
    }

    /// Waits until no answer is under way, whatever they say; nothing is sent again.
    pub(super) fn discard_answers(&mut self) -> Result<(), ProduceError> {
        self.unanswered.again.clear();
        while let Some(Pending { node, awaited, .. }) = self.unanswered.requests.pop_front() {
            self.cluster.broker(node)?.receive::<ProduceRequest>(awaited)?;
        }
        Ok(())
    }

    /// Sends the first batch of each partition that Kafka wants again.
    fn send_again(&mut self) -> Result<(), ProduceError> {
        let mut by_leader: HashMap<NodeId, Vec<Sent>> = HashMap::new();
        let mut rest = VecDeque::new();
        for sent in std::mem::take(&mut self.unanswered.again) {
            let first = by_leader.entry(self.cluster.leader(sent.topic, sent.partition)).or_default();
            if first.iter().any(|earlier| (earlier.topic, earlier.partition) == (sent.topic, sent.partition)) {
                rest.push_back(sent);
            } else {
                first.push(sent);
            }
        }
        for (node, batches) in by_leader {
            self.produce(node, batches)?;
        }
        while !self.unanswered.requests.is_empty() {
            self.await_oldest()?;
        }
        // What is refused once more stands before what followed it.
        self.unanswered.again.extend(rest);
        Ok(())
    }

    fn produce(&mut self, node: NodeId, batches: Vec<Sent>) -> Result<(), ProduceError> {
        let mut request = ProduceRequest::default();
        request.transactional_id = Some(self.transactional_id.clone());
        request.acks = -1;
        request.timeout_ms = WAIT_FOR_REPLICAS_MS;
        for sent in &batches {
            let name = &self.topics[sent.topic].name;
            let mut data = PartitionProduceData::default();
            data.index = sent.partition;
            data.records = Some(sent.batch.clone());
            match request.topic_data.last_mut() {
                Some(last) if last.name.as_str() == name.as_str() => last.partition_data.push(data),
                _ => {
                    let mut of_topic = TopicProduceData::default();
                    of_topic.name = TopicName(name.clone());
                    of_topic.partition_data.push(data);
                    request.topic_data.push(of_topic);
                }
            }
        }
        let awaited = self.cluster.broker(node)?.send(&request, PRODUCE[usize::from(self.is_implicit)])?;
        self.unanswered.requests.push_back(Pending { node, awaited, batches });
        Ok(())
    }

    fn await_oldest(&mut self) -> Result<(), ProduceError> {
        let Some(Pending { node, awaited, batches }) = self.unanswered.requests.pop_front() else { return Ok(()) };
        let broker = self.cluster.broker(node)?;
        let answer = broker.receive::<ProduceRequest>(awaited)?;
        let answered = answer.responses.iter().flat_map(|topic| {
            topic.partition_responses.iter().map(move |partition| (topic.name.as_str(), partition.index, partition))
        });
        let answered: HashMap<_, _> = answered.map(|(topic, index, answer)| ((topic, index), answer)).collect();
        for sent in batches {
            let topic = &mut self.topics[sent.topic];
            let Some(answer) = answered.get(&(topic.name.as_str(), sent.partition)) else {
                return Err(broker.strange(format!("Produce has no answer for partition {}", sent.partition)));
            };
            match ResponseError::try_from_code(answer.error_code) {
                None => {
                    let end = Some(answer.base_offset + i64::from(sent.count) - 1);
                    let partition = &mut topic.partitions[sent.partition as usize];
                    // The answer to what was sent again may come after that to what followed it.
                    partition.last_offset = partition.last_offset.max(end);
                }
                Some(source) => {
                    let what = format!("Produce to partition {} of {}", sent.partition, topic.name.as_str());
                    let refusal = broker.refused(what, source);
                    let follows_one = self.unanswered.follows_one(&sent, source);
                    if !is_busy(source) && !is_passing(source) && !follows_one {
                        return Err(refusal);
                    }
                    self.unanswered.is_astray |= is_passing(source);
                    if !follows_one {
                        self.unanswered.refusal = Some(refusal);
                    }
                    self.unanswered.again.push_back(sent);
                }
            }
        }
        Ok(())
    }

    /// Transactions of version 1: partitions are told to the coordinator before anything is written to them.
    fn join_partitions(&mut self) -> Result<(), ProduceError> {
        let mut request = AddPartitionsToTxnRequest::default();
        request.v3_and_below_transactional_id = self.transactional_id.clone();
        request.v3_and_below_producer_id = ProducerId(self.identity.id);
        request.v3_and_below_producer_epoch = self.identity.epoch;
        for topic in &self.topics {
            let new = topic.partitions.iter().enumerate().filter(|(_, new)| !new.is_joined && new.gathered.count() > 0);
            let mut of_topic = AddPartitionsToTxnTopic::default();
            of_topic.name = TopicName(topic.name.clone());
            of_topic.partitions = new.map(|(number, _)| number as i32).collect();
            if !of_topic.partitions.is_empty() {
                request.v3_and_below_topics.push(of_topic);
            }
        }
        if request.v3_and_below_topics.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + BUSY;
        // The coordinator may be a leader too, whose answers come in the order of the requests.
        self.await_all()?;
        let coordinator = self.cluster.coordinator()?;
        loop {
            let answer = coordinator.call(&request, ADD_PARTITIONS)?;
            let results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
            let mut refusals = results.filter_map(|result| ResponseError::try_from_code(result.partition_error_code));
            // What is about the transaction stands beside "not attempted" of the other partitions.
            let refusal = refusals.find(|refusal| *refusal != ResponseError::OperationNotAttempted);
            match refusal {
                None => return Ok(()),
                Some(source) if is_busy(source) && Instant::now() < deadline => pause(ASK_EVERY),
                Some(source) => return Err(coordinator.refused("AddPartitionsToTxn", source)),
            }
        }
    }
}

impl Unanswered {
    /// Whether a batch was refused only because one before it was.
    fn follows_one(&self, sent: &Sent, refusal: ResponseError) -> bool {
        refusal == ResponseError::OutOfOrderSequenceNumber
            && self.again.iter().any(|first| (first.topic, first.partition) == (sent.topic, sent.partition))
    }
}

/// Whether a leader didn't take a batch for the cluster's sake: leaders move, a topic that was just made isn't everywhere yet,
/// replicas are missing. A batch that was taken after all is known by its sequence numbers.
const fn is_passing(refusal: ResponseError) -> bool {
    matches!(
        refusal,
        ResponseError::NotLeaderOrFollower
            | ResponseError::LeaderNotAvailable
            | ResponseError::UnknownTopicOrPartition
            | ResponseError::NotEnoughReplicas
            | ResponseError::NotEnoughReplicasAfterAppend
            | ResponseError::RequestTimedOut
    )
}

/// Sequence numbers go round.
const fn after(sequence: i32, count: i32) -> i32 {
    (sequence as i64 + count as i64).rem_euclid(1 << 31) as i32
}
