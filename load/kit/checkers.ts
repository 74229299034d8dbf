/**
 * Decides from a recorded history whether the promises about acks, order and resume were kept. Pure: a history goes in,
 * sentences about what is wrong come out, none means that all held. Each checker is proved by bugs planted in its tests.
 */

export interface History {
  attempts: Attempt[]
  /** Durable events in the order in which each connection got them. */
  deliveries: Delivery[]
  /** Joins that were answered `room.joined`. */
  joins: Join[]
  /** Final rows from the log, by SQL. */
  rows: Row[]
  /** The same as a member reads them by REST. */
  restRows: Omit<Row, 'epoch' | 'clientId'>[]
  /** Where a log begins that lost its head to retention; 1 unless told. */
  firstSeqs?: Record<string, number>
  /** Pages of the raw log that somebody read in the middle of the run. */
  reads?: HistoryRead[]
}

export interface HistoryRead {
  conversation: string
  /** Monotonic ms before the request left. */
  invokedAt: number
  after: number
  limit: number
  /** What came, in order. */
  seqs: number[]
}

export interface Attempt {
  sender: string
  connection: number
  conversation: string
  clientId: string
  content: string
  /** Monotonic ms: before the bytes are written, and when the answer is parsed. */
  invokedAt: number
  completedAt?: number
  /** The device left of its own accord before an answer came; nobody waits until it is back. */
  abandonedAt?: number
  /** `duplicate`: the ack said that an earlier attempt had stored it; left out where nobody recorded that. */
  outcome:
    | { kind: 'ok'; seq: number; messageId: string; duplicate?: boolean }
    | { kind: 'refused'; code: string }
    | { kind: 'unknown' }
}

export interface Row {
  conversation: string
  seq: number
  kind: string
  senderId: string
  clientId: string
  messageId: string
  content: string | undefined
  epoch: number
}

export interface Delivery {
  connection: number
  conversation: string
  seq: number
  kind: string
  messageId: string | undefined
  content: string | undefined
  /** Head that `ready` (or conversation.added) gave this connection for the conversation. */
  readyHead: number
  /** Set on what a join replayed: its number within the connection. */
  join?: { number: number; afterSeq: number }
}

export interface Join {
  connection: number
  conversation: string
  number: number
  afterSeq: number
  headSeq: number
}

/** At most this many sentences of one kind: one lost commit would else fill the screen. */
const problemsShownMax = 20

/** All checkers together. */
export function check(history: History): string[] {
  return [...checkLog(history), ...checkOrder(history), ...checkResume(history), ...checkEpochs(history)]
}

