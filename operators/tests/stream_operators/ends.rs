//! A reader of one partition that can't ask where it is just when the client tells it of an end.

use faults::Proxy;
use rdkafka::ClientConfig;
use runtime::config::Kafka;
use runtime::kafka::partition::{self, PartitionReader, Span};
use schemas::topics::Topic;

use crate::support::with_stack;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The last offset of a transaction is a marker, which no reader sees: the end has to be asked for.
async fn write_transaction(client: ClientConfig, topic: String, id: String) {
    let writing = move || {
        let producer: BaseProducer = client.clone().set("transactional.id", id).create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        for number in 0..6 {
            let value = format!("record {number}");
            producer
                .send(BaseRecord::<str, str>::to(&topic).partition(0).payload(&value))
                .map_err(|(error, _)| error)?;
        }
        producer.commit_transaction(PATIENCE)
    };
    let written = tokio::task::spawn_blocking(writing).await.expect("no panic");
    written.expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_could_not_be_asked_for_is_asked_for_again() {
    with_stack(|stack| async move {
        let (topic, id) = (stack.names.topic(Topic::ChatEvents), stack.names.transactional_id("ends"));
        write_transaction(runtime::kafka::client_config(&stack.config.kafka), topic.clone(), id).await;
        let (_, end) = partition::ends(&stack.config.kafka, &topic).await.expect("ends")[&0];
        let proxy = Proxy::before_kafka(&stack.config.kafka.brokers).await.expect("a proxy");
        let through = Kafka { brokers: proxy.address().to_string(), ..stack.config.kafka.clone() };
        let span = Span { topic: topic.clone(), partition: 0, from: 0, until: Some(end), chunk_records: 1 };
        let client = runtime::kafka::client_config(&through);
        let mut reader = PartitionReader::start(client, "ends", span).expect("a reader");
        let first = reader.next().await.expect("read").expect("a chunk");
        assert!(!first.is_end && first.records.len() == 1);
        // The rest waits in the client, the word of the end behind it, for somebody to take the chunks.
        stack.read(Topic::ChatEvents).await;
        proxy.refuse();
        let mut records = 1;
        while records < 6 {
            records += reader.next().await.expect("read").expect("a chunk").records.len();
        }
        // Whoever asks now gets no answer, and whoever asked a moment ago has got none by then.
        partition::ends(&through, &topic).await.expect_err("Kafka is away");
        proxy.heal();
        let last = tokio::time::timeout(PATIENCE * 3, reader.next()).await.expect("the end is found");
        assert!(last.expect("read").is_some_and(|chunk| chunk.is_end && chunk.records.is_empty()));
    })
    .await;
}
