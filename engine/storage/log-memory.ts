/**
 * The log in memory: the same fence, keys and all-or-nothing statement as on Postgres, for tests and the simulation.
 * Passes the journal's contract suite. Nothing of it outlives the process.
 */
import type { Contribution, EventRow, MemberRow, RunRow, SideChange, ToolCall } from '#engine/actor/ports.ts'
import type { ConversationKind, Finish, ToolPolicy } from '#protos/catalogue.ts'
import type { ClientKey, CommitResult, LogStore } from './log-store.ts'
import type { ShardEpoch } from './ownership.ts'

export interface MemoryEvent extends EventRow {
  epoch: number
}

export interface MemoryRun extends RunRow {
  model: string | null
  finish: Finish | null
  endedAt: number | null
  bytes: number
  /** Offset → text. */
  segments: Map<number, string>
  /** In order of round and place. */
  calls: ToolCall[]
}

export interface MemoryConversation {
  id: string
  shard: number
  kind: ConversationKind
  title: string | null
  toolPolicy: ToolPolicy
  createdBy: string
  createdAt: number
  deletedAt: number | null
  firstSeq: number
  members: Map<string, MemberRow & { joinedAt: number }>
}

/** The database: shared by the journals of several workers as Postgres is. */
export class MemoryDatabase {
  readonly epochs = new Map<number, number>()
  readonly conversations = new Map<string, MemoryConversation>()
  readonly events = new Map<string, MemoryEvent[]>()
  readonly clients = new Map<string, { conversation: string; event: MemoryEvent }>()
  readonly runs = new Map<string, MemoryRun>()
  readonly conversationOfRun = new Map<string, string>()
  /** `${blocker}>${blocked}` */
  readonly blocks = new Set<string>()
  /** `${user}/${n}` → run. */
  readonly slots = new Map<string, string>()
  /** `${run}/${round}` → positions. */
  readonly contexts = new Map<string, readonly number[]>()
  readonly names = new Map<string, { username: string | null; displayName: string | null }>()
  #epoch = 0

  nextEpoch(): number {
    return ++this.#epoch
  }

  /** Gives the shard a fresh epoch: a claim, a stamp, or another owner's coming. */
  move(shard: number): number {
    const epoch = this.nextEpoch()
    this.epochs.set(shard, epoch)
    return epoch
  }

  commit(contributions: readonly Contribution[]): Exclude<CommitResult, { kind: 'unknown' | 'retry' | 'full' }> {
    const shards = new Set<number>()
    for (const c of contributions) if (this.epochs.get(c.shard) === c.epoch) shards.add(c.shard)
    const passing = contributions.filter(c => shards.has(c.shard))
    const ids = new Set<string>()
    for (const c of passing) {
      let next = (this.events.get(c.conversation)?.length ?? 0) + 1
      for (const e of c.events) {
        // What JSON of the database cannot hold.
        if (e.body.includes('\\u0000')) return { kind: 'data', code: '22P05' }
        const key = clientKey(c.conversation, e.senderId, e.clientId)
        if (this.clients.has(key) || ids.has(key)) return { kind: 'duplicate' }
        ids.add(key)
        if (e.seq !== next++) return { kind: 'head' }
      }
      for (const s of c.segments) if (this.runs.get(s.runId)?.segments.has(s.offset)) return { kind: 'head' }
      for (const s of c.sides) {
        if (s.kind === 'conversation.created' && this.conversations.has(c.conversation)) return { kind: 'head' }
      }
    }
    for (const c of passing) {
      const log = this.events.get(c.conversation) ?? []
      if (c.events.length > 0) this.events.set(c.conversation, log)
      for (const e of c.events) {
        const event = { ...e, epoch: c.epoch }
        log.push(event)
        this.clients.set(clientKey(c.conversation, e.senderId, e.clientId), { conversation: c.conversation, event })
      }
      for (const side of c.sides) this.#apply(c, side)
      for (const s of c.segments) this.runs.get(s.runId)?.segments.set(s.offset, s.text)
    }
    return { kind: 'done', shards }
  }

