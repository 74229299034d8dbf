/**
 * `node load/bench/flush.ts [ms …] [--reps n] [--smoke]`: W1 on a disk whose flushes take 1 and 4 ms longer, Parley and the Socket.IO
 * reference in turn on one database (G1s, G3s); writes its section of load/RESULTS.md. Fails when the database is not slower by
 * what was asked for.
 */
import { parseArgs } from 'node:util'
import { machineLine } from '#load/kit/machine.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { type Figures, flushGoals, medianOf, spreadOf } from './goals.ts'
import { Load } from './load.ts'
import { rawCommit } from './raw.ts'
import { type Ground, type Subject, startGround, startParley, startSio } from './subjects.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { reps: { type: 'string' }, smoke: { type: 'boolean' } },
})
const isSmoke = values.smoke === true
const delays = positionals.length > 0 ? positionals.map(Number) : isSmoke ? [4] : [1, 4]
const reps = Number(values.reps ?? (isSmoke ? 1 : 3))
const pairCount = isSmoke ? 10 : 200
const span = isSmoke
  ? { burst: 1, warmMs: 500, runMs: 1000, drainMs: 4000 }
  : { burst: 1, warmMs: 2000, runMs: 5000, drainMs: 8000 }
const p99MsMax = 100
const askedRate = 10_000

interface Ladder {
  warmUp: { rate: number; ms: number }
  rates: number[]
}

const ladders: Record<Subject['name'], Ladder> = isSmoke
  ? { sio: { warmUp: { rate: 50, ms: 500 }, rates: [50] }, parley: { warmUp: { rate: 50, ms: 500 }, rates: [50] } }
  : {
      sio: {
        warmUp: { rate: 500, ms: 10_000 },
        rates: [500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 8000],
      },
      parley: {
        warmUp: { rate: 4000, ms: 15_000 },
        rates: [2000, 4000, 6000, 7000, 8000, 9000, 10_000, 11_000, 12_000, 13_000, 14_000, 17_000, 20_000, 24_000],
      },
    }

let unanswered = 0

async function measure(subject: Subject): Promise<Partial<Figures>> {
  const out: Partial<Figures> = {}
  const senders = await subject.pairs(pairCount)
  const load = await Load.open(subject, senders)
  const { warmUp, rates } = ladders[subject.name]
  const step = async (rate: number, warmMs: number = span.warmMs) => {
    const m = await load.measure({ kind: 'step', rate, senders: senders.length, ...span, warmMs })
    const lost = m.due - m.acked
    console.log(
      `  ${subject.name} ${rate}/s: p50 ${m.ackMs.p50.toFixed(1)}, p99 ${m.ackMs.p99.toFixed(1)} ms, ${m.cpuUs.toFixed(0)} µs a send, ${m.acked}/${m.due} acked, generator late ${m.lateMs.toFixed(1)} ms`,
    )
    return { ...m, holds: lost === 0 && m.ackMs.p99 < p99MsMax }
  }
  await step(warmUp.rate, warmUp.ms)
  let best = 0
  for (const rate of rates) {
    // Once more: a neighbour's burst is no limit of theirs or ours.
    let m = await step(rate)
    if (!m.holds && !isSmoke) m = await step(rate)
    if (rate === askedRate) out.p99At10k = m.ackMs.p99
    if (isSmoke) unanswered += m.due - m.acked
    if (!m.holds) break
    best = rate
  }
  if (subject.name === 'parley' && out.p99At10k === undefined && !isSmoke)
    out.p99At10k = (await step(askedRate)).ackMs.p99
  out.w1 = best
  const one = await load.measure({ kind: 'closed', senders: 1, warmMs: 500, runMs: span.runMs })
  out.oneP50 = one.ackMs.p50
  out.oneP99 = one.ackMs.p99
  console.log(`  ${subject.name} one in flight: p50 ${one.ackMs.p50.toFixed(2)}, p99 ${one.ackMs.p99.toFixed(2)} ms`)
  await load.end()
  return out
}

async function round(flushMs: number, ground: Ground) {
  const out = { sio: [] as Partial<Figures>[], parley: [] as Partial<Figures>[], raw: [] as Partial<Figures>[] }
  for (let rep = 1; rep <= reps; rep++) {
    const commit = await rawCommit(ground.databaseUrl, 2000)
    console.log(`+${flushMs} ms, repetition ${rep} of ${reps}: raw commit p50 ${commit.p50.toFixed(2)} ms`)
    if (commit.p50 < flushMs) throw new Error(`a commit takes ${commit.p50} ms: flushes are not ${flushMs} ms slower`)
    out.raw.push({ oneP50: commit.p50, oneP99: commit.p99 })
    for (const start of [startSio, startParley] as const) {
      const subject = await start(ground)
      try {
        out[subject.name].push(await measure(subject))
      } finally {
        await subject.stop()
      }
    }
  }
  return out
}

const lines: string[] = []
const all: ReturnType<typeof flushGoals> = []
let slowedBy = ''
for (const flushMs of delays) {
  const ground = await startGround(flushMs)
  slowedBy = ground.slowedBy ?? ''
  try {
    const found = await round(flushMs, ground)
    const [parley, sio, raw] = [medianOf(found.parley), medianOf(found.sio), medianOf(found.raw)]
    all.push(...flushGoals(parley, sio, raw, flushMs))
    const show = (value: number | undefined) => value?.toFixed(1) ?? '–'
    const spread = 100 * spreadOf(found.sio.map(f => f.w1 ?? 0))
    lines.push(
      `| ${flushMs} | ${parley.w1} | ${sio.w1} | ${((parley.w1 ?? 0) / (sio.w1 ?? 1)).toFixed(1)} | ${spread.toFixed(0)} % | ${show(parley.p99At10k)} | ${show(raw.oneP50)} | ${show(parley.oneP50)} | ${show(sio.oneP50)} |`,
    )
  } finally {
    await ground.stop()
  }
}
const how =
  slowedBy === 'shim'
    ? 'a library loaded into the database server sleeps before each `fdatasync` and `fsync`'
    : 'there is no C compiler here, so `commit_delay` sleeps before each flush of the log'
const text = [
  `Machine: ${machineLine()}. ${reps} repetition${reps === 1 ? '' : 's'}, medians.`,
  '',
  `W1 as above, with flushes so many ms slower: ${how}. sends/s with every send acked and p99 < ${p99MsMax} ms.`,
  '',
  '| slower by, ms | Parley, sends/s | Socket.IO reference | × | its spread | Parley p99 at 10 k/s, ms | raw commit p50 | one in flight p50, Parley | reference |',
  '| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
  ...lines,
].join('\n')
console.log(`\n${text}\n`)
if (!isSmoke) {
  writeSection('Slower disks', text)
  recordGoals(all, 'flush')
}
console.log(unanswered === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
process.exit(unanswered === 0 ? 0 : 1)
