// KafkaJS behind the JSON lines of process_test.go: node client.js BROKER
'use strict'

const { Kafka, logLevel, Partitioners, CompressionTypes, CompressionCodecs } = require('kafkajs')
const lz4 = require('lz4js')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
})

const kafka = new Kafka({ clientId: 'conformance', brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } })
const admin = kafka.admin()
const members = []
let groups = 0

const decode = text => (text === null || text === undefined ? null : Buffer.from(text, 'base64'))
const encode = bytes => (bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString('base64'))

function toRecord(partition, message) {
  const record = { partition, offset: Number(message.offset), timestamp: Number(message.timestamp), key: encode(message.key), value: encode(message.value), encoding: 'base64' }
  const headers = []
  for (const [key, value] of Object.entries(message.headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) headers.push({ key, value: encode(one) })
  }
  if (headers.length > 0) record.headers = headers
  return record
}

async function produce({ topic, how, records }) {
  const byHand = () => ({ message }) => message.partition
  const producer = kafka.producer({
    createPartitioner: how.ByKey ? Partitioners.DefaultPartitioner : byHand,
    idempotent: how.Idempotent,
    ...(how.Idempotent ? { maxInFlightRequests: 1 } : {}),
  })
  await producer.connect()
  const messages = records.map(r => {
    const headers = {}
    for (const h of r.headers || []) {
      headers[h.key] = h.key in headers ? [].concat(headers[h.key], decode(h.value)) : decode(h.value)
    }
    const message = { key: decode(r.key), value: decode(r.value), timestamp: String(r.timestamp), headers }
    return how.ByKey ? message : { ...message, partition: r.partition }
  })
  try {
    const told = await producer.send({
      topic, messages, acks: { all: -1, 1: 1, 0: 0 }[how.Acks],
      compression: { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4 }[how.Codec],
    })
    // It tells the base offset of each partition; the records of a partition follow each other.
    const next = new Map((told || []).map(t => [t.partition, Number(t.baseOffset)]))
    return records.map(r => {
      if (how.ByKey || !next.has(r.partition)) return { ...r }
      const offset = next.get(r.partition)
      next.set(r.partition, offset + 1)
      return { ...r, offset }
    })
  } finally {
    await producer.disconnect()
  }
}

async function open(groupId, topic, take) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 8000, rebalanceTimeout: 8000, heartbeatInterval: 300, maxWaitTimeInMs: 500, retry: { initialRetryTime: 100 } })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => take(toRecord(partition, message)) })
  return consumer
}

// read reads n records: a reader is a group of its own here.
async function read(topic, n, from) {
  const records = []
  let finish
  const finished = new Promise(resolve => { finish = resolve })
  const consumer = await open(`conformance-kafkajs-${process.pid}-${groups++}`, topic, record => {
    const start = from[record.partition]
    if (from.length === 0 || (start !== undefined && record.offset >= start)) records.push(record)
    if (records.length >= n) finish()
  })
  from.forEach((offset, partition) => consumer.seek({ topic, partition, offset: String(offset) }))
  await finished
  await consumer.disconnect()
  return records
}

const calls = {
  createTopic: async ({ topic, partitions }) => {
    if (!(await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1 }], waitForLeaders: false }))) throw new Error('the topic exists')
  },
  deleteTopic: async ({ topic }) => { await admin.deleteTopics({ topics: [topic] }) },
  produce: async call => ({ records: await produce(call) }),
  consume: async ({ topic, n }) => ({ records: await read(topic, n, []) }),
  seek: async ({ topic, partition, ms }) => {
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, ms)
    const from = []
    from[partition] = Number(found.find(f => f.partition === partition).offset)
    return { records: (await read(topic, 1, from)).slice(0, 1) }
  },
  join: async ({ group, topic }) => {
    const member = { topic, queue: [], next: new Map() }
    member.consumer = await open(group, topic, record => member.queue.push(record))
    return { member: members.push(member) - 1 }
  },
  poll: async ({ member, ms }) => {
    const m = members[member]
    const until = Date.now() + ms
    while (m.queue.length === 0 && Date.now() < until) await new Promise(resolve => setTimeout(resolve, 10))
    const records = m.queue.splice(0)
    for (const r of records) m.next.set(r.partition, r.offset + 1)
    return { records }
  },
  commit: async ({ member }) => {
    const m = members[member]
    await m.consumer.commitOffsets([...m.next].map(([partition, offset]) => ({ topic: m.topic, partition, offset: String(offset) })))
    m.next.clear()
  },
  leave: async ({ member }) => { await members[member].consumer.disconnect() },
}

const lines = require('readline').createInterface({ input: process.stdin })
const ready = admin.connect()
lines.on('line', async line => {
  const call = JSON.parse(line)
  let answer
  try {
    await ready
    answer = (await calls[call.do](call)) || {}
  } catch (error) {
    answer = { error: String(error) }
  }
  process.stdout.write(JSON.stringify({ id: call.id, ...answer }) + '\n')
})
lines.on('close', async () => {
  await admin.disconnect()
  process.exit(0)
})
