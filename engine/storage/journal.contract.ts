/**
 * What every journal promises, whatever store is under it: run by journal.test.ts on memory and by journal.pg.test.ts on
 * Postgres. A world gives the store and looks into it from outside.
 */
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Contribution, EventRow, Outcome, SegmentRow, SideChange, Source } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { batchRowsMax } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { createJournal, type GroupJournal } from './journal.ts'
import type { CommitResult, LogStore } from './log-store.ts'
import { ShardTable } from './shard-table.ts'

export interface World {
  store: LogStore
  /** The log of a conversation: seqs with their epochs and client ids, in order. */
  log(conversation: string): Promise<{ seq: number; epoch: number; clientId: string }[]>
  /** Makes the shards ours and answers their epochs. */
  own(shards: readonly number[]): Promise<Map<number, number>>
  /** Another owner takes the shard. */
  steal(shard: number): Promise<void>
  /** Ends what the world opened. */
  close(): Promise<void>
}

/** A store whose next answers get lost, before or after the statement did its work. */
export class FaultyStore implements LogStore {
  readonly commits: (readonly Contribution[])[] = []
  readonly faults: ('before' | 'after' | 'retry' | 'full')[] = []
  /** Failures of the next connects. */
  connectFaults: { code: string }[] = []
  inFlight = 0
  inFlightMax = 0
  readonly #inner: LogStore

  constructor(inner: LogStore) {
    this.#inner = inner
  }

  get connected(): boolean {
    return this.#inner.connected
  }
  get onLost(): () => void {
    return this.#inner.onLost
  }
  set onLost(call: () => void) {
    this.#inner.onLost = call
  }
  async connect(doubtful: boolean): Promise<void> {
    const fault = this.connectFaults.shift()
    if (fault) throw Object.assign(new Error('no'), fault)
    await this.#inner.connect(doubtful)
  }
  discard(): void {
    this.#inner.discard()
  }
  async commit(contributions: readonly Contribution[]): Promise<CommitResult> {
    this.commits.push(contributions)
    this.inFlightMax = Math.max(this.inFlightMax, ++this.inFlight)
    try {
      const fault = this.faults.shift()
      if (fault === 'retry' || fault === 'full') return { kind: fault }
      const result = fault === 'before' ? undefined : await this.#inner.commit(contributions)
      if (!fault) return result!
      this.#inner.discard()
      return { kind: 'unknown' }
    } finally {
      this.inFlight--
    }
  }
  stamp(held: Parameters<LogStore['stamp']>[0]) {
    return this.#inner.stamp(held)
  }
  areStored(contributions: readonly Contribution[]) {
    return this.#inner.areStored(contributions)
  }
  findClients(keys: Parameters<LogStore['findClients']>[0]) {
    return this.#inner.findClients(keys)
  }
  close() {
    return this.#inner.close()
  }
}

interface Letter {
  clientId: string
  body: string
  side?: SideChange
  segment?: SegmentRow
}

/** A small actor: numbers from its head, keeps what waits until it is settled for good. */
export class TestSource implements Source {
  readonly conversation: string
  readonly shard: number
  readonly sender = randomUUID()
  readonly letters: Letter[] = []
  readonly outcomes: Outcome[] = []
  /** Acked: client id → seq. */
  readonly acked = new Map<string, number>()
  readonly answered = new Map<string, string>()
  head = 0
  /** Of the last read of the head; undefined: the head is doubtful. */
  generation: number | undefined = 0
  taken: Letter[] = []
  readonly #journal: () => GroupJournal
  readonly #readHead: (conversation: string) => Promise<number>

  constructor(
    journal: () => GroupJournal,
    readHead: (conversation: string) => Promise<number>,
    conversation = randomUUID() as string,
  ) {
    this.#journal = journal
    this.#readHead = readHead
    this.conversation = conversation
    this.shard = shardOf(conversation)
  }

  send(letter: Partial<Letter> = {}): string {
    const clientId = letter.clientId ?? randomUUID()
    const body = letter.body ?? JSON.stringify({ role: 'user', content: `text ${clientId}` })
    this.letters.push({ ...letter, clientId, body })
    this.#journal().offer(this)
    return clientId
  }

