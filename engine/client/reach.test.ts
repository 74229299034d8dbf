/** Grey failure: a worker that others reach is served over one of them, suspected in time, and reached directly again. */
import assert from 'node:assert/strict'
import net from 'node:net'
import { afterEach, test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { type Identity, openIdentity, type Role } from '#engine/ops/identity.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { openListener } from '#engine/server/listener.ts'
import { createRelay, type Relay } from '#engine/server/relay.ts'
import { label, letterKinds } from '#protos/letter.ts'
import { cutOffMs, hopProbeMs, shardCount, suspectAfterMs, suspectEveryMs } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { createEngineClient } from './engine.ts'
import { deafSink } from './fixtures/deaf-sink.ts'
import type { WorkerLink } from './link.ts'
import { createReach } from './reach.ts'

const conversation = '0190a5a0-0000-7000-8000-000000000001'
const shard = shardOf(conversation)
const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo()
})

/** A worker that acks every command. `isEngine`: whom it passes streams on to. */
/** As while the files of a folder are being replaced. */
function unreadable(role: Role, isNow: () => boolean): Identity {
  const plain = openIdentity('', role)
  return {
    ...plain,
    client() {
      if (isNow()) throw new Error('no such file')
      return plain.client()
    },
  }
}

async function startWorker(
  owns: (shard: number) => boolean,
  isEngine?: (addr: string) => Promise<boolean>,
  identity = openIdentity('', 'engine'),
) {
  const relay: Relay = createRelay({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    directory: { heads: async () => new Map() },
    epochOf: s => (owns(s) ? 5 : undefined),
    nodeId: 'engine',
    incarnation: systemClock.id(),
    worker: 0,
  })
  relay.serve({
    deliver({ label: l, origin }) {
      const what = label(letterKinds.answer, { attempt: l.attempt, socket: l.socket, conversation: l.conversation })
      relay.fanout.answer(origin, what, Buffer.from('{"type":"ack"}'))
      return true
    },
  })
  const listener = await openListener(relay, silentLog, '127.0.0.1', 0, identity, isEngine)
  cleanup.push(() => listener.close())
  return { relay, addr: listener.addr }
}

