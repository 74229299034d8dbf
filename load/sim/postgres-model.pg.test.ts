/**
 * The simulation's model of Postgres against Postgres: random sequences of production's own statements run on both and must
 * answer alike, errors included. Epochs are compared by what they decide: each side plays with its own.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import type { Contribution, EventRow, SideChange } from '#engine/actor/ports.ts'
import { silentLog } from '#engine/ops/log.ts'
import { createDirectory } from '#engine/storage/directory.ts'
import { PostgresLog } from '#engine/storage/log-postgres.ts'
import { type Database, openOrm } from '#engine/storage/orm.ts'
import * as own from '#engine/storage/ownership.ts'
import type { Queryable } from '#engine/storage/query.ts'
import { readRoutes } from '#engine/storage/route-map.ts'
import { createReads } from '#gateway/reads.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { shardOf } from '#protos/shard.ts'
import { PostgresModel } from './postgres-model.ts'

const id = (n: number, kind: string) => `00000000-0000-7000-8000-${kind}${n.toString(16).padStart(11, '0')}`
const users = [1, 2, 3].map(n => id(n, 'a'))
const nodes = [1, 2].map(n => id(n, 'e'))
let database: TestDatabase
let engine: Database
let ids = 0
let plays = 0

before(async () => {
  database = await testDatabase()
  engine = await openOrm({ url: database.url, name: 'model-test', poolMax: 4, log: silentLog })
})
after(async () => {
  await engine.close()
  await database.drop()
})

interface Side {
  at: Queryable
  logs: PostgresLog[]
  directory: ReturnType<typeof createDirectory>
  reads: ReturnType<typeof createReads>
}

async function side(at: Queryable, connect: () => Promise<unknown>): Promise<Side> {
  const logs = nodes.map(
    incarnation => new PostgresLog({ connect: connect as never, incarnation, worker: 0, named: true, log: silentLog }),
  )
  for (const log of logs) await log.connect(false)
  const positions = { of: () => ({ conversations: [], seqs: [] }) } as never
  return { at, logs, directory: createDirectory({ pool: at as never }), reads: createReads(at as never, positions) }
}

/** The model behind the driver's interface. */
function driver(model: PostgresModel) {
  const query = async (config: string | { text: string; name?: string; values?: unknown[] }, values?: unknown[]) => {
    const asked = typeof config === 'string' ? { text: config, values } : config
    const plain = JSON.parse(JSON.stringify(asked.values ?? [], keepBytes), reviveBytes) as unknown[]
    const rows = model.execute((asked as { name?: string }).name ?? '', asked.text, plain, Date.now())
    return { rows, rowCount: rows.length }
  }
  return { query, on: () => {}, end: async () => {}, connection: { stream: { destroy: () => {} } } }
}
const keepBytes = (_key: string, value: unknown) => value
const reviveBytes = (_key: string, value: unknown) =>
  typeof value === 'object' && value !== null && (value as { type?: string }).type === 'Buffer'
    ? Buffer.from((value as unknown as { data: number[] }).data)
    : value

type Step =
  | { do: 'claim' | 'replace' | 'stamp'; node: number; isStale: boolean }
  | { do: 'hand'; node: number; isStale: boolean }
  | { do: 'bury' | 'renew' | 'drain' | 'release'; node: number }
  | { do: 'commit'; node: number; isStale: boolean; parts: { room: number; what: What; user: number }[] }
  | { do: 'read'; user: number; read: number; room: number }
type What = 'create' | 'send' | 'again' | 'hole' | 'add' | 'remove' | 'queue' | 'start' | 'segment' | 'end' | 'title'