  take(room: { rows: number; letters: number }): Contribution | undefined {
    const journal = this.#journal()
    assert.equal(this.taken.length, 0, 'take comes only after settle')
    if (this.letters.length === 0) return undefined
    if (this.generation !== journal.generation) {
      void this.#refresh()
      return undefined
    }
    this.taken = this.letters.slice(0, Math.max(1, Math.min(room.rows, room.letters)))
    const events: EventRow[] = []
    const segments: SegmentRow[] = []
    const sides: SideChange[] = []
    for (const letter of this.taken) {
      if (letter.segment) segments.push(letter.segment)
      else {
        events.push({
          seq: this.head + events.length + 1,
          kind: 'message.new',
          messageId: randomUUID(),
          senderId: this.sender,
          clientId: letter.clientId,
          bodyHash: createHash('sha256').update(letter.body).digest(),
          body: letter.body,
          at: Date.now(),
        })
      }
      if (letter.side) sides.push(letter.side)
    }
    const epoch = journal.epochOf(this.shard) ?? -1
    return { shard: this.shard, epoch, conversation: this.conversation, events, segments, sides }
  }

  settle(outcome: Outcome): void {
    this.outcomes.push(outcome)
    const { taken } = this
    this.taken = []
    const answer = (letters: Letter[], word: string) => {
      for (const letter of letters) {
        this.answered.set(letter.clientId, word)
        this.letters.splice(this.letters.indexOf(letter), 1)
      }
    }
    switch (outcome.kind) {
      case 'stored':
        for (const letter of taken) if (!letter.segment) this.acked.set(letter.clientId, ++this.head)
        answer(taken, 'stored')
        break
      case 'duplicates':
        answer(
          taken.filter(l => outcome.clientIds.has(l.clientId)),
          'duplicate',
        )
        this.generation = undefined
        break
      case 'culprit':
        assert.equal(taken.length, 1, 'a culprit stands alone')
        answer(taken, `culprit ${outcome.code}`)
        break
      case 'again':
        this.generation = undefined
        break
      case 'refused':
      case 'fenced':
        answer(taken, outcome.kind)
        break
      default:
        outcome satisfies never
    }
    if (this.letters.length > 0) this.#journal().offer(this)
  }

  async #refresh(): Promise<void> {
    const { generation } = this.#journal()
    this.head = await this.#readHead(this.conversation)
    this.generation = generation
    this.#journal().offer(this)
  }
}

export interface Bench {
  world: World
  store: FaultyStore
  journal: GroupJournal
  shards: ShardTable
  fenced: number[]
  stamped: number[]
  metrics: ReturnType<typeof openMetrics>
  source(conversation?: string): TestSource
  own(...sources: TestSource[]): Promise<void>
  close(): Promise<void>
}

export async function openBench(world: World): Promise<Bench> {
  const store = new FaultyStore(world.store)
  const shards = new ShardTable()
  const fenced: number[] = []
  const stamped: number[] = []
  const metrics = openMetrics()
  const journal = createJournal({
    ...{ clock: systemClock, log: silentLog, metrics, store, shards },
    onFenced: shard => fenced.push(shard),
    onStamped: shard => stamped.push(shard),
  })
  return {
    ...{ world, store, journal, shards, fenced, stamped, metrics },
    source: conversation =>
      new TestSource(
        () => journal,
        async id => (await world.log(id)).length,
        conversation,
      ),
    own: async (...sources) => {
      const wanted = [...new Set(sources.map(s => s.shard))].filter(s => shards.epochOf(s) === undefined)
      for (const [shard, epoch] of await world.own(wanted)) shards.set(shard, epoch)
    },
    close: async () => {
      await journal.close()
      await world.close()
    },
  }
}

