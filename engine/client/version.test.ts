/**
 * A rolling upgrade has peers of two versions on one link: what a version 1 peer sent, recorded, is understood, and what a
 * later one may add is passed over. The recording is never made anew: later code has to read these very bytes.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js'
import type { Delivery } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createRelay } from '#engine/server/relay.ts'
import { type Label, type Letter, letterKinds, readBatch } from '#protos/letter.ts'
import { shardCount } from '#protos/limits.ts'
import { linkService } from '#protos/link.ts'
import { shardOf } from '#protos/shard.ts'
import { createEngineClient } from './engine.ts'
import { deafSink } from './fixtures/deaf-sink.ts'

const recorded = JSON.parse(
  readFileSync(new URL('../../protos/fixtures/link-v1.json', import.meta.url), 'utf8'),
) as Record<'up' | 'down', string[]>
const conversation = '0190a5a0-0000-7000-8000-000000000001'
const user = '0190a5a0-0000-7000-8000-0000000000aa'
const attempt = '0190a5a0-0000-7000-8000-0000000000bb'
const decode = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>

/** The bytes of a batch as a later version might write them: longer labels, one letter of a kind to come. */
function asLater(bytes: Buffer): Buffer {
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const bodyBytes = bytes.readUInt32LE(at)
    const labelBytes = bytes.readUInt16LE(at + 4)
    const head = Buffer.from(bytes.subarray(at, at + 6))
    head.writeUInt16LE(labelBytes + 9, 4)
    const labelPart = Buffer.from(bytes.subarray(at + 6, at + 6 + labelBytes))
    labelPart[1] = labelPart[1]! | 0x80
    const body = bytes.subarray(at + 6 + labelBytes, at + 6 + labelBytes + bodyBytes)
    const unknownKind = Buffer.concat([head, labelPart, Buffer.alloc(9, 0xee), body])
    unknownKind[6] = 250
    out.push(unknownKind, head, labelPart, Buffer.alloc(9, 0xff), body)
    at += 6 + labelBytes + bodyBytes
  }
  return Buffer.concat(out)
}

/** Hello of a version to come, with fields of its own; the rest with longer labels. */
function later(batches: readonly string[]): Buffer[] {
  return batches.map((hex, i) => {
    const bytes = Buffer.from(hex, 'hex')
    if (i > 0) return asLater(bytes)
    const [hello] = readBatch(bytes) as [Letter]
    const body = Buffer.from(JSON.stringify({ ...decode(hello.body), version: 99, zone: 'b', since: { a: 1 } }))
    const head = Buffer.from(bytes.subarray(0, bytes.length - hello.body.length))
    head.writeUInt32LE(body.length, 0)
    return Buffer.concat([head, body])
  })
}

const peers: [string, (batches: readonly string[]) => Buffer[]][] = [
  ['a recorded version 1', batches => batches.map(hex => Buffer.from(hex, 'hex'))],
  ['a later version, with fields, flags and kinds to come,', later],
]

for (const [name, bytesOf] of peers) {
  test(`[VER1] the letters of ${name} gateway are understood by a worker`, async () => {
    const delivered: Delivery[] = []
    const relay = createRelay({
      clock: systemClock,
      log: silentLog,
      metrics: openMetrics(),
      directory: {
        async heads(ids) {
          return new Map(ids.map(id => [id, { head: 4, firstSeq: 1, epoch: 5 }]))
        },
      },
      epochOf: () => 5,
      nodeId: 'engine',
      incarnation: attempt,
      worker: 0,
    })
    relay.serve({ deliver: d => delivered.push(d) > 0 })
    const out: Letter[] = []
    const link = relay.open({ write: bytes => out.push(...readBatch(bytes)) > 0, once() {} })!
    for (const bytes of bytesOf(recorded.up)) relay.receive(link, bytes)
    await new Promise(resolve => setTimeout(resolve, 20))
    assert.equal(link.nodeId, 'gateway-1')
    assert.equal(delivered.length, 1)
    const [{ label: l, body }] = delivered as [Delivery]
    assert.deepEqual([l.shard, l.socket, l.age, l.epoch], [shardOf(conversation), 7, 12, 5])
    assert.deepEqual([l.conversation, l.principal, l.attempt, l.trace], [conversation, user, attempt, 'trace-1'])
    assert.equal(decode(body)['content'], 'héllo')
    const attached = out.find(letter => letter.label.kind === letterKinds.attached)!
    assert.deepEqual(decode(attached.body), { heads: [[conversation, 4]], refused: [] })
  })

  test(`[VER2] the letters of ${name} worker are understood by a gateway`, async t => {
    const batches = bytesOf(recorded.down)
    const addr = await serve(t, stream => {
      for (const bytes of batches) stream.write(bytes)
    })
    const seen: [string, Label][] = []
    const hear = (kind: string) => (label: Label) => void seen.push([kind, label])
    const client = createEngineClient({
      clock: systemClock,
      log: silentLog,
      metrics: openMetrics(),
      nodeId: 'gateway',
      readRoutes: async () => Array.from({ length: shardCount }, (_, shard) => ({ shard, epoch: 5, addr })),
    })
    t.after(() => client.close())
    await client.start({
      ...deafSink,
      answer: hear('answer'),
      replay: hear('replay'),
      fact: hear('fact'),
      delta: hear('delta'),
      done: hear('done'),
      typing: hear('typing'),
      receipt: hear('receipt'),
      user: hear('user'),
    })
    for (let i = 0; i < 200 && seen.length < 6; i++) await new Promise(resolve => setTimeout(resolve, 10))
    assert.deepEqual(
      seen.map(([kind]) => kind),
      ['fact', 'user', 'typing', 'receipt', 'delta', 'done'],
    )
    const fact = seen[0]![1]
    assert.deepEqual([fact.conversation, fact.principal, fact.seq, fact.trace], [conversation, user, 4, 'trace-1'])
    assert.deepEqual([seen[4]![1].seq, seen[4]![1].age], [0, 2])
  })
}

/** A worker that only says what it is told to. */
async function serve(t: TestContext, onLink: (stream: ServerDuplexStream<Buffer, Buffer>) => void): Promise<string> {
  const server = new Server()
  server.addService(linkService, { link: onLink })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    )
  })
  t.after(() => server.forceShutdown())
  return `127.0.0.1:${port}`
}
