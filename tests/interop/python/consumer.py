"""Reads chat.events as any Confluent client does: confluent-kafka's own AvroDeserializer example, with the schema from
the registry, `isolation.level=read_committed`, and one JSON line an event instead of a sentence.

Needs `pip install 'confluent-kafka[avro]'`.
"""

import argparse
import json

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(args):
    topic = args.topic

    sr_conf = {'url': args.schema_registry}
    schema_registry_client = SchemaRegistryClient(sr_conf)

    avro_deserializer = AvroDeserializer(schema_registry_client)

    consumer_conf = {'bootstrap.servers': args.bootstrap_servers,
                     'group.id': args.group,
                     'auto.offset.reset': 'earliest',
                     # The log holds aborted transactions: without this line they would be read too.
                     'isolation.level': 'read_committed'}

    consumer = Consumer(consumer_conf)
    consumer.subscribe([topic])

    while True:
        try:
            # SIGINT can't be handled when polling, limit timeout to 1 second.
            msg = consumer.poll(1.0)
            if msg is None:
                continue
            if msg.error():
                raise SystemExit(f'{topic}: {msg.error()}')

            event = avro_deserializer(msg.value(), SerializationContext(msg.topic(), MessageField.VALUE))
            if event is not None:
                print(json.dumps({'key': msg.key().decode(), 'event': event}, default=str), flush=True)
        except KeyboardInterrupt:
            break

    consumer.close()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='AvroDeserializer example')
    parser.add_argument('-b', dest='bootstrap_servers', required=True, help='Bootstrap broker(s) (host[:port])')
    parser.add_argument('-s', dest='schema_registry', required=True, help='Schema Registry (http(s)://host[:port]')
    parser.add_argument('-t', dest='topic', default='chat.events', help='Topic name')
    parser.add_argument('-g', dest='group', default='example_serde_avro', help='Consumer group')

    main(parser.parse_args())