const nat = (max: number) => fc.integer({ min: 0, max })
const node = nat(1)
const what = fc.constantFrom<What>(
  ...([
    'create',
    'send',
    'send',
    'again',
    'hole',
    'add',
    'remove',
    'queue',
    'start',
    'segment',
    'end',
    'title',
  ] as const),
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('claim', 'replace', 'stamp'), node, isStale: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hand'), node, isStale: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('bury', 'renew', 'drain', 'release'), node }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('commit'),
      node,
      isStale: fc.boolean().map(b => b && true),
      parts: fc.array(fc.record({ room: nat(2), what, user: nat(2) }), { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('read'), user: nat(2), read: nat(9), room: nat(2) }) },
) as fc.Arbitrary<Step>

test('[PG1] the model answers every statement as Postgres does', async () => {
  // One seed for every run; others by SEED.
  const seed = Number(process.env['SEED'] ?? 1)
  console.log(`seed ${seed}`)
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async steps => {
      const model = new PostgresModel()
      await engine.pool.query(`truncate engine_node, conversation, event, ai_segment, ai_slot, shard_history cascade`)
      await engine.pool.query(`update shard set owner = null, worker = null`)
      // Sometimes with fresh statistics, as autovacuum brings them at any moment: plans change, and orders that nothing asks for.
      if (plays++ % 2 === 1) await engine.pool.query('analyze')
      for (const [i, user] of users.entries()) {
        const text = `insert into users (id, username, display_name) values ($1, $2, $2) on conflict do nothing`
        await engine.pool.query(text, [user, `model_${i}`])
      }
      const real = await side(engine.pool, () => engine.connect())
      const made = driver(model)
      const sides = [real, await side(made as never, async () => made)] as const
      try {
        const play = new Play(sides)
        await play.begin()
        for (const s of steps) await play.step(s)
      } finally {
        for (const log of real.logs) await log.close()
      }
    }),
    { seed, numRuns: 15, endOnFailure: true },
  )
})

class Play {
  readonly #sides: readonly [Side, Side]
  readonly #rooms = [1, 2, 3].map(n => id(ids * 10 + n, 'c'))
  /** Runs and sends made so far, by room. */
  #runs: { id: string; room: number; bytes: number }[] = []
  #sent: { room: number; user: number; clientId: string }[] = []

  constructor(sides: readonly [Side, Side]) {
    this.#sides = sides
    ids++
  }

  get #shards(): number[] {
    return [...new Set(this.#rooms.map(shardOf))].sort((a, b) => a - b)
  }

  async begin(): Promise<void> {
    for (const [i, incarnation] of nodes.entries()) {
      const row = { incarnation, nodeId: `n${i}`, addrs: [`h:${i}`], version: 't' }
      await this.#both(s => own.insertNode(s.at, row))
    }
    await this.#both(async s => {
      const granted = await own.claim(s.at, await this.#held(s, false), nodes[0]!, 0)
      return granted.map(r => r.shard).sort((a, b) => a - b)
    })
  }

  async step(s: Step): Promise<void> {
    if (s.do === 'commit') await this.#commit(s.node, s.isStale, s.parts)
    else if (s.do === 'read') await this.#receipt(s.user, s.room, s.read)
    else await this.#both(side => this.#own(side, s))
    await this.#look()
  }