/** C1: every ack is in the log at its position, nothing twice, no hole, nothing that nobody sent. */
export function checkLog({ attempts, rows, restRows, firstSeqs = {} }: History): string[] {
  const problems = new Problems('C1')
  const logs = byConversation(rows)
  for (const [conversation, log] of logs) {
    const first = firstSeqs[conversation] ?? 1
    for (const [i, row] of log.entries()) {
      if (row.seq !== i + first) {
        problems.add(`${conversation}: seq ${i + first} is missing or double (found ${row.seq})`)
        break
      }
    }
    const seen = new Map<string, number>()
    for (const row of log) {
      const key = `${row.senderId} ${row.clientId}`
      if (seen.has(key)) problems.add(`${conversation}: ${row.clientId} is at ${seen.get(key)} and at ${row.seq}`)
      seen.set(key, row.seq)
    }
  }
  const rest = byConversation(restRows)
  for (const [conversation, log] of logs) {
    const read = rest.get(conversation) ?? []
    const isSame =
      read.length === log.length &&
      log.every((row, i) => {
        const other = read[i]!
        return (
          row.seq === other.seq &&
          row.kind === other.kind &&
          (row.kind !== 'message.new' || (row.messageId === other.messageId && row.content === other.content))
        )
      })
    if (!isSame) problems.add(`${conversation}: SQL has ${log.length} events, REST tells ${read.length} or others`)
  }
  const invoked = new Map<string, Attempt[]>()
  for (const a of attempts) push(invoked, `${a.conversation} ${a.sender} ${a.clientId}`, a)
  const stored = new Map(rows.map(row => [`${row.conversation} ${row.senderId} ${row.clientId}`, row]))
  for (const [key, same] of invoked) {
    const { conversation, sender, clientId, content } = same[0]!
    const log = logs.get(conversation) ?? []
    const first = firstSeqs[conversation] ?? 1
    const row = stored.get(key)
    const seqs = new Set(same.flatMap(a => (a.outcome.kind === 'ok' ? [a.outcome.seq] : [])))
    if (seqs.size > 1) problems.add(`${clientId} was acked at ${[...seqs].join(' and ')}`)
    for (const a of same) {
      if (a.outcome.kind !== 'ok') continue
      if (a.outcome.seq < first) continue
      const at = log[a.outcome.seq - first]
      if (!at || at.seq !== a.outcome.seq) problems.add(`${clientId} was acked at ${a.outcome.seq}, where nothing is`)
      else if (at.clientId !== clientId || at.senderId !== sender)
        problems.add(`${clientId} was acked at ${a.outcome.seq}, where ${at.clientId} is`)
      else if (at.content !== content || at.messageId !== a.outcome.messageId)
        problems.add(`${clientId} at ${a.outcome.seq} is not what was sent`)
    }
    if (row && same.every(a => a.outcome.kind === 'refused'))
      problems.add(`${clientId} was refused each time and is at ${row.seq}`)
    const firstOk = same.find(a => a.outcome.kind === 'ok')
    if (firstOk?.outcome.kind === 'ok' && firstOk.outcome.duplicate) {
      // Somebody stored it before: an attempt that is still unknown, or one that was told it would never be.
      const before = same.filter(a => a.invokedAt < firstOk.invokedAt)
      if (before.length > 0 && before.every(a => a.outcome.kind === 'refused'))
        problems.add(`${clientId} was refused and had been stored: the next attempt was a duplicate`)
    }
  }
  for (const row of rows) {
    if (row.kind === 'message.new' && !invoked.has(`${row.conversation} ${row.senderId} ${row.clientId}`))
      problems.add(`${row.conversation}: nobody sent what is at ${row.seq}`)
  }
  return problems.list
}

/** C2: one truth for each position, acks in real time, sends of a connection in their order. */
export function checkOrder({ attempts, deliveries, rows, reads = [] }: History): string[] {
  const problems = new Problems('C2')
  const truth = new Map(rows.map(row => [`${row.conversation} ${row.seq}`, row]))
  for (const d of deliveries) {
    const row = truth.get(`${d.conversation} ${d.seq}`)
    if (!row) problems.add(`${d.conversation}: ${d.seq} was shown and is not in the log`)
    else if (
      row.kind !== d.kind ||
      (d.kind === 'message.new' && (row.messageId !== d.messageId || row.content !== d.content))
    )
      problems.add(`${d.conversation}: what was shown as ${d.seq} is not what the log has`)
  }
  const begunAt = new Map<string, number>()
  const idOf = (a: Attempt) => `${a.conversation} ${a.sender} ${a.clientId}`
  const sentBy = group(attempts, idOf)
  for (const a of attempts) {
    const key = idOf(a)
    begunAt.set(key, Math.min(begunAt.get(key) ?? Number.POSITIVE_INFINITY, a.invokedAt))
  }
  const acked = attempts.filter(a => a.outcome.kind === 'ok' && a.completedAt !== undefined)
  for (const [conversation, list] of group(acked, a => a.conversation)) {
    // A send begun after an ack has the larger seq; the first attempt of an id is when it was begun.
    const begun = new Map<string, Attempt>()
    for (const a of list.toSorted((a, b) => a.invokedAt - b.invokedAt)) {
      const key = `${a.sender} ${a.clientId}`
      if (!begun.has(key)) begun.set(key, a)
    }
    const events = [...begun].flatMap(([key, a]) => [
      { at: begunAt.get(`${conversation} ${key}`)!, isAck: false, seq: seqOf(a) },
      { at: a.completedAt!, isAck: true, seq: seqOf(a) },
    ])
    events.sort((a, b) => a.at - b.at || Number(a.isAck) - Number(b.isAck))
    let highest = 0
    for (const event of events) {
      if (event.isAck) highest = Math.max(highest, event.seq)
      else if (event.seq < highest) problems.add(`${conversation}: ${event.seq} was begun after ${highest} was acked`)
    }
  }
  for (const [pair, list] of group(acked, a => `connection ${a.connection} in ${a.conversation}`)) {
    // An id sent again may have been stored by an earlier attempt, in that one's place; so first attempts are compared, and
    // none of an id that went out on another connection before its answer came.
    const isFirst = (a: Attempt) =>
      begunAt.get(idOf(a)) === a.invokedAt &&
      !sentBy.get(idOf(a))!.some(b => b.connection !== a.connection && b.invokedAt <= a.completedAt!)
    const firsts = list.filter(isFirst).toSorted((a, b) => a.invokedAt - b.invokedAt)
    for (let i = 1; i < firsts.length; i++) {
      if (seqOf(firsts[i]!) < seqOf(firsts[i - 1]!))
        problems.add(`${pair}: ${seqOf(firsts[i]!)} was sent after ${seqOf(firsts[i - 1]!)}`)
    }
  }
  const ackedIn = group(acked, a => a.conversation)
  for (const read of reads) {
    const got = new Set(read.seqs)
    const isLast = read.seqs.length < read.limit
    const end = isLast ? Number.POSITIVE_INFINITY : read.seqs.at(-1)!
    for (const a of ackedIn.get(read.conversation) ?? []) {
      const seq = seqOf(a)
      if (a.completedAt! < read.invokedAt && seq > read.after && seq <= end && !got.has(seq))
        problems.add(`${read.conversation}: ${seq} was acked and then not in what was read after ${read.after}`)
    }
  }
  return problems.list
}