  #apply(c: Contribution, side: SideChange): void {
    const conversation = this.conversations.get(c.conversation)
    const member = (userId: string, role: MemberRow['role'], joinedSeq: number, joinedAt: number) => ({
      userId,
      role,
      joinedSeq,
      joinedAt,
      readSeq: 0,
      deliveredSeq: 0,
    })
    switch (side.kind) {
      case 'conversation.created':
        this.conversations.set(c.conversation, {
          id: c.conversation,
          shard: c.shard,
          kind: side.conversationKind,
          title: side.title,
          toolPolicy: 'requester',
          createdBy: side.createdBy,
          createdAt: side.at,
          deletedAt: null,
          firstSeq: 1,
          members: new Map(side.members.map(m => [m.userId, member(m.userId, m.role, m.seq, side.at)])),
        })
        return
      case 'conversation.updated':
        if (!conversation) return
        if (side.title !== undefined) conversation.title = side.title
        if (side.toolPolicy !== undefined) conversation.toolPolicy = side.toolPolicy
        return
      case 'conversation.deleted':
        if (conversation) conversation.deletedAt = side.at
        return
      case 'member.added':
        conversation?.members.set(side.userId, member(side.userId, side.role, side.seq, side.at))
        return
      case 'member.removed':
        conversation?.members.delete(side.userId)
        return
      case 'member.role': {
        const known = conversation?.members.get(side.userId)
        if (known) known.role = side.role
        return
      }
      case 'block': {
        const key = `${side.blocker}>${side.blocked}`
        if (side.set) this.blocks.add(key)
        else this.blocks.delete(key)
        return
      }
      case 'run.queued': {
        const { run } = side
        this.runs.set(run.id, {
          ...run,
          startedAt: null,
          model: null,
          finish: null,
          endedAt: null,
          bytes: 0,
          segments: new Map(),
          calls: [],
        })
        this.conversationOfRun.set(run.id, c.conversation)
        return
      }
      case 'run.started': {
        const run = this.runs.get(side.runId)
        if (run) Object.assign(run, { status: 'running', model: side.model, startedAt: side.at })
        return
      }
      case 'run.status': {
        const run = this.runs.get(side.runId)
        if (run) run.status = side.status
        if (side.status === 'queued') this.#freeSlot(side.runId)
        return
      }
      case 'tool.called':
        this.runs.get(side.runId)?.calls.push({ ...side.call, decision: null, status: 'pending', result: null })
        return
      case 'tool.decided':
        return this.#change(side, { decision: side.decision })
      case 'tool.returned':
        return this.#change(side, { status: side.status, result: side.result })
      case 'run.ended': {
        const run = this.runs.get(side.runId)
        if (run) Object.assign(run, { status: 'ended', finish: side.finish, bytes: side.bytes, endedAt: side.at })
        this.#freeSlot(side.runId)
        return
      }
      default:
        side satisfies never
    }
  }

  #freeSlot(runId: string): void {
    for (const [slot, held] of this.slots) if (held === runId) this.slots.delete(slot)
  }

  #change({ runId, callId }: { runId: string; callId: string }, change: Partial<ToolCall>): void {
    const run = this.runs.get(runId)
    if (run) run.calls = run.calls.map(c => (c.callId === callId ? { ...c, ...change } : c))
  }
}

export function clientKey(conversation: string, senderId: string, clientId: string): string {
  return `${conversation}/${senderId}/${clientId}`
}

/** One worker's view of it. Answers in a later turn of the event loop, as a database would. */
export class MemoryLog implements LogStore {
  onLost = (): void => {}
  connected = false
  readonly #database: MemoryDatabase

  constructor(database: MemoryDatabase) {
    this.#database = database
  }

  async connect(): Promise<void> {
    await turn()
    this.connected = true
  }

  discard(): void {
    if (!this.connected) return
    this.connected = false
    this.onLost()
  }

  async commit(contributions: readonly Contribution[]): Promise<CommitResult> {
    await turn()
    return this.#database.commit(contributions)
  }

  async stamp(held: readonly ShardEpoch[]): Promise<ShardEpoch[]> {
    await turn()
    return held
      .filter(({ shard, epoch }) => this.#database.epochs.get(shard) === epoch)
      .map(({ shard }) => ({ shard, epoch: this.#database.move(shard) }))
  }

  async areStored(contributions: readonly Contribution[]): Promise<boolean[]> {
    await turn()
    return contributions.map(c => {
      const event = c.events[0]
      const segment = c.segments[0]
      if (event) return this.#database.events.get(c.conversation)?.[event.seq - 1]?.epoch === c.epoch
      return segment !== undefined && this.#database.runs.get(segment.runId)?.segments.has(segment.offset) === true
    })
  }

  async findClients(keys: readonly ClientKey[]): Promise<ClientKey[]> {
    await turn()
    return keys.filter(k => this.#database.clients.has(clientKey(k.conversation, k.senderId, k.clientId)))
  }

  async close(): Promise<void> {
    this.connected = false
  }
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
