/**
 * What an actor needs from the world, by contract: journal, directory, fan-out, provider. Adapters live in engine/storage,
 * engine/server and engine/assistant; each has a twin that passes the same contract suite.
 * Ownership rules behind the journal: at most one statement in flight per worker, fenced by the shard's epoch; three
 * outcomes (stored, not stored, unknown), of which an actor sees two: unknown is resolved inside the journal.
 */
import type { EventRow, RunRow, RunStatus, SegmentRow, SideChange, ToolStatus } from '#engine/conversation/effects.ts'
import type { ToolCall } from '#engine/conversation/state.ts'
import type { ConversationKind, DurableType, MemberRole, ToolPolicy } from '#protos/catalogue.ts'
import type { Label, LetterKind } from '#protos/letter.ts'

// --- journal -----------------------------------------------------------------------------------------------------------

export type { EventRow, RunRow, RunStatus, SegmentRow, SideChange, ToolCall, ToolStatus }

/** What one actor wants stored by the next statement. All of it is stored, or none. */
export interface Contribution {
  shard: number
  epoch: number
  conversation: string
  events: EventRow[]
  segments: SegmentRow[]
  sides: SideChange[]
}

export type Outcome =
  /** Committed. Acks and facts may leave. */
  | { kind: 'stored' }
  /** The shard is another's now: answer not_owner, forget the state. */
  | { kind: 'fenced' }
  /** Nothing stored: these client ids are in the log already. Read again, answer those, take the rest again. */
  | { kind: 'duplicates'; clientIds: ReadonlySet<string> }
  /** Nothing stored, and never will be as it stands; the take was a single letter: refuse it. */
  | { kind: 'culprit'; code: string }
  /** Nothing stored through no fault of these rows, or a doubtful statement is now known to be absent: read again, take again. */
  | { kind: 'again' }
  /** Nothing stored: the database has no room or takes no connections. Refuse with UNAVAILABLE. */
  | { kind: 'refused'; retryAfterMs: number }

/** An actor as the journal sees it. All three are called by the journal only, in order take → settle → take …; none may throw. */
export interface Source {
  readonly conversation: string
  readonly shard: number
  /**
   * Rows of what waits, numbered from the committed head; undefined when nothing waits. `letters` bounds how many waiting
   * letters may be used (1 when a culprit is being looked for). May exceed `rows` only by what a single letter needs.
   */
  take(room: { rows: number; bytes: number; letters: number }): Contribution | undefined
  settle(outcome: Outcome): void
}

export interface Journal {
  /** Something waits at this source: it will be asked soon, once, in the order of offers. Idempotent while it waits. */
  offer(source: Source): void
  /**
   * Counts losses of the writer connection. A head read under an older generation is doubtful: read it again before the
   * next take (a take of such an actor must return undefined and the actor offers itself again after its read).
   */
  readonly generation: number
  /** The epoch under which this worker holds the shard now (a stamp moves it), or undefined when it does not. */
  epochOf(shard: number): number | undefined
  /** Rows per second over the last second of completed statements; undefined when none completed within 1 s. */
  rowsPerSecond(): number | undefined
  /** Bytes of segments taken or waiting to be stored; the assistant stops pulling above deltaBacklogBytesMax. */
  close(): Promise<void>
}

// --- directory: reads on the primary ------------------------------------------------------------------------------------

export interface MemberRow {
  userId: string
  role: MemberRole
  joinedSeq: number
  readSeq: number
  deliveredSeq: number
}

/** A conversation as the log has it. */
export interface Activation {
  id: string
  kind: ConversationKind
  title: string | null
  toolPolicy: ToolPolicy
  createdBy: string
  deleted: boolean
  head: number
  firstSeq: number
  members: MemberRow[]
  /** Runs that have not ended, oldest first, each with its stored prefix. */
  runs: (RunRow & { prefix: string; calls: ToolCall[] })[]
  /** Blocks between the two of a dm, as `${blocker}>${blocked}`; empty for other kinds. */
  blocks: string[]
}

export interface StoredSend {
  conversation: string
  senderId: string
  clientId: string
  seq: number
  messageId: string
  kind: DurableType
  /** Hex. */
  bodyHash: string
}

/** A durable frame as it goes to clients: the JSON of the whole frame, ts included, deleted text masked. */
export interface StoredFrame {
  seq: number
  messageId: string
  json: string
}