/** C3: on each connection the live events are dense from `ready`'s head, and each replay is dense from its position to its head. */
export function checkResume({ deliveries, joins }: History): string[] {
  const problems = new Problems('C3')
  for (const [pair, list] of group(deliveries, d => `connection ${d.connection} in ${d.conversation}`)) {
    let live = list[0]!.readyHead
    let join = 0
    let replayed = 0
    for (const d of list) {
      if (d.join) {
        // What was pushed while the join was under way may be the first of the replay, and then comes again with it.
        if (d.join.number !== join || d.seq === d.join.afterSeq + 1) {
          join = d.join.number
          replayed = d.join.afterSeq
        }
        if (d.seq !== replayed + 1) problems.add(`${pair}: a replay went from ${replayed} to ${d.seq}`)
        replayed = d.seq
        live = Math.max(live, d.seq)
      } else {
        if (d.seq !== live + 1) problems.add(`${pair}: live went from ${live} to ${d.seq}`)
        live = Math.max(live, d.seq)
      }
    }
  }
  const joinKey = (connection: number, conversation: string, n: number) => `${connection} ${conversation} ${n}`
  const replayEnds = new Map<string, number>()
  for (const d of deliveries) if (d.join) replayEnds.set(joinKey(d.connection, d.conversation, d.join.number), d.seq)
  for (const j of joins) {
    const end = replayEnds.get(joinKey(j.connection, j.conversation, j.number)) ?? j.afterSeq
    if (end !== j.headSeq)
      problems.add(
        `connection ${j.connection} in ${j.conversation}: joined at ${j.headSeq}, the replay ended at ${end}`,
      )
  }
  return problems.list
}

/** C7, from SQL alone: along a log the owner's epoch never goes back. */
export function checkEpochs({ rows }: History): string[] {
  const problems = new Problems('C7')
  for (const [conversation, log] of byConversation(rows)) {
    for (let i = 1; i < log.length; i++) {
      if (log[i]!.epoch < log[i - 1]!.epoch)
        problems.add(`${conversation}: epoch ${log[i]!.epoch} at ${log[i]!.seq} after ${log[i - 1]!.epoch}`)
    }
  }
  return problems.list
}

export class Problems {
  readonly list: string[] = []
  readonly #name: string
  #count = 0
  constructor(name: string) {
    this.#name = name
  }
  add(text: string): void {
    this.#count++
    if (this.#count <= problemsShownMax) this.list.push(`${this.#name} ${text}`)
    else this.list[problemsShownMax] = `${this.#name} and ${this.#count - problemsShownMax} more`
  }
}

const seqOf = (a: Attempt) => (a.outcome.kind === 'ok' ? a.outcome.seq : 0)

export function byConversation<R extends { conversation: string; seq: number }>(rows: readonly R[]): Map<string, R[]> {
  const out = group(rows, row => row.conversation)
  for (const log of out.values()) log.sort((a, b) => a.seq - b.seq)
  return out
}

export function group<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const out = new Map<string, T[]>()
  for (const item of items) push(out, key(item), item)
  return out
}

export function push<T>(map: Map<string, T[]>, key: string, item: T): void {
  const list = map.get(key)
  if (list) list.push(item)
  else map.set(key, [item])
}
