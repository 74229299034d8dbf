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
  /** One in flight in all, ms. */
  oneP50: number
  oneP99: number
  /** Deliveries/s to the room; CPU µs of one. */
  fan: number
  fanUs: number
  /** kB an idle connection. */
  idleKb: number
}

export function medianOf(list: readonly Partial<Figures>[]): Partial<Figures> {
  const out: Partial<Figures> = {}
  for (const key of ['w1', 'cpuAt2k', 'cpuAt6k', 'closed', 'oneP50', 'oneP99', 'fan', 'fanUs', 'idleKb'] as const) {
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

export function goalsTable(
  parley: Partial<Figures>,
  sio: Partial<Figures>,
  raw: Partial<Figures>,
  flushMs = 0,
): string {
  return [...goalsHead, ...goals(parley, sio, raw, flushMs).map(goalLine)].join('\n')
}

const goalsHead = ['| # | property | floor | aim | measured | |', '| --- | --- | --- | --- | --- | --- |']

const goalLine = (g: Goal) =>
  `| ${g.id} | ${g.what} | ${g.floor} | ${g.aim} | ${g.measured} | ${g.isMet === undefined ? '–' : g.isMet ? 'met' : 'MISSED'} |`

export function goals(parley: Partial<Figures>, sio: Partial<Figures>, raw: Partial<Figures>, flushMs = 0): Goal[] {
  const show = (value: number | undefined, digits = 0) => (value === undefined ? '–' : value.toFixed(digits))
  /** Parley by sio, with both figures. */
  const ratio = (key: keyof Figures, digits: number, test: (ratio: number) => boolean) => {
    const [a, b] = [parley[key], sio[key]]
    const isKnown = a !== undefined && b !== undefined && b > 0
    return {
      measured: `${isKnown ? `${(a / b).toFixed(2)} × ` : ''}(${show(a, digits)} to ${show(b, digits)})`,
      isMet: isKnown ? test(a / b) : undefined,
    }
  }
  const added = (f: Partial<Figures>) =>
    f.oneP50 === undefined || raw.oneP50 === undefined ? undefined : f.oneP50 - raw.oneP50
  const [ours, theirs] = [added(parley), added(sio)]
  const p99 = parley.oneP99 !== undefined && raw.oneP99 !== undefined ? parley.oneP99 - raw.oneP99 : undefined
  const idle = ratio('idleKb', 1, r => r <= 0.65)
  if (flushMs > 0) {
    // A slow disk is asked for throughput only; what it adds to one send is its own.
    const w1 = ratio('w1', 0, r => r >= 15)
    return [{ id: 'G1s', what: `durable sends/s, W1, +${flushMs} ms a flush`, floor: '≥ 15 ×', aim: '25 ×', ...w1 }]
  }
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
