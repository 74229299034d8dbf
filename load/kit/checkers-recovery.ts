/**
 * C5: how long sends waited around a fault. Takes attempts and the journal of faults, answers the worst and the median pause
 * over conversations and what exceeds the limit. Pure. Refuses to count think time: a pause begins when somebody wants to send.
 */
import { type Attempt, group, Problems, push } from './checkers.ts'

export interface FaultSpan {
  /** F2, F5b … */
  code: string
  /** Monotonic ms: injected, healed. */
  begin: number
  end: number
  /** How often it hit: a fault that never hit proves nothing. */
  fired: number
  /** Sends work again within so long. */
  limitMs: number
  /** Counted from the heal, not from the injection: nothing can work before. */
  isFromHeal?: boolean
}

export interface Recovery {
  code: string
  /** Longest pause of each conversation that overlaps the fault. */
  worstMs: number
  medianMs: number
}

export function checkRecovery(
  attempts: readonly Attempt[],
  faults: readonly FaultSpan[],
  factor = 1,
): { problems: string[]; recoveries: Recovery[] } {
  const problems = new Problems('C5')
  const pauses = group(pausesOf(attempts), p => p.conversation)
  const recoveries = faults.map(fault => {
    if (fault.fired === 0) problems.add(`${fault.code} never fired`)
    const longest = [...pauses.values()].map(list =>
      list.reduce((max, p) => Math.max(max, overlap(p, fault) ? lengthIn(p, fault) : 0), 0),
    )
    longest.sort((a, b) => a - b)
    const worstMs = longest.at(-1) ?? 0
    const limit = fault.limitMs * factor
    if (worstMs > limit) problems.add(`${fault.code}: a pause of ${worstMs.toFixed(0)} ms, the limit is ${limit}`)
    return { code: fault.code, worstMs, medianMs: longest[Math.floor(longest.length / 2)] ?? 0 }
  })
  return { problems: problems.list, recoveries }
}

interface Pause {
  conversation: string
  from: number
  to: number
}

const overlap = (p: Pause, fault: FaultSpan) => p.to >= fault.begin && p.from <= fault.end

/** What was slow before the fault is not its doing. */
const lengthIn = (p: Pause, fault: FaultSpan) => p.to - Math.max(p.from, fault.isFromHeal ? fault.end : fault.begin)

/**
 * Times in which somebody waited and nobody in the conversation was acked. A send never acked waits for ever, unless its device
 * left: that waited until it left, and waits again from its next attempt on.
 */
function pausesOf(attempts: readonly Attempt[]): Pause[] {
  const sends = new Map<string, { from: number; to: number }[]>()
  const broken: Pause[] = []
  for (const [key, same] of group(attempts, a => `${a.conversation} ${a.sender} ${a.clientId}`)) {
    const conversation = key.slice(0, key.indexOf(' '))
    const acks = same.flatMap(a => (a.outcome.kind === 'ok' ? [a.completedAt!] : []))
    const to = acks.length > 0 ? Math.min(...acks) : Number.POSITIVE_INFINITY
    let left = Number.NEGATIVE_INFINITY
    for (const { invokedAt: from, abandonedAt } of same) {
      if (abandonedAt === undefined) continue
      broken.push({ conversation, from, to: abandonedAt })
      left = Math.max(left, abandonedAt)
    }
    const from = Math.min(...same.map(a => a.invokedAt).filter(at => at > left))
    if (from !== Number.POSITIVE_INFINITY) push(sends, conversation, { from, to })
  }
  const out: Pause[] = []
  const acked = new Map<string, number[]>()
  for (const [conversation, list] of sends) {
    const acks = list.map(s => s.to).sort((a, b) => a - b)
    acked.set(conversation, acks)
    list.sort((a, b) => a.from - b.from)
    // Between two acks the pause runs from the earliest send that was still waiting at the second.
    let next = 0
    let before = Number.NEGATIVE_INFINITY
    const waiting: { from: number; to: number }[] = []
    for (const ack of acks) {
      while (next < list.length && list[next]!.from <= ack) waiting.push(list[next++]!)
      const from = waiting.reduce((min, s) => (s.to >= ack ? Math.min(min, s.from) : min), ack)
      out.push({ conversation, from: Math.max(before, from), to: ack })
      before = ack
      for (let i = waiting.length - 1; i >= 0; i--) if (waiting[i]!.to <= ack) waiting.splice(i, 1)
    }
  }
  for (const { conversation, from, to } of broken) {
    const before = acked.get(conversation)?.findLast(at => at <= to) ?? from
    out.push({ conversation, from: Math.max(before, from), to })
  }
  return out
}

/** The same question for connections: from the loss of one to the `ready` of the next. */
export function checkReconnects(
  gaps: readonly { device: string; from: number; to: number }[],
  fault: Pick<FaultSpan, 'code' | 'begin' | 'end'>,
  limitMs: number,
): string[] {
  const problems = new Problems('C5')
  for (const gap of gaps) {
    if (gap.to < fault.begin || gap.from > fault.end) continue
    const ms = gap.to - gap.from
    if (ms > limitMs)
      problems.add(`${fault.code}: ${gap.device} was away for ${ms.toFixed(0)} ms, the limit is ${limitMs}`)
  }
  return problems.list
}
