/**
 * C4: what people saw of an answer, against the log and against what the model was asked and sent. Pure: records in, sentences
 * out; no sentence means that it holds. Owns no judgement about how long things may take beyond the figures given to it.
 */
import { createHash } from 'node:crypto'

/** One request to the model, as the scripted model wrote it down. Times are monotonic ms of one process. */
export interface Inference {
  run: string
  round: number
  /** 1 for the first request of this round. */
  attempt: number
  at: number
  /** The text that it would send if it were let. */
  planned: string
  sentBytes: number
  /** Pairs of (bytes so far, when), where a bench asked for them. */
  sentAt?: number[]
  closedAt?: number
}

/** What one socket saw of one answer between a join and the end of that join. */
export interface View {
  /** For people: who, and by which connection. */
  who: string
  answerId: string
  pieces: { at: number; offset: number; content: string }[]
  /** Every chat.done. */
  dones: { at: number; bytes: number; sha256: string; finish: string; seq: number }[]
  /** When the answer's message.new came on this socket, if it came live. */
  messageAt?: number
  messageContent?: string
  errors: { at: number; reason: string }[]
  /** Its message.new came before the join's answer, with all of the text: only chat.done may follow. */
  isReplayed?: boolean
  /** From the join's answer to leave, cut or the next join; undefined: to the end of the record. */
  joinedAt: number
  endedAt?: number
}

export interface Answer {
  content: string
  finish: string
  seq: number
}

/** One turn from the question to what the database has in the end. */
export interface TurnRecord {
  run: string
  /** What the script says about a turn that nothing else happened to. */
  expected: { finish: string; text: 'whole' | 'prefix' | 'none'; inferences: number; reason?: string }
  answerId: string | undefined
  /** Rows of the log: messages of the assistant that answer the question. */
  answers: Answer[]
  /** ai_run. */
  row: { status: string; finish: string | null; bytes: number } | undefined
  views: View[]
  inferences: Inference[]
  /** Rows of tasks that carry the turn's mark, at the end, and how many there ought to be; undefined: not asked. */
  tasks?: { found: number; expected: number }
  /** Tool calls that acted more than once. */
  effectsTwice: number
  /** When somebody asked for the stop. */
  stopAt?: number
  /** Faults of the cluster that overlapped with it: it may have been interrupted. */
  struckBy: string[]
  /** The breaker was open, or the provider away: it may have failed before anything was shown. */
  mayFail: boolean
  endedAt?: number
}

export interface StreamLimits {
  /** From a stop until the request upstream is given up. */
  cancelMs: number
  /** A chat.done that was lost with its link is made again within so long. */
  doneMs: number
}

export function checkStreams(turns: readonly TurnRecord[], limits: StreamLimits): string[] {
  return turns.flatMap(turn => checkTurn(turn, limits).map(problem => `${turn.run}: ${problem}`))
}

function checkTurn(turn: TurnRecord, limits: StreamLimits): string[] {
  const { answers, row, answerId } = turn
  const problems: string[] = []
  if (answers.length !== 1) problems.push(`${answers.length} answers in the log`)
  if (row?.status !== 'ended') problems.push(`its row is ${row?.status ?? 'missing'}`)
  const answer = answers[0]
  if (!answer || !answerId) return problems
  const bytes = Buffer.from(answer.content)
  if (row && (row.finish !== answer.finish || row.bytes !== bytes.length))
    problems.push(`its row says ${row.finish}, ${row.bytes} bytes; the log ${answer.finish}, ${bytes.length} bytes`)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  for (const view of turn.views)
    problems.push(...checkView(view, answer, bytes, sha256, limits).map(problem => `${view.who}: ${problem}`))
  problems.push(...checkOutcome(turn, answer), ...checkInferences(turn, answer), ...checkStop(turn, limits))
  if (turn.effectsTwice > 0) problems.push(`${turn.effectsTwice} tool calls acted more than once`)
  const { tasks } = turn
  // A turn that was cut short has done some of it, never more.
  if (tasks && isAsScripted(turn, answer) && tasks.found !== tasks.expected)
    problems.push(`${tasks.found} tasks, ${tasks.expected} expected`)
  return problems
}

