/**
 * Postgres as far as the log, ownership and reads need it: tables, and what each of production's statements does to them,
 * atomically, by the statement's name. Held against real Postgres by a test. Refuses to know connections, time or faults.
 */
import { sideParts } from '#engine/storage/sides.ts'
import {
  leaseMs,
  segmentsKeptMs,
  shardCount,
  suspectReportersMin,
  suspicionWindowMs,
  turnsRunningPerUserMax,
} from '#protos/limits.ts'
import { readStatement } from './postgres-reads.ts'
import type {
  ConversationRecord,
  EventRecord,
  NodeRecord,
  Row,
  RunRecord,
  ShardRecord,
  Tables,
} from './postgres-tables.ts'

/** An error that the server says, as the driver shows it. */
export class SqlError extends Error {
  readonly severity = 'ERROR'
  readonly code: string
  readonly constraint: string | undefined
  constructor(code: string, constraint?: string) {
    super(`${code} ${constraint ?? ''}`)
    this.code = code
    this.constraint = constraint
  }
}

/** An array parameter in its text form, of values without quotes. */
const elements = (text: string): string[] => (text === '{}' ? [] : text.slice(1, -1).split(','))
const numbers = (text: string): number[] => elements(text).map(Number)

/** JSON as jsonb gives it back: shorter keys first, a space after colon and comma. */
export function jsonb(text: string): string {
  const write = (value: unknown): string => {
    if (Array.isArray(value)) return `[${value.map(write).join(', ')}]`
    if (typeof value !== 'object' || value === null) return JSON.stringify(value)
    const entries = Object.entries(value).sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1))
    return `{${entries.map(([key, v]) => `${JSON.stringify(key)}: ${write(v)}`).join(', ')}}`
  }
  return text.includes('\\u0000') ? text : write(JSON.parse(text))
}

export class PostgresModel implements Tables {
  readonly nodes = new Map<string, NodeRecord>()
  readonly shards: ShardRecord[] = Array.from({ length: shardCount }, (_, shard) => ({
    shard,
    epoch: 0,
    owner: null,
    worker: null,
  }))
  /** Incarnation → reporter → when. */
  readonly suspicions = new Map<string, Map<string, number>>()
  /** Every epoch given out, with the statement that did it. */
  readonly history: (ShardRecord & { by: string })[] = []
  readonly conversations = new Map<string, ConversationRecord>()
  /** `${conversation}/${sender}/${client}` */
  readonly clients = new Map<string, EventRecord>()
  readonly runs = new Map<string, RunRecord>()
  readonly segments = new Map<string, Map<number, string>>()
  readonly slots = new Map<string, string>()
  readonly blocks = new Set<string>()
  /** Shards whose epoch changed in the last statement: LISTEN hears of it. */
  hasMoved = false
  #epoch = 0

  /** How often the shard came to another worker, or to a thread that knew nothing. */
  movesOf(shard: number): number {
    return this.history.filter(h => h.shard === shard && h.by !== 'own_stamp').length
  }

  /** One statement, all or nothing. `now`: the server's wall clock. Throws SqlError. */
  execute(name: string, text: string, values: readonly unknown[], now: number): Row[] {
    this.hasMoved = false
    if (name.startsWith('parley_commit_')) return this.#commit(Number(name.slice(14)), text, values)
    if (name.startsWith('own_')) return this.#own(name, values as never[], now)
    if (name === 'routes_suspect') return this.#suspect(values as string[], now)
    // Settings are as they should be here.
    if (text.startsWith('select set_config')) return []
    if (name.startsWith('log_')) return this.#look(name, values as never[])
    return this.#write(name, values as never[], now) ?? readStatement(this, name, text, values as never[])
  }

