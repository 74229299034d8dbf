/** The goals as a table: floor, aim, what was measured. Pure; knows numbers, not how they were got. */

import type { Goal } from '#load/kit/results.ts'

export interface Figures {
  /** Most durable sends/s with every send acked and the 99th percentile in bounds. */
  w1: number
  /** CPU µs a send, all components, at 2 k/s and 6 k/s. */
  cpuAt2k: number
  cpuAt6k: number
  /** Sends/s with one in flight on each socket. */
  closed: number
  /** Ack at 10 k/s, ms. */
  p99At10k: number
  /** One in flight in all, ms. */
  oneP50: number
  oneP99: number
  /** Deliveries/s to the room; CPU µs of one. */
  fan: number
  fanUs: number
  /** kB an idle connection. */
  idleKb: number
}

const figureKeys = [
  'w1',
  'cpuAt2k',
  'cpuAt6k',
  'closed',
  'p99At10k',
  'oneP50',
  'oneP99',
  'fan',
  'fanUs',
  'idleKb',
] as const satisfies (keyof Figures)[]

export function medianOf(list: readonly Partial<Figures>[]): Partial<Figures> {
  const out: Partial<Figures> = {}
  for (const key of figureKeys) {
    const values = list.flatMap(f => f[key] ?? []).sort((a, b) => a - b)
    if (values.length > 0) out[key] = values[Math.floor(values.length / 2)]!
  }
  return out
}

/** Largest minus smallest, by the median. */
export function spreadOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0
  return median === 0 ? 0 : (sorted.at(-1)! - sorted[0]!) / median
}

export function goalsTable(parley: Partial<Figures>, sio: Partial<Figures>, raw: Partial<Figures>): string {
  return [...goalsHead, ...goals(parley, sio, raw).map(goalLine)].join('\n')
}

const goalsHead = ['| # | property | floor | aim | measured | |', '| --- | --- | --- | --- | --- | --- |']

const goalLine = (g: Goal) =>
  `| ${g.id} | ${g.what} | ${g.floor} | ${g.aim} | ${g.measured} | ${g.isMet === undefined ? '–' : g.isMet ? 'met' : 'MISSED'} |`

const show = (value: number | undefined, digits = 0) => (value === undefined ? '–' : value.toFixed(digits))

/** Parley by sio, with both figures. */
const ratioOf =
  (parley: Partial<Figures>, sio: Partial<Figures>) =>
  (key: keyof Figures, digits: number, test: (ratio: number) => boolean) => {
    const [a, b] = [parley[key], sio[key]]
    const isKnown = a !== undefined && b !== undefined && b > 0
    return {
      measured: `${isKnown ? `${(a / b).toFixed(2)} × ` : ''}(${show(a, digits)} to ${show(b, digits)})`,
      isMet: isKnown ? test(a / b) : undefined,
    }
  }

/** With each flush of the database slower by so many ms; floors are for 4. `raw`: one commit after another on that disk. */
export function flushGoals(
  parley: Partial<Figures>,
  sio: Partial<Figures>,
  raw: Partial<Figures>,
  flushMs: number,
): Goal[] {
  const isJudged = flushMs >= 4
  const w1 = ratioOf(parley, sio)('w1', 0, r => r >= 15)
  const flushes = parley.p99At10k !== undefined && raw.oneP50 ? parley.p99At10k / raw.oneP50 : undefined
  return [
    {
      id: 'G1s',
      what: `durable sends/s, W1, +${flushMs} ms a flush`,
      floor: isJudged ? '≥ 15 ×' : '',
      aim: isJudged ? '25 ×' : '',
      measured: w1.measured,
      isMet: isJudged ? w1.isMet : undefined,
    },
    {
      id: 'G3s',
      what: `ack p99 at 10 k/s, +${flushMs} ms a flush, in flushes`,
      floor: isJudged ? '≤ 5' : '',
      aim: isJudged ? '3.5' : '',
      measured: `${show(flushes, 1)} (${show(parley.p99At10k, 1)} ms by ${show(raw.oneP50, 2)})`,
      isMet: isJudged && flushes !== undefined ? flushes <= 5 : undefined,
    },
  ]
}

export function goals(parley: Partial<Figures>, sio: Partial<Figures>, raw: Partial<Figures>): Goal[] {
  const ratio = ratioOf(parley, sio)
  const added = (f: Partial<Figures>) =>
    f.oneP50 === undefined || raw.oneP50 === undefined ? undefined : f.oneP50 - raw.oneP50
  const [ours, theirs] = [added(parley), added(sio)]
  const p99 = parley.oneP99 !== undefined && raw.oneP99 !== undefined ? parley.oneP99 - raw.oneP99 : undefined
  const idle = ratio('idleKb', 1, r => r <= 0.65)
  return [
    {
      id: 'G1',
      what: 'durable sends/s, W1, to the reference',
      floor: '≥ 3 ×',
      aim: '4.5 ×',
      ...ratio('w1', 0, r => r >= 3),
    },
    {
      id: 'G2',
      what: 'CPU µs a durable send at 6 k/s',
      floor: '≤ 0.55 ×',
      aim: '0.45 ×',
      ...ratio('cpuAt6k', 0, r => r <= 0.55),
    },
    { id: 'G2', what: 'the same at 2 k/s', floor: '≤ 0.75 ×', aim: '0.6 ×', ...ratio('cpuAt2k', 0, r => r <= 0.75) },
    {
      id: 'G3',
      what: 'added to the raw commit, one in flight, ms p50',
      floor: 'the reference + 0.1',
      aim: 'the reference',
      measured: `${show(ours, 2)} to ${show(theirs, 2)}`,
      isMet: ours === undefined || theirs === undefined ? undefined : ours <= theirs + 0.1,
    },
    {
      id: 'G3',
      what: 'the same, ms p99',
      floor: '≤ 2',
      aim: '',
      measured: show(p99, 2),
      isMet: p99 === undefined ? undefined : p99 <= 2,
    },
    {
      id: 'G5',
      what: 'fan-out in bursts, W2, durable, deliveries/s',
      floor: '≥ 6 ×',
      aim: '10 ×',
      ...ratio('fan', 0, r => r >= 6),
    },
    {
      id: 'G6',
      what: 'kB RSS an idle authenticated connection',
      floor: '≤ 11 and ≤ 0.65 ×',
      aim: '9',
      measured: idle.measured,
      isMet: idle.isMet === undefined ? undefined : idle.isMet && parley.idleKb! <= 11,
    },
    { id: 'G9b', what: 'W1 closed loop, sends/s', floor: '≥ 2 ×', aim: '2.5 ×', ...ratio('closed', 0, r => r >= 2) },
  ]
}