/** Bytes of one socket: contiguous from 0, a prefix of the answer, all of it by chat.done. */
function checkView(view: View, answer: Answer, bytes: Buffer, sha256: string, limits: StreamLimits): string[] {
  const problems: string[] = []
  let at = 0
  for (const piece of view.pieces) {
    if (piece.offset !== at) {
      problems.push(`a piece at byte ${piece.offset} where ${at} was next`)
      break
    }
    const content = Buffer.from(piece.content)
    if (!bytes.subarray(at, at + content.length).equals(content)) {
      problems.push(`shown bytes at ${at} are not those of the answer`)
      break
    }
    at += content.length
  }
  if (view.messageContent !== undefined && view.messageContent !== answer.content)
    problems.push('message.new came with another text')
  if (view.dones.length > 1) problems.push(`${view.dones.length} chat.done`)
  const [done] = view.dones
  if (!done) {
    const until = view.endedAt ?? Number.POSITIVE_INFINITY
    if (view.messageAt !== undefined && until - view.messageAt > limits.doneMs) problems.push('no chat.done')
    return problems
  }
  if (view.isReplayed && at === 0) return problems
  if (at !== bytes.length) problems.push(`chat.done after ${at} of ${bytes.length} bytes`)
  if (done.bytes !== bytes.length || done.sha256 !== sha256) problems.push('chat.done names another text')
  if (done.finish !== answer.finish || done.seq !== answer.seq) problems.push('chat.done names another end')
  if (view.messageAt === undefined || view.messageAt > done.at) problems.push('chat.done before message.new')
  if (view.errors.some(e => e.at > done.at)) problems.push('an error after chat.done')
  if (view.pieces.some(p => p.at > done.at)) problems.push('text after chat.done')
  return problems
}

const isAsScripted = (turn: TurnRecord, answer: Answer) =>
  answer.finish === turn.expected.finish && turn.stopAt === undefined && turn.struckBy.length === 0 && !turn.mayFail

/** The finish agrees with what upstream did, or with a stop or a fault that really happened. */
function checkOutcome(turn: TurnRecord, answer: Answer): string[] {
  const { expected, struckBy, stopAt, mayFail } = turn
  // Neither a gateway's end nor a provider that refuses is a reason to interrupt anything.
  if (answer.finish === 'interrupted')
    return struckBy.some(code => !/^F[79]/.test(code)) ? [] : ['interrupted, although nothing happened to the cluster']
  if (answer.finish === 'stopped') return stopAt !== undefined ? [] : ['stopped, although nobody asked for it']
  if (answer.finish === 'failed' && mayFail && expected.finish !== 'failed')
    return answer.content === '' ? [] : ['failed with a text where the provider was away']
  const told = [...new Set(turn.views.flatMap(v => v.errors.map(e => e.reason)))]
  if (answer.finish !== expected.finish) {
    const how = `after ${turn.inferences.length} requests, told ${told.join(', ') || 'nothing'}`
    return [`ended ${answer.finish} ${how}, expected ${expected.finish}`]
  }
  if (expected.text === 'none' && answer.content !== '') return ['failed before the first byte, with a text']
  if (expected.reason && told.some(reason => reason !== expected.reason) && !mayFail)
    return [`told ${told.join(', ')}, expected ${expected.reason}`]
  return []
}

/**
 * The answer is, round by round, what one request of that round sent; another request of the same round came only while
 * nothing of that round had been shown to anybody.
 */
function checkInferences(turn: TurnRecord, answer: Answer): string[] {
  const { inferences, expected, views } = turn
  const problems: string[] = []
  const last = Math.max(-1, ...inferences.map(i => i.round))
  let rest = answer.content
  let offset = 0
  for (let round = 0; round <= last; round++) {
    const mine = inferences.filter(i => i.round === round).sort((a, b) => a.at - b.at)
    if (mine.length === 0) problems.push(`round ${round} was never asked for`)
    const shownAt = Math.min(...views.flatMap(v => v.pieces.flatMap(p => (endOf(p) > offset ? p.at : []))))
    const again = mine.find((one, n) => n > 0 && one.at > shownAt)
    if (again) problems.push(`asked again for round ${round} after a byte of it was shown`)
    if (mine.length > 3 && turn.struckBy.length === 0) problems.push(`${mine.length} requests for round ${round}`)
    const text = mine.map(i => i.planned).find(p => p !== '' && (rest.startsWith(p) || p.startsWith(rest))) ?? ''
    const taken = rest.startsWith(text) ? text : rest
    offset += Buffer.byteLength(taken)
    rest = rest.slice(taken.length)
    const isWhole = taken.length === text.length
    if (round === last && !isWhole && expected.text === 'whole' && isAsScripted(turn, answer))
      problems.push('ended as if whole, with a part of what was sent')
  }
  if (rest !== '') problems.push('the answer has a text that no request sent')
  if (isAsScripted(turn, answer)) {
    const first = inferences.filter(i => i.round === 0).length
    if (first !== expected.inferences) problems.push(`${first} requests, expected ${expected.inferences}`)
  }
  return problems
}

const endOf = (piece: View['pieces'][number]) => piece.offset + Buffer.byteLength(piece.content)

function checkStop({ stopAt, struckBy, inferences }: TurnRecord, limits: StreamLimits): string[] {
  if (stopAt === undefined || struckBy.length > 0) return []
  const late = inferences.filter(
    i => i.at < stopAt && (i.closedAt ?? Number.POSITIVE_INFINITY) > stopAt + limits.cancelMs,
  )
  const begun = inferences.filter(i => i.at > stopAt + limits.cancelMs)
  return [
    ...(late.length > 0 ? [`a stop did not reach upstream within ${limits.cancelMs} ms`] : []),
    ...(begun.length > 0 ? ['upstream was asked after a stop'] : []),
  ]
}