  /** The shards in play with the epochs in force, or with older ones. */
  async #held(s: Side, isStale: boolean): Promise<own.ShardEpoch[]> {
    const rows = await own.readShards(s.at)
    return this.#shards.map(shard => ({ shard, epoch: rows[shard]!.epoch - (isStale ? 1 : 0) }))
  }

  async #own(s: Side, step: Exclude<Step, { do: 'commit' | 'read' }>): Promise<unknown> {
    const me = nodes[step.node]!
    const other = nodes[1 - step.node]!
    const shardsOf = async (rows: Promise<own.ShardEpoch[]>) => (await rows).map(r => r.shard).sort((a, b) => a - b)
    switch (step.do) {
      case 'claim':
        return shardsOf(own.claim(s.at, await this.#held(s, step.isStale), me, 0))
      case 'replace':
        return shardsOf(own.replace(s.at, me, this.#shards, 1))
      case 'stamp':
        return shardsOf(s.logs[step.node]!.stamp(await this.#held(s, step.isStale)))
      case 'hand':
        return shardsOf(own.handOver(s.at, await this.#held(s, step.isStale), me, other, 0))
      case 'bury': {
        const dead = await own.buryKnown(s.at, me)
        // Another life under the same id would be no life at all; the row is made anew.
        return dead
      }
      case 'renew':
        return own.renew(s.at, me, ['h:9'])
      case 'drain':
        return own.markDraining(s.at, me)
      case 'release':
        return shardsOf(own.release(s.at, me))
      default:
        return step satisfies never
    }
  }

  async #commit(by: number, isStale: boolean, parts: { room: number; what: What; user: number }[]): Promise<void> {
    const heads = await this.#sides[1].directory.heads(this.#rooms)
    const rooms = new Map<number, Omit<Contribution, 'shard' | 'epoch'>>()
    for (const part of parts) {
      const conversation = this.#rooms[part.room]!
      const c = rooms.get(part.room) ?? { conversation, events: [], segments: [], sides: [] }
      rooms.set(part.room, c)
      const isThere = heads.has(conversation) || c.sides.some(x => x.kind === 'conversation.created')
      if (isThere !== (part.what === 'create')) this.#part(c, part, heads.get(conversation)?.head ?? 0)
    }
    const given = [...rooms.values()].filter(c => c.events.length + c.sides.length + c.segments.length > 0)
    if (given.length === 0) return
    await this.#both(async s => {
      const held = new Map((await this.#held(s, isStale)).map(h => [h.shard, h.epoch]))
      const whole = given.map(c => ({
        ...c,
        shard: shardOf(c.conversation),
        epoch: held.get(shardOf(c.conversation))!,
      }))
      const log = s.logs[by]!
      await log.connect(false)
      const result = await log.commit(whole)
      const keys = whole.flatMap(c =>
        c.events.map(e => ({ conversation: c.conversation, senderId: e.senderId, clientId: e.clientId })),
      )
      const shards = result.kind === 'done' ? [...result.shards].sort((a, b) => a - b) : []
      return [
        result.kind,
        shards,
        await log.areStored(whole),
        (await log.findClients(keys)).map(k => k.clientId).sort(),
      ]
    })
  }

  #part(
    c: Omit<Contribution, 'shard' | 'epoch'>,
    { room, what, user }: { room: number; what: What; user: number },
    head: number,
  ) {
    const at = 1_700_000_000_000 + ids
    const userId = users[user]!
    const seq = head + c.events.length + 1
    const event = (kind: EventRow['kind'], body: object, clientId = id(++ids, 'd'), place = seq): EventRow => {
      const row = { seq: place, kind, messageId: id(++ids, 'b'), senderId: userId, clientId, at }
      const more = { bodyHash: '01'.repeat(32), body: JSON.stringify(body) }
      return { ...row, ...more } as EventRow
    }
    const run = this.#runs.findLast(r => r.room === room)
    const put = (change: SideChange) => void c.sides.push(change)
    switch (what) {
      case 'create': {
        const member = { userId, role: 'owner' as const, seq }
        put({
          kind: 'conversation.created',
          conversationKind: 'group',
          title: 't',
          createdBy: userId,
          at,
          members: [member],
        } as SideChange)
        return void c.events.push(event('room.member_joined', { userId }))
      }
      case 'send': {
        const row = event('message.new', { content: `m${ids}` })
        this.#sent.push({ room, user, clientId: row.clientId })
        return void c.events.push(row)
      }
      case 'again': {
        const before = this.#sent.findLast(s => s.room === room && s.user === user)
        if (before) c.events.push(event('message.new', { content: 'again' }, before.clientId))
        return
      }
      case 'hole':
        if (head > 0 && c.events.length === 0) c.events.push(event('message.new', { content: 'x' }, undefined, head))
        return
      case 'add':
        put({ kind: 'member.added', userId, role: 'member', seq, at })
        return void c.events.push(event('room.member_joined', { userId }))
      case 'remove':
        put({ kind: 'member.removed', userId })
        return void c.events.push(event('room.member_left', { userId }))
      case 'title':
        return put({ kind: 'conversation.updated', title: `t${ids}` })
      case 'queue': {
        const made = { id: id(++ids, 'f'), requester: userId, questionId: id(++ids, 'f'), questionSeq: seq }
        const more = {
          clientMessageId: id(++ids, 'f'),
          answerId: id(++ids, 'f'),
          status: 'queued' as const,
          trace: 't',
          createdAt: at,
        }
        this.#runs.push({ id: made.id, room, bytes: 0 })
        return put({ kind: 'run.queued', run: { ...made, ...more } })
      }
      case 'start':
        return run && put({ kind: 'run.started', runId: run.id, model: 'm', at })
      case 'segment':
        if (run && c.segments.length === 0) c.segments.push({ runId: run.id, offset: run.bytes++, text: 'x' } as never)
        return
      case 'end':
        return run && put({ kind: 'run.ended', runId: run.id, finish: 'stop', bytes: 1, at })
      default:
        return what satisfies never
    }
  }

  async #receipt(user: number, room: number, read: number): Promise<void> {
    const row = {
      conversation: this.#rooms[room]!,
      userId: users[user]!,
      readSeq: read,
      deliveredSeq: read + 1,
      at: 1,
      mark: false,
    }
    await this.#both(s => s.directory.flushReceipts([row]))
    const run = this.#runs.at(-1)
    if (run) await this.#both(s => s.directory.takeSlot(users[user]!, run.id))
  }

  /** Everything that can be read, from both. */
  async #look(): Promise<void> {
    const shards = this.#shards
    await this.#both(async s => {
      const [nodeRows, shardRows, routes] = [
        await own.readNodes(s.at),
        await own.readShards(s.at),
        await readRoutes(s.at),
      ]
      const heads = await s.directory.heads(this.#rooms)
      const byId = <T extends { id: string }>(rows: T[]) => rows.sort((a, b) => (a.id < b.id ? -1 : 1))
      return {
        nodes: nodeRows.map(({ expired: _e, ...row }) => row),
        shards: shards.map(n => ({ owner: shardRows[n]!.owner, worker: shardRows[n]!.worker })),
        routes: shards.map(n => routes.find(r => r.shard === n)!.addr),
        activations: byId([...(await s.directory.activate(this.#rooms)).values()]),
        heads: [...heads].map(([room, h]) => [room, h.head, h.epoch === shardRows[shardOf(room)]!.epoch]).sort(),
        events: await Promise.all(this.#rooms.map(r => s.directory.events(r, 1, { events: 100, bytes: 1e6 }))),
        frames: await s.reads.frames([
          ...this.#rooms.map(conversation => ({ conversation, after: 0, events: 7, bytes: 1500 })),
          ...this.#rooms.map(conversation => ({ conversation, after: 2, events: 3, bytes: 600 })),
        ]),
        rooms: [...(await s.reads.conversationsOf(users))].map(([u, own]) => [u, [...own].sort()]).sort(),
        ready: await Promise.all(users.map(async u => byId((await s.reads.ready(u)) as { id: string }[]))),
        left: await Promise.all(this.#rooms.map(r => s.reads.lastLeft(r, users[1]!))),
        open: (await s.directory.openRuns(shards)).sort(),
        sent: (
          await s.directory.lookup(
            this.#sent.map(x => ({
              conversation: this.#rooms[x.room]!,
              senderId: users[x.user]!,
              clientId: x.clientId,
            })),
          )
        )
          .map(({ bodyHash: _b, ...row }) => row)
          .sort((a, b) => (a.clientId < b.clientId ? -1 : 1)),
      }
    })
  }

  async #both(ask: (side: Side) => Promise<unknown>): Promise<void> {
    const [real, model] = await Promise.all(this.#sides.map(s => ask(s)))
    assert.deepEqual(model, real)
  }
}