export interface Directory {
  /** Reads conversations afresh, blocks of dms that do not exist yet included (then `kind: 'dm'`, head 0 is absent). Missing ids are left out. */
  activate(ids: readonly string[]): Promise<Map<string, Activation>>
  /** Blocks between two users, either way, as `${blocker}>${blocked}`. */
  blocksBetween(a: string, b: string): Promise<string[]>
  /** Which of these client ids are stored, with what. */
  lookup(keys: readonly { conversation: string; senderId: string; clientId: string }[]): Promise<StoredSend[]>
  /** The message.new rows with these message ids, in these conversations. */
  messages(keys: readonly { conversation: string; messageId: string }[]): Promise<StoredSend[]>
  /** Whose turn each of these calls of a tool was in. */
  requesters(
    keys: readonly { conversation: string; callId: string }[],
  ): Promise<{ conversation: string; callId: string; requester: string }[]>
  /** Heads from the log, and the shards' epochs at the same moment: what makes "caught up" true. */
  heads(ids: readonly string[]): Promise<Map<string, { head: number; firstSeq: number; epoch: number }>>
  /** Events after `after`, in order, up to both limits; `more` when the limits cut it. */
  events(
    conversation: string,
    after: number,
    limits: { events: number; bytes: number },
  ): Promise<{ frames: StoredFrame[]; more: boolean }>
  /** Receipt positions: one batched, commutative upsert. `mark`: also append to receipt_mark (≤ 100 members). */
  flushReceipts(rows: readonly ReceiptRow[]): Promise<void>
  /** Conversations of these shards with runs that have not ended. */
  openRuns(shards: readonly number[]): Promise<string[]>
  /** Takes one of the requester's running slots for this run; false when both are taken. Idempotent per run; slots of ended runs are freed first. */
  takeSlot(requester: string, runId: string): Promise<boolean>
  /** Names for the assistant's context, by user id. */
  names(userIds: readonly string[]): Promise<Map<string, { username: string | null; displayName: string | null }>>
  /** Whom of these the user has blocked: their words are not put before the model on the user's behalf. */
  blockedBy(userId: string, others: readonly string[]): Promise<string[]>
  /** Keeps which positions of the log a round of a run was shown; of a round that is asked again, the latest. */
  noteContext(context: { runId: string; round: number; conversation: string; seqs: readonly number[] }): Promise<void>
  /** Removes segments of ended runs. */
  purgeSegments(runIds: readonly string[]): Promise<void>
  /** Removes segments of runs of these shards that ended a while ago, a bounded number at a time. `isAll`: none is left. */
  purgeLeftSegments(shards: readonly number[]): Promise<{ isAll: boolean }>
}

export interface ReceiptRow {
  conversation: string
  userId: string
  readSeq: number
  deliveredSeq: number
  at: number
  mark: boolean
}

// --- fan-out -------------------------------------------------------------------------------------------------------------

/** Where acks and facts leave. Everything handed over within one turn of the event loop leaves in one gRPC message per gateway. */
export interface Fanout {
  /** To the gateway that the letter came from. A vanished gateway is no error: it asks again. */
  answer(to: Origin, label: Label, body: Uint8Array): void
  /** To each gateway that attached the conversation. */
  publish(label: Label, body: Uint8Array): void
  /** To all gateways, which filter by label.subject. */
  toUser(label: Label, body: Uint8Array): void
}

/** The link that a letter came by. Opaque to the actor. */
export interface Origin {
  readonly linkId: number
}

/** A letter as the relay hands it to the registry: label checked for shard, epoch and order; the body is not. */
export interface Delivery {
  label: Label
  body: Uint8Array
  origin: Origin
  /** Monotonic ms at which it arrived in this worker; its age is label.age plus the time since. */
  arrivedAt: number
}

/** What the relay offers to the actors' room. */
export interface Actors {
  /** Takes a command letter. Answers through the Fanout. False when a mailbox is full (the relay refuses with OVERLOADED). */
  deliver(delivery: Delivery): boolean
  /**
   * The committed head of a conversation that is in memory and provably this owner's: everything above it will be published
   * later than this. Undefined: only the log knows.
   */
  headOf(conversation: string): number | undefined
  /** Forgets all actors of these shards at once; what waits is answered not_owner by the relay's refusal letter. */
  release(shards: readonly number[]): void
  /** After a claim: activates what has open runs. */
  adopt(shards: readonly number[]): Promise<void>
  /** From now on no turn starts: whoever owns the shards next starts it. */
  quiesce(): void
  /** The same for some shards, until they are released or `unhush`ed. */
  hush(shards: readonly number[]): void
  unhush(shards: readonly number[]): void
  /** Shards with a turn that runs here and that nobody else could go on with. */
  busyShards(): number[]
  /** Drain: no new turns; running ones end `interrupted` (or `shutdown`), receipts are flushed. */
  drain(): Promise<void>
}

