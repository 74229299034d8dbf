/**
 * The promise under everything at once: random moves of ownership, cut links, load refusals and answers that get lost,
 * against two relays over real gRPC that share one log. Whatever happens: order kept, nothing twice, one answer each.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Delivery } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { type Listener, openListener } from '#engine/server/listener.ts'
import { createRelay, type Relay } from '#engine/server/relay.ts'
import { label, letterFlags, letterKinds } from '#protos/letter.ts'
import { shardCount } from '#protos/limits.ts'
import { createEngineClient } from './engine.ts'
import type { RouteRow } from './routes.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
console.log(`seed ${seed}`)

function randomFrom(start: number): () => number {
  let a = start >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), a | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

const random = randomFrom(seed)
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
const decode = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>
const conversations = Array.from({ length: 4 }, () => systemClock.id())
const sockets = [1, 2, 3]
const user = systemClock.id()

/** The log that both workers write, and the epoch that fences it. */
const log = { stored: [] as { pair: string; n: number; attempt: string }[], attempts: new Set<string>(), epoch: 1 }
let owner = 0

class FakeWorker {
  readonly index: number
  relay: Relay
  listener: Listener | undefined
  addr = ''
  #mailbox: Delivery[] = []
  #isBusy = false
  #life = 0

  constructor(index: number) {
    this.index = index
    this.relay = undefined as never
  }

  get epoch(): number | undefined {
    return owner === this.index ? log.epoch : undefined
  }

  async start(): Promise<void> {
    this.#life++
    this.#mailbox = []
    this.#isBusy = false
    this.relay = createRelay({
      clock: systemClock,
      log: silentLog,
      metrics: openMetrics(),
      directory: { heads: async () => new Map() },
      epochOf: () => this.epoch,
      nodeId: `e${this.index}`,
      incarnation: '',
      worker: 0,
    })
    this.relay.serve({
      deliver: delivery => {
        if (random() < 0.01) return false
        this.#mailbox.push(delivery)
        void this.#work()
        return true
      },
    })
    this.listener = await openListener(this.relay, silentLog, '127.0.0.1', 0)
    this.addr = this.listener.addr
  }

  /** Everything in memory is gone; a commit under way may still land, its answer never leaves. */
  crash(): void {
    this.#life++
    this.listener?.close()
    this.#mailbox = []
  }

  async #work(): Promise<void> {
    if (this.#isBusy) return
    this.#isBusy = true
    const life = this.#life
    while (this.#mailbox.length > 0 && life === this.#life) {
      const batch = this.#mailbox.splice(0, 64)
      const epoch = this.epoch
      await pause(random() * 4)
      const isStored = epoch !== undefined && owner === this.index && log.epoch === epoch
      if (isStored) for (const delivery of batch) store(delivery)
      if (life !== this.#life) return
      // Fenced: everything that waits goes back with it, or later letters would pass earlier ones.
      if (isStored) for (const delivery of batch) this.#ack(delivery)
      else for (const delivery of [...batch, ...this.#mailbox.splice(0)]) this.relay.notOwner(delivery)
    }
    if (life === this.#life) this.#isBusy = false
  }

  #ack({ label: l, origin }: Delivery): void {
    const on = { attempt: l.attempt, socket: l.socket, conversation: l.conversation }
    this.relay.fanout.answer(origin, label(letterKinds.answer, on), Buffer.from('{"type":"ack"}'))
  }
}

function store({ label: l, body }: Delivery): void {
  if (log.attempts.has(l.attempt)) {
    assert.ok((l.flags & letterFlags.resend) !== 0, 'a stored attempt came again without the resend mark')
    return
  }
  log.attempts.add(l.attempt)
  log.stored.push({ pair: `${l.socket}:${l.conversation}`, n: decode(body)['n'] as number, attempt: l.attempt })
}

test('L20 under random moves, cuts and refusals: order is kept, nothing is stored twice, each command has one true answer', async () => {
  const workers = [new FakeWorker(0), new FakeWorker(1)]
  for (const worker of workers) await worker.start()
  const rows = (): RouteRow[] =>
    Array.from({ length: shardCount }, (_, shard) => ({ shard, epoch: log.epoch, addr: workers[owner]!.addr }))
  const client = createEngineClient({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    readRoutes: async () => {
      const read = rows()
      await pause(random() * 5)
      return read
    },
    nodeId: 'g',
  })
  const answers = new Map<string, string[]>()
  const nothing = () => {}
  await client.start({
    answer(l, body) {
      const frame = decode(body)
      answers.get(l.attempt)!.push(frame['type'] === 'ack' ? 'ack' : (frame['code'] as string))
    },
    replay: nothing,
    fact: nothing,
    delta: nothing,
    done: nothing,
    typing: nothing,
    receipt: nothing,
    user: nothing,
    head: nothing,
    usersDoubtful: nothing,
    position: () => 0,
  })

  let n = 0
  const sent: { pair: string; n: number; attempt: string }[] = []
  for (let round = 0; round < 300; round++) {
    for (let burst = random() * 12; burst > 0; burst--) {
      const socket = sockets[Math.floor(random() * sockets.length)]!
      const conversation = conversations[Math.floor(random() * conversations.length)]!
      const attempt = systemClock.id()
      const body = Buffer.from(JSON.stringify({ n: ++n }))
      const on = { conversation, principal: user, socket, attempt, trace: '', body, durable: true }
      answers.set(attempt, [])
      assert.deepEqual(client.command({ ...on, readAt: systemClock.mono() }), { taken: true })
      sent.push({ pair: `${socket}:${conversation}`, n, attempt })
    }
    const dice = random()
    if (dice < 0.03) {
      const from = workers[owner]!
      owner = 1 - owner
      log.epoch++
      const next = { addr: workers[owner]!.addr, epoch: log.epoch }
      if (random() < 0.5) from.relay.moved(rows().map(({ shard }) => ({ shard, ...next })))
    } else if (dice < 0.06) log.epoch++
    else if (dice < 0.075) {
      const worker = workers[Math.floor(random() * 2)]!
      worker.crash()
      await worker.start()
      if (owner === worker.index) log.epoch++
    }
    await pause(random() * 6)
  }
  const end = performance.now() + 15_000
  while (client.pending().letters > 0 && performance.now() < end) await pause(10)
  await client.close()
  for (const worker of workers) worker.listener?.close()

  const stored = new Set(log.stored.map(s => s.attempt))
  assert.equal(stored.size, log.stored.length)
  for (const { attempt, n: number } of sent) {
    const got = answers.get(attempt)!
    assert.equal(got.length, 1, `command ${number} has the answers ${got.join()}`)
    assert.equal(got[0] === 'ack', stored.has(attempt), `command ${number} was answered ${got[0]}`)
  }
  for (const pair of new Set(sent.map(s => s.pair))) {
    const numbers = log.stored.filter(s => s.pair === pair).map(s => s.n)
    assert.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
      pair,
    )
  }
  const acked = [...answers.values()].filter(a => a[0] === 'ack').length
  console.log(`${acked} of ${sent.length} stored, ${log.epoch} epochs`)
  assert.ok(acked > sent.length / 4)
})
