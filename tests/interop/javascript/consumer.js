// Prints each event of chat.events up to its present end, then messages per chat and minute, as JSON lines.

import { SchemaRegistry } from '@kafkajs/confluent-schema-registry'
import { decompress as unzstd } from 'fzstd'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'
import lz4 from 'lz4js'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs

const {
  BOOTSTRAP_SERVERS = 'localhost:9092',
  SCHEMA_REGISTRY_URL = 'http://localhost:8081',
  EVENTS_TOPIC = 'chat.events',
  GROUP = 'kafkajs',
} = process.env

// KafkaJS brings gzip only. The history is compressed with zstd, unless it is configured otherwise.
const readOnly = (decompress) => () => ({
  compress: async () => { throw new Error('this codec only reads') },
  decompress: async (buffer) => Buffer.from(decompress(buffer)),
})
CompressionCodecs[CompressionTypes.ZSTD] = readOnly(unzstd)
CompressionCodecs[CompressionTypes.LZ4] = readOnly(lz4.decompress)
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec

const KNOWN = new Set([
  'message.persisted', 'message.edited', 'message.deleted', 'chat.created', 'chat.updated',
  'member.joined', 'member.left', 'member.updated', 'withheld',
])

const kafka = new Kafka({ clientId: GROUP, brokers: BOOTSTRAP_SERVERS.split(','), logLevel: logLevel.WARN })
const registry = new SchemaRegistry({ host: SCHEMA_REGISTRY_URL })
// It reads committed records only unless told otherwise, which is said here all the same: the log holds aborted ones.
const consumer = kafka.consumer({ groupId: GROUP, readUncommitted: false })

const print = (line) => console.log(JSON.stringify(line))
const messages = new Map()
let events = 0
let skipped = 0

const take = (event) => {
  if (!KNOWN.has(event.event_type)) {
    skipped += 1 // A later version's: the rest of the history is as readable as before.
    return
  }
  events += 1
  const { event_id, event_type, chat_id, seq, actor_id, occurred_at, message } = event
  print({ event_id, event_type, chat_id, seq, actor_id, occurred_at, content: message?.content ?? null })
  if (event_type === 'message.persisted') {
    const minute = JSON.stringify({ chat_id, minute: `${new Date(occurred_at).toISOString().slice(0, 16)}:00Z` })
    messages.set(minute, (messages.get(minute) ?? 0) + 1)
  }
}

const admin = kafka.admin()
await admin.connect()
const [group] = await admin.fetchOffsets({ groupId: GROUP, topics: [EVENTS_TOPIC] })
const read = new Map(group.partitions.map(({ partition, offset }) => [partition, BigInt(offset)]))
// Partitions that the group hasn't read to their end yet, and where that is.
const ends = new Map()
for (const { partition, low, high } of await admin.fetchTopicOffsets(EVENTS_TOPIC)) {
  if (low !== high && (read.get(partition) ?? -1n) < BigInt(high)) ends.set(partition, BigInt(high))
}
await admin.disconnect()

await consumer.connect()
await consumer.subscribe({ topics: [EVENTS_TOPIC], fromBeginning: true })
const atEnd = new Promise((resolve, reject) => {
  // By batches, not by messages: markers of transactions take offsets too, and no handler gets them.
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
    if (ends.has(partition) && BigInt(lastOffset) + 1n >= ends.get(partition)) ends.delete(partition)
    if (ends.size === 0) resolve()
  })
  consumer.on(consumer.events.CRASH, ({ payload: { error } }) => reject(error))
  if (ends.size === 0) resolve()
})
await consumer.run({ eachMessage: async ({ message }) => take(await registry.decode(message.value)) })
await atEnd
await consumer.disconnect()

for (const minute of [...messages.keys()].sort()) print({ ...JSON.parse(minute), messages: messages.get(minute) })
print({ events, skipped })