export async function until(holds: () => boolean, what: string, ms = 10_000): Promise<void> {
  const end = performance.now() + ms
  while (!holds()) {
    if (performance.now() > end) assert.fail(`not within ${ms} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

export const settled = (...sources: TestSource[]) =>
  until(() => sources.every(s => s.letters.length === 0 && s.taken.length === 0), 'every letter is answered')

/** Acked means stored at that position; nothing is stored twice; no gap; epochs never fall. */
export async function checkLog(world: World, source: TestSource): Promise<void> {
  const log = await world.log(source.conversation)
  assert.deepEqual(
    log.map(e => e.seq),
    log.map((_, i) => i + 1),
    'dense',
  )
  assert.equal(new Set(log.map(e => e.clientId)).size, log.length, 'no id twice')
  for (const [clientId, seq] of source.acked) assert.equal(log[seq - 1]?.clientId, clientId, `acked at ${seq}`)
  for (let i = 1; i < log.length; i++) assert.ok(log[i]!.epoch >= log[i - 1]!.epoch, 'epochs never fall')
}

export function journalContract(name: string, open: () => Promise<World>): void {
  const contract = (title: string, body: (bench: Bench) => Promise<void>) =>
    test(`${name}: ${title}`, { timeout: 30_000 }, async () => {
      const bench = await openBench(await open())
      try {
        await body(bench)
      } finally {
        await bench.close()
      }
    })

  contract('J1 what is offered is stored, dense and in order, and settled once', async b => {
    const s = b.source()
    await b.own(s)
    const ids = Array.from({ length: 20 }, () => s.send())
    await settled(s)
    assert.deepEqual([...s.acked.keys()], ids)
    await checkLog(b.world, s)
  })

  contract('J2 what one turn of the event loop offers goes in one statement', async b => {
    const sources = Array.from({ length: 30 }, () => b.source())
    await b.own(...sources)
    for (const s of sources) s.send()
    await settled(...sources)
    assert.equal(b.store.commits.length, 1)
    for (const s of sources) await checkLog(b.world, s)
  })

  contract('J3 one statement is in flight, of at most 256 rows, and all of a flood arrives', async b => {
    const sources = Array.from({ length: 5 }, () => b.source())
    await b.own(...sources)
    for (let i = 0; i < 300; i++) for (const s of sources) s.send()
    await settled(...sources)
    assert.equal(b.store.inFlightMax, 1)
    for (const batch of b.store.commits) {
      assert.ok(batch.reduce((n, c) => n + c.events.length, 0) <= batchRowsMax)
    }
    assert.ok(b.store.commits.length >= 6)
    for (const s of sources) {
      assert.equal(s.acked.size, 300)
      await checkLog(b.world, s)
    }
  })

  contract('J4 a fenced shard stores nothing and is dropped; its neighbours are stored', async b => {
    const mine = b.source()
    let other = b.source()
    while (other.shard === mine.shard) other = b.source()
    await b.own(mine, other)
    await b.world.steal(other.shard)
    mine.send()
    const id = other.send()
    await settled(mine, other)
    assert.equal(mine.acked.size, 1)
    assert.equal(other.answered.get(id), 'fenced')
    assert.deepEqual(b.fenced, [other.shard])
    assert.equal(b.journal.epochOf(other.shard), undefined)
    assert.deepEqual(await b.world.log(other.conversation), [])
  })

  contract('J5 a duplicate id is told apart, and its neighbours are stored all the same', async b => {
    const [s, neighbour] = [b.source(), b.source()]
    await b.own(s, neighbour)
    const first = s.send()
    await settled(s)
    s.send({ clientId: first })
    const fresh = s.send()
    neighbour.send()
    await settled(s, neighbour)
    assert.equal(s.answered.get(first), 'duplicate')
    assert.equal(s.answered.get(fresh), 'stored')
    assert.equal(neighbour.acked.size, 1)
    await checkLog(b.world, s)
    await checkLog(b.world, neighbour)
  })

  contract('J6 a row that can never be stored is refused alone', async b => {
    const [s, neighbour] = [b.source(), b.source()]
    await b.own(s, neighbour)
    const ids = [s.send(), s.send({ body: '{"role":"user","content":"\\u0000"}' }), s.send()]
    neighbour.send()
    await settled(s, neighbour)
    assert.deepEqual(
      ids.map(id => s.answered.get(id)),
      ['stored', 'culprit 22P05', 'stored'],
    )
    assert.equal(neighbour.acked.size, 1)
    await checkLog(b.world, s)
    // The care ends with the culprit: the next burst is one statement again.
    const before = b.store.commits.length
    for (let i = 0; i < 10; i++) s.send()
    await settled(s)
    assert.ok(b.store.commits.length - before <= 3)
  })

  for (const when of ['before', 'after'] as const) {
    contract(`J7 an answer lost ${when} the commit is resolved: stored once, acked once`, async b => {
      const sources = Array.from({ length: 5 }, () => b.source())
      await b.own(...sources)
      for (const s of sources) s.send()
      await settled(...sources)
      const generation = b.journal.generation
      b.store.faults.push(when)
      for (const s of sources) for (let i = 0; i < 3; i++) s.send()
      await settled(...sources)
      assert.ok(b.journal.generation > generation)
      assert.ok(b.stamped.length > 0)
      for (const s of sources) {
        assert.equal(s.acked.size, 4)
        await checkLog(b.world, s)
      }
    })

    contract(`J8 an answer lost ${when} the commit with the shard lost too is not_owner, never an ack`, async b => {
      const s = b.source()
      await b.own(s)
      s.send()
      await settled(s)
      b.store.faults.push(when)
      b.store.connectFaults = [{ code: '57P03' }, { code: 'ECONNREFUSED' }]
      const id = s.send()
      await until(() => b.store.commits.length === 2 && b.store.inFlight === 0, 'the statement is lost')
      await b.world.steal(s.shard)
      await settled(s)
      assert.equal(s.answered.get(id), 'fenced')
      assert.deepEqual(b.fenced, [s.shard])
      assert.equal((await b.world.log(s.conversation)).length, when === 'after' ? 2 : 1)
    })
  }

  contract('J9 a statement that met a deadlock is sent again; a full database refuses', async b => {
    const s = b.source()
    await b.own(s)
    b.store.faults.push('retry', 'retry')
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'stored')
    b.store.faults.push('full')
    const refused = s.send()
    await settled(s)
    assert.equal(s.answered.get(refused), 'refused')
    await checkLog(b.world, s)
  })

  contract('J10 a wrong head is counted, stamped and read again', async b => {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    s.head = 0
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'stored')
    assert.equal((await b.metrics.parley_head_conflict_total.get()).values[0]?.value, 1)
    assert.deepEqual(b.stamped, [s.shard])
    await checkLog(b.world, s)
  })

  contract('J11 nothing is taken while the database is away, and all of it is stored when it is back', async b => {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    b.store.connectFaults = [{ code: 'ECONNREFUSED' }, { code: '57P03' }, { code: 'ENOENT' }]
    b.store.discard()
    s.send()
    s.send()
    await settled(s)
    assert.equal(s.acked.size, 3)
    await checkLog(b.world, s)
  })

  contract('J12 a shard that is not ours is fenced without a statement', async b => {
    const s = b.source()
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'fenced')
    assert.equal(b.store.commits.length, 0)
  })

  contract('J13 under random losses every ack holds, nothing doubles, no gap is left', async b => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    console.log(`# seed ${seed}`)
    let state = seed
    const random = () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
      return state / 0x7fffffff
    }
    const sources = Array.from({ length: 8 }, () => b.source())
    await b.own(...sources)
    for (let round = 0; round < 60; round++) {
      const roll = random()
      if (roll < 0.1) b.store.faults.push('before')
      else if (roll < 0.2) b.store.faults.push('after')
      else if (roll < 0.3) b.store.faults.push('retry')
      for (const s of sources) {
        if (random() < 0.5) s.send()
        if (random() < 0.1 && s.acked.size > 0) s.send({ clientId: [...s.acked.keys()][0]! })
        if (random() < 0.03) s.send({ body: '{"role":"user","content":"\\u0000"}' })
      }
      if (random() < 0.5) await settled(...sources)
    }
    await settled(...sources)
    for (const s of sources) await checkLog(b.world, s)
  })
}