  #move(row: ShardRecord, by: string): void {
    row.epoch = ++this.#epoch
    this.history.push({ ...row, by })
    this.hasMoved = true
  }

  // --- ownership -------------------------------------------------------------------------------------------------------

  // biome-ignore lint/suspicious/noExplicitAny: parameters of many statements
  #own(name: string, v: any[], now: number): Row[] {
    const node = (incarnation: string) => {
      const row = this.nodes.get(incarnation)
      return row && row.state !== 'dead' ? row : undefined
    }
    const move = (rows: ShardRecord[], to: Partial<ShardRecord>) =>
      rows.map(row => {
        this.#move(Object.assign(row, to), name)
        return { shard: row.shard, epoch: row.epoch }
      })
    const wanted = (shards: number[], epochs: number[], isMine: (row: ShardRecord, epoch: number) => boolean) =>
      this.shards.filter(row => shards.some((id, i) => id === row.shard && isMine(row, epochs[i]!)))
    switch (name) {
      case 'own_insert_node': {
        const [incarnation, nodeId, addrs, version] = v
        const row: NodeRecord = { incarnation, nodeId, addrs, version, state: 'up', beat: 0, expiresAt: now + leaseMs }
        this.nodes.set(incarnation, row)
        return []
      }
      case 'own_renew': {
        const row = node(v[0])
        if (!row) return []
        Object.assign(row, { beat: row.beat + 1, expiresAt: now + leaseMs, addrs: v[1] ?? row.addrs })
        return [{ beat: row.beat, state: row.state }]
      }
      case 'own_read_nodes':
        return [...this.nodes.values()]
          .sort((a, b) => (a.incarnation < b.incarnation ? -1 : 1))
          .map(({ expiresAt, ...row }) => {
            const suspected = this.#isSuspected(row.incarnation, now)
            return { ...row, expired: expiresAt < now, suspected }
          })
      case 'own_bury': {
        const row = node(v[0])
        if (!row || row.beat !== v[1] || !(row.expiresAt < now || v[2])) return []
        row.state = 'dead'
        return [{ incarnation: row.incarnation }]
      }
      case 'own_bury_suspect': {
        const row = node(v[0])
        if (!row || !this.#isSuspected(row.incarnation, now)) return []
        row.state = 'dead'
        return [{ incarnation: row.incarnation }]
      }
      case 'own_bury_known':
      case 'own_bury_predecessors': {
        const isKnown = name === 'own_bury_known'
        const dead = [...this.nodes.values()].filter(
          n => n.state !== 'dead' && (isKnown ? n.incarnation === v[0] : n.nodeId === v[0] && n.incarnation !== v[1]),
        )
        for (const row of dead) row.state = 'dead'
        return dead.map(({ incarnation }) => ({ incarnation }))
      }
      case 'own_draining': {
        const row = node(v[0])
        if (row?.state !== 'up') return []
        row.state = 'draining'
        return [{ incarnation: row.incarnation }]
      }
      case 'own_read_shards':
        return this.shards.map(row => ({ ...row }))
      case 'own_claim':
        return move(
          wanted(v[0], v[1], (row, e) => row.epoch === e && (row.owner === null || this.#isDead(row.owner))),
          { owner: v[2], worker: v[3] },
        )
      case 'own_replace':
        return move(
          this.shards.filter(row => row.owner === v[0] && v[1].includes(row.shard)),
          { worker: v[2] },
        )
      case 'own_hand_over':
        if (node(v[3])?.state !== 'up') return []
        return move(
          wanted(v[0], v[1], (row, e) => row.epoch === e && row.owner === v[2]),
          { owner: v[3], worker: v[4] },
        )
      case 'own_release':
        return move(
          this.shards.filter(row => row.owner === v[0]),
          { owner: null, worker: null },
        )
      case 'own_stamp':
        return move(
          wanted(
            v[0],
            v[1],
            (row, e) => row.epoch === e || (row.owner === v[2] && row.worker === v[3] && row.epoch > e),
          ),
          {},
        )
      case 'own_prune':
        return []
      default:
        throw new Error(`the model does not know ${name}`)
    }
  }

  #suspect([addr, reporter]: readonly string[], now: number): Row[] {
    for (const n of this.nodes.values()) {
      if (n.state === 'dead' || !n.addrs.includes(addr!)) continue
      const of = this.suspicions.get(n.incarnation) ?? new Map<string, number>()
      this.suspicions.set(n.incarnation, of.set(reporter!, now))
    }
    return []
  }

  #isSuspected(incarnation: string, now: number): boolean {
    const of = [...(this.suspicions.get(incarnation)?.values() ?? [])]
    return of.filter(at => at > now - suspicionWindowMs).length >= suspectReportersMin
  }

  #isDead(incarnation: string): boolean {
    return this.nodes.get(incarnation)?.state === 'dead'
  }

  // --- the log ---------------------------------------------------------------------------------------------------------

  // biome-ignore lint/suspicious/noExplicitAny: columns of one statement
  #commit(mask: number, text: string, values: readonly any[]): Row[] {
    // A statement without the comparison passes every fence, here as there.
    const isFenced = /s\.epoch = w\.epoch/.test(text)
    const ids = numbers(values[0])
    const epochs = numbers(values[1])
    const passed = new Map<number, number>()
    ids.forEach((id, i) => {
      const row = this.shards[id]!
      if (!isFenced || row.epoch === epochs[i]) passed.set(id, row.epoch)
    })
    let n = 2
    const events: EventRecord[] = []
    if (mask & 1) {
      const column = (i: number) => elements(values[n + i])
      const [conversations, messages, kinds, senders, clients, hashes] = [1, 3, 4, 5, 6, 7].map(column)
      const [seqs, times] = [numbers(values[n + 2]), numbers(values[n + 8])]
      const bodies = JSON.parse(values[n + 9]) as unknown[]
      for (const [i, shard] of numbers(values[n]).entries()) {
        const epoch = passed.get(shard)
        if (epoch === undefined) continue
        events.push({
          conversation: conversations![i]!,
          senderId: senders![i]!,
          clientId: clients![i]!,
          seq: seqs[i]!,
          messageId: messages![i]!,
          kind: kinds![i]!,
          bodyHash: hashes![i]!,
          body: jsonb(JSON.stringify(bodies[i])),
          at: times[i]!,
          epoch,
        })
      }
      n += 10
    }
    const segments: { run: string; at: number; text: string }[] = []
    if (mask & 2) {
      const [shards, runs, offsets, , texts] = values.slice(n, n + 5)
      n += 5
      for (const [i, shard] of shards.entries()) {
        if (passed.has(shard)) segments.push({ run: runs[i], at: offsets[i], text: texts[i] })
      }
    }
    const sides = new Map<string, Row[]>()
    sideParts.forEach((part, i) => {
      if (mask & (4 << i))
        sides.set(
          part,
          (JSON.parse(values[n++]) as Row[]).filter(r => passed.has(r['shard'] as number)),
        )
    })
    this.#check(events, segments, sides)
    for (const [part, rows] of sides) for (const row of rows) this.#side(part, row as never)
    for (const e of events) {
      const c = this.conversations.get(e.conversation)
      if (!c) continue
      c.events.set(e.seq, e)
      c.head = Math.max(c.head, e.seq)
      this.clients.set(`${e.conversation}/${e.senderId}/${e.clientId}`, e)
    }
    for (const { run, at, text: piece } of segments) {
      const of = this.segments.get(run) ?? new Map<number, string>()
      this.segments.set(run, of.set(at, piece))
    }
    return [...passed.keys()].sort((a, b) => a - b).map(shard_id => ({ shard_id }))
  }

  /** Keys before anything is written: a violation leaves nothing. */
  #check(events: EventRecord[], segments: { run: string; at: number }[], sides: Map<string, Row[]>): void {
    for (const row of sides.get('conversationsAdded') ?? []) {
      if (this.conversations.has(row['conversation'] as string)) throw new SqlError('23505', 'conversation_pkey')
    }
    const positions = new Set<string>()
    const clients = new Set<string>()
    for (const e of events) {
      if (e.body.includes('\\u0000')) throw new SqlError('22P05')
      const position = `${e.conversation}/${e.seq}`
      const client = `${e.conversation}/${e.senderId}/${e.clientId}`
      const isTaken = this.conversations.get(e.conversation)?.events.has(e.seq) || positions.has(position)
      if (isTaken) throw new SqlError('23505', 'event_position')
      if (this.clients.has(client) || clients.has(client)) throw new SqlError('23505', 'event_client')
      positions.add(position)
      clients.add(client)
    }
    for (const { run, at } of segments) {
      if (this.segments.get(run)?.has(at)) throw new SqlError('23505', 'ai_segment_pkey')
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: rows of ten shapes
  #side(part: string, r: any): void {
    const c = this.conversations.get(r.conversation)
    switch (part) {
      case 'conversationsAdded':
        this.conversations.set(r.conversation, {
          ...{ id: r.conversation, shard: r.shard, kind: r.kind, title: r.title, toolPolicy: r.tool_policy },
          ...{ createdBy: r.created_by, deleted: r.deleted_at !== null, firstSeq: 1, head: 0 },
          members: new Map(),
          events: new Map(),
        })
        return
      case 'conversationsChanged':
        if (!c) return
        if (r.set_title) c.title = r.title
        c.toolPolicy = r.tool_policy ?? c.toolPolicy
        if (r.deleted_at !== null) c.deleted = true
        return
      case 'membersPut': {
        const known = c?.members.get(r.user_id) ?? { userId: r.user_id, readSeq: 0, deliveredSeq: 0 }
        c?.members.set(r.user_id, { ...known, role: r.role, joinedSeq: r.joined_seq })
        return
      }
      case 'membersChanged': {
        const known = c?.members.get(r.user_id)
        if (known) known.role = r.role
        return
      }
      case 'membersGone':
        c?.members.delete(r.user_id)
        return
      case 'blocksPut':
        this.blocks.add(`${r.blocker}>${r.blocked}`)
        return
      case 'blocksGone':
        this.blocks.delete(`${r.blocker}>${r.blocked}`)
        return
      case 'runsAdded':
        this.runs.set(r.id, { ...r })
        return
      case 'runsStarted':
        Object.assign(this.runs.get(r.id) ?? {}, { status: r.status, model: r.model, started_at: r.started_at })
        return
      case 'runsStatus':
        Object.assign(this.runs.get(r.id) ?? {}, { status: r.status })
        if (r.status !== 'queued') return
        for (const [slot, run] of this.slots) if (run === r.id) this.slots.delete(slot)
        return
      case 'runsEnded':
        Object.assign(this.runs.get(r.id) ?? {}, {
          status: 'ended',
          finish: r.finish,
          bytes: r.bytes,
          ended_at: r.ended_at,
        })
        for (const [slot, run] of this.slots) if (run === r.id) this.slots.delete(slot)
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: columns of three statements
  #look(name: string, v: any[]): Row[] {
    const found = (is: (i: number) => boolean): Row[] =>
      v[0].flatMap((at: number, i: number) => (is(i) ? [{ i: at }] : []))
    if (name === 'log_positions') {
      return found(i => this.conversations.get(v[1][i])?.events.get(v[2][i])?.epoch === v[3][i])
    }
    if (name === 'log_segments') return found(i => this.segments.get(v[1][i])?.has(v[2][i]) === true)
    return found(i => this.clients.has(`${v[1][i]}/${v[2][i]}/${v[3][i]}`))
  }

  // --- what needs no fence -----------------------------------------------------------------------------------------------

  // biome-ignore lint/suspicious/noExplicitAny: parameters of four statements
  #write(name: string, v: any[], now: number): Row[] | undefined {
    switch (name) {
      case 'dir_receipts':
        for (const [i, conversation] of v[0].entries()) {
          const m = this.conversations.get(conversation)?.members.get(v[1][i])
          if (!m) continue
          m.readSeq = Math.max(m.readSeq, v[2][i])
          m.deliveredSeq = Math.max(m.deliveredSeq, v[3][i], v[2][i])
        }
        return []
      case 'dir_take_slot': {
        const [user, run] = v
        let isHeld = [...this.slots.values()].includes(run)
        for (let n = 1; !isHeld && n <= turnsRunningPerUserMax; n++) {
          if (this.slots.has(`${user}/${n}`)) continue
          this.slots.set(`${user}/${n}`, run)
          isHeld = true
        }
        return [{ held: isHeld }]
      }
      case 'budget_reserve':
        // Tokens are without limit here, and nobody counts them.
        return [{ isGranted: true, userUsed: 0, allUsed: 0, resetsInMs: 0 }]
      case 'budget_settle':
        return []
      case 'dir_context':
        // What a turn was shown; nobody here asks.
        return []
      case 'dir_free_slots':
        for (const [slot, run] of this.slots) {
          if (slot.startsWith(v[0]) && this.runs.get(run)?.status === 'ended') this.slots.delete(slot)
        }
        return []
      case 'dir_purge_segments':
        for (const id of v[0]) if (this.runs.get(id)?.status === 'ended') this.segments.delete(id)
        return []
      case 'dir_purge_left_segments': {
        let count = 0
        for (const [id, run] of this.runs) {
          const isOld = run.status === 'ended' && Number(run['ended_at'] ?? now) < now - segmentsKeptMs
          if (!isOld || !v[0].includes(run.shard)) continue
          count += this.segments.get(id)?.size ?? 0
          this.segments.delete(id)
        }
        return [{ count }]
      }
      default:
        return undefined
    }
  }
}