/** In front of a worker: lets a connection through only while `isOpen`. */
async function startDoor(addr: string) {
  const door = { isOpen: false, addr: '', refused: 0 }
  const open = new Set<net.Socket>()
  const server = net.createServer(socket => {
    if (!door.isOpen) {
      door.refused++
      socket.destroy()
      return
    }
    const onward = net.connect(Number(addr.split(':')[1]), '127.0.0.1')
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      open.add(from)
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  door.addr = `127.0.0.1:${(server.address() as net.AddressInfo).port}`
  cleanup.push(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  return door
}

async function until(holds: () => boolean, what: string, ms = 10_000): Promise<void> {
  const began = performance.now()
  while (!holds()) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

test('[REACH1] a worker that is not reached is served over another one, and directly when the way is open again', async () => {
  const owner = await startWorker(s => s === shard)
  const door = await startDoor(owner.addr)
  // Only the other worker gets through the door: it is opened at the moment in which that one is about to dial.
  let hops = 0
  let probes = 0
  const other = await startWorker(
    s => s !== shard,
    async addr => {
      const isIt = addr === door.addr
      if (isIt) hops++
      door.isOpen = isIt && hops > 1
      return isIt
    },
    // Neither here nor at the gateway may certificates that are away for a moment end more than a try.
    unreadable('engine', () => hops === 1),
  )
  let answers = 0
  const client = createEngineClient({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    nodeId: 'gateway',
    identity: unreadable('gateway', () => answers > 0 && ++probes === 1),
    readRoutes: async () =>
      Array.from({ length: shardCount }, (_, s) => ({
        shard: s,
        epoch: 5,
        addr: s === shard ? door.addr : other.addr,
      })),
  })
  cleanup.push(() => client.close())
  await client.start({ ...deafSink, answer: () => answers++ })
  const send = () =>
    client.command({
      conversation,
      principal: conversation,
      socket: 1,
      attempt: systemClock.id(),
      trace: '',
      body: Buffer.from('{}'),
      durable: true,
      readAt: systemClock.mono(),
    })
  send()
  await until(() => answers === 1, 'an answer over the other worker')
  assert.ok(door.refused >= 2)
  assert.equal(owner.relay.links, 1)
  // The door stays open: the next look finds the direct way, and nothing sent meanwhile is lost.
  const relayed = performance.now()
  let sent = 1
  while (performance.now() - relayed < 2 * hopProbeMs + 1500) {
    send()
    sent++
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  await until(() => answers >= sent, 'all answers')
  await until(() => other.relay.links === 1 && owner.relay.links === 1, 'one link to each')
  assert.ok(probes >= 2)
})

test('[REACH2] a stream is passed on to living engines only', async () => {
  const owner = await startWorker(() => true)
  const other = await startWorker(
    () => false,
    async () => false,
  )
  const closed = await startDoor(owner.addr)
  const client = createEngineClient({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    nodeId: 'gateway',
    readRoutes: async () =>
      Array.from({ length: shardCount }, (_, s) => ({
        shard: s,
        epoch: 5,
        addr: s === shard ? closed.addr : other.addr,
      })),
  })
  cleanup.push(() => client.close())
  await client.start(deafSink)
  await until(() => closed.refused >= 4, 'a few tries')
  assert.equal(owner.relay.links, 0)
})

test('[REACH5] who could never be reached, nor over others, is dialled directly again and again', async () => {
  const owner = await startWorker(s => s === shard)
  let asked = 0
  const other = await startWorker(
    s => s !== shard,
    async () => {
      asked++
      return false
    },
  )
  const door = await startDoor(owner.addr)
  const client = createEngineClient({
    clock: { ...systemClock, random: () => 0 },
    log: silentLog,
    metrics: openMetrics(),
    nodeId: 'gateway',
    readRoutes: async () =>
      Array.from({ length: shardCount }, (_, s) => ({
        shard: s,
        epoch: 5,
        addr: s === shard ? door.addr : other.addr,
      })),
  })
  cleanup.push(() => client.close())
  await client.start(deafSink)
  // More tries than the back-off counts.
  await until(() => asked >= 6, 'many tries')
  door.isOpen = true
  await until(() => owner.relay.links === 1, 'a direct link')
})

function setUp() {
  let now = 0
  const told: string[] = []
  const reach = createReach({
    clock: { ...systemClock, mono: () => now },
    log: silentLog,
    suspect: async addr => void told.push(addr),
  })
  const link = (addr: string, isUp: boolean, unreachedMs = 0, isRelayed = false) =>
    ({ addr, isUp, isRelayed, unreachedMs }) as WorkerLink
  return { reach, told, link, at: (ms: number) => (now = ms) }
}

test('[REACH3] who is not reached for 10 s is suspected, again every 5 s, but not by a gateway that reaches nobody', () => {
  const { reach, told, link, at } = setUp()
  const named = new Set(['a', 'b'])
  reach.look([link('a', true), link('b', false, suspectAfterMs - 1)], named, true)
  assert.deepEqual(told, [])
  reach.look([link('a', true), link('b', true, suspectAfterMs, true)], named, true)
  assert.deepEqual(told, ['b'])
  at(suspectEveryMs - 1)
  reach.look([link('a', true), link('b', false, suspectAfterMs * 2)], named, true)
  assert.deepEqual(told, ['b'])
  at(suspectEveryMs)
  reach.look([link('a', true), link('b', false, suspectAfterMs * 2)], named, true)
  assert.deepEqual(told, ['b', 'b'])
  at(suspectEveryMs * 3)
  reach.look([link('a', false, 60_000), link('b', false, 60_000)], named, true)
  reach.look([link('a', true), link('b', false, 60_000)], named, false)
  reach.look([link('a', true), link('b', false, 60_000)], new Set(['a']), true)
  assert.deepEqual(told, ['b', 'b'])
})

test('[REACH4] cut off is who has reached no owner for 10 s while the map names some', () => {
  const { reach, link, at } = setUp()
  const named = new Set(['a'])
  const alone = (ms: number, isFresh = true, names = named) => {
    at(ms)
    reach.look([link('a', false, 60_000)], names, isFresh)
    return reach.isCutOff()
  }
  assert.equal(alone(0), false)
  assert.equal(alone(cutOffMs - 1), false)
  assert.equal(alone(cutOffMs), true)
  // The database is away, or nobody owns anything: going elsewhere would not help.
  assert.equal(alone(cutOffMs + 1, false), false)
  assert.equal(alone(cutOffMs * 2), false)
  assert.equal(alone(cutOffMs * 3), true)
  assert.equal(alone(cutOffMs * 3 + 1, true, new Set()), false)
  alone(cutOffMs * 4)
  at(cutOffMs * 6)
  reach.look([link('a', true)], named, true)
  assert.equal(reach.isCutOff(), false)
})
