/**
 * A journal under test: a store whose answers can be lost, small actors that number and wait as real ones do, and the check
 * of what the log holds afterwards. Used by the contract suites of engine/storage.
 */
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import type { Contribution, EventRow, Outcome, SegmentRow, SideChange, Source } from '#engine/actor/ports.ts'
import { type Clock, systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createJournal, type GroupJournal } from '#engine/storage/journal.ts'
import type { CommitResult, LogStore } from '#engine/storage/log-store.ts'
import { ShardTable } from '#engine/storage/shard-table.ts'
import { shardOf } from '#protos/shard.ts'

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
  #isReading = false
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
          bodyHash: createHash('sha256').update(letter.body).digest('hex'),
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

  /** One reading at a time: a second one's answer would come when letters are under way on the first one's. */
  async #refresh(): Promise<void> {
    if (this.#isReading) return
    this.#isReading = true
    const { generation } = this.#journal()
    this.head = await this.#readHead(this.conversation)
    this.#isReading = false
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

export async function openBench(world: World, clock: Clock = systemClock): Promise<Bench> {
  const store = new FaultyStore(world.store)
  const shards = new ShardTable()
  const fenced: number[] = []
  const stamped: number[] = []
  const metrics = openMetrics()
  const journal = createJournal({
    clock,
    log: silentLog,
    metrics,
    store,
    shards,
    onFenced: shard => fenced.push(shard),
    onStamped: shard => stamped.push(shard),
  })
  return {
    world,
    store,
    journal,
    shards,
    fenced,
    stamped,
    metrics,
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