/** How the actors' room sends a letter back to be routed elsewhere. */
export interface Refuser {
  notOwner(delivery: Delivery): void
  /** Answers an error frame and marks the (socket, conversation) behind, so that later letters of the pair are refused too. */
  overloaded(delivery: Delivery, code: 'OVERLOADED' | 'UNAVAILABLE' | 'RLIMIT', retryAfterMs: number): void
}

export type { LetterKind }

// --- provider --------------------------------------------------------------------------------------------------------------

export type TurnMessage =
  | { role: 'system' | 'user'; content: string }
  | { role: 'assistant'; content: string; calls?: ModelCall[] }
  | { role: 'tool'; callId: string; content: string }

/** A call as a model writes it; nothing of it is checked. */
export interface ModelCall {
  id: string
  name: string
  arguments: string
}

/** A tool as a model is shown it. */
export interface ToolOffer {
  name: string
  description: string
  /** JSON Schema. */
  parameters: Record<string, unknown>
}

export interface TurnRequest {
  runId: string
  messages: TurnMessage[]
  /** Empty: none may be called. */
  tools: readonly ToolOffer[]
  outputTokensMax: number
  /** UTF-8 bytes that the answer has room for; absent: a whole answer's. */
  textBytesMax?: number
  signal: AbortSignal
  trace: string
}

/** What a provider yields, in order: deltas, then exactly one end, or the calls that end this round. It never throws and never yields after its end. */
export type TurnEvent =
  | { kind: 'delta'; text: string }
  | {
      kind: 'calls'
      /** At least one; at most one more than a turn may make. */
      calls: ModelCall[]
      tokens: { input: number; output: number; total: number; estimated: boolean }
    }
  | {
      kind: 'end'
      finish: 'stop' | 'length' | 'filtered' | 'failed' | 'stopped'
      /** Of a failure: connect, first_token, idle, deadline, protocol, refused, quota, breaker. */
      reason?: string
      /** Of `quota`: what the provider asked for, ms. */
      retryAfterMs?: number
      /** From the provider's usage, else estimated. */
      tokens: { input: number; output: number; total: number; estimated: boolean }
    }

/** The model. Pulled: it reads upstream only while somebody awaits the next event. */
export interface Provider {
  readonly model: string
  stream(request: TurnRequest): AsyncIterable<TurnEvent>
}

// --- budget ------------------------------------------------------------------------------------------------------------------

/** Tokens of the day. A reservation counts in full until it is settled; the same round of a run is reserved once. */
export interface Budget {
  reserve(ask: { runId: string; userId: string; round: number; tokens: number }): Promise<
    | { isGranted: true }
    | {
        isGranted: false
        /** Whose tokens are missing: the person's, or those of all together. */
        scope: 'user' | 'all'
        left: number
        resetsInMs: number
      }
  >
  /** What the request of a round has cost; the second time it changes nothing. */
  settle(spent: { runId: string; round: number; input: number; output: number; estimated: boolean }): Promise<void>
}

// --- tools -------------------------------------------------------------------------------------------------------------------

/** The tools of the assistant's turns. */
export interface Toolbox {
  readonly offers: readonly ToolOffer[]
  /** Whether a call is lost when whoever made it goes: a turn at such a call is not handed over. Absent: none is. */
  isBound?(name: string): boolean
  /** Makes a call fit for the log. Never throws: arguments that are no JSON become a text that no tool takes. */
  read(call: ModelCall): { name: string; arguments: string; hash: string; approval: 'auto' | 'required' }
  /**
   * Makes a call that stands in the ledger, with the requester's identity. The same call again gives its first result.
   * Resolves within the time limit of a call, never rejects; `result` is JSON within the size limit of one.
   */
  run(call: {
    runId: string
    callId: string
    requester: string
    name: string
    /** JSON, as it was read. */
    arguments: string
    /** What the person said. */
    hint: string
    trace: string
  }): Promise<{ status: ToolStatus; result: string }>
}
