/**
 * `node load/bench/run.ts [--quick --reps n --only sio|parley]`: Parley and the Socket.IO reference in turn, on one
 * Postgres and one Redis, with raw loops beside them; prints the goals with floor, aim and what was measured, and writes them
 * into load/RESULTS.md. The reference's own spread is printed with the table: one that is not steady compares nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { machineLine } from '#load/kit/machine.ts'
import { writeSection } from '#load/kit/results.ts'
import type { Measured } from './generator.ts'
import { type Figures, goalsTable, medianOf, spreadOf } from './goals.ts'
import { Load } from './load.ts'
import { rawCommit, rawWrites } from './raw.ts'
import { type Ground, type Subject, startGround, startParley, startSio } from './subjects.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean' },
    reps: { type: 'string' },
    only: { type: 'string' },
  },
})
const isQuick = values.quick === true
const reps = Number(values.reps ?? (isQuick ? 1 : 3))
const span = isQuick ? { warmMs: 1000, runMs: 2500, drainMs: 4000 } : { warmMs: 2000, runMs: 6000, drainMs: 8000 }
const warmUpMs = isQuick ? 5000 : 20_000
/** What both carry on any machine so far: a queue that the warm-up leaves would be in the first steps. */
const warmUpRate = 2000
const pairCount = isQuick ? 100 : 200
const roomSize = isQuick ? 300 : 1000
const idleCount = isQuick ? 1000 : 10_000
/** Until what opening them left behind is collected, or not. */
const idleMs = isQuick ? 3000 : 15_000
const rates = isQuick
  ? [1000, 2000, 4000, 5000, 6000, 8000, 10_000, 12_000, 14_000]
  : [
      1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 7000, 8000, 9000, 10_000, 12_000, 14_000, 17_000, 20_000,
      24_000, 28_000, 32_000,
    ]
/** Opened before idle ones are counted: what the first few make a process load is not theirs. */
const warmSockets = 300
/** Frames of one burst to the room of W2. */
const burst = 8
const fanRates = [20_000, 40_000, 80_000, 120_000, 160_000, 240_000, 320_000, 480_000, 640_000, 960_000, 1_280_000]
const p99MsMax = { w1: 100, w2: 250 }

const holdsW1 = (m: Measured) => m.acked === m.due && m.ackMs.p99 < p99MsMax.w1

async function measureSubject(subject: Subject): Promise<Partial<Figures>> {
  const out: Partial<Figures> = {}
  const say = (text: string) => console.log(`  ${subject.name}: ${text}`)

  // First, while the process is young: later its heap has room for thousands that cost nothing new.
  const warm = await Load.open(subject, await subject.idlers(warmSockets))
  await sleep(2000)
  const before = subject.socketRss()
  const idle = await Load.open(subject, await subject.idlers(idleCount))
  await sleep(idleMs)
  out.idleKb = (subject.socketRss() - before) / idleCount / 1000
  say(`W3: ${out.idleKb.toFixed(1)} kB an idle connection`)
  await idle.end()
  await warm.end()

  const senders = await subject.pairs(pairCount)
  let load = await Load.open(subject, senders)
  const step = (rate: number) => load.measure({ kind: 'step', rate, burst: 1, senders: senders.length, ...span })
  // Both are measured as they run after a while: code that is still being compiled would be most of the first steps, and a
  // third of what the same rate costs a minute later.
  await load.measure({ kind: 'step', rate: warmUpRate, burst: 1, senders: senders.length, ...span, warmMs: warmUpMs })
  let best = 0
  let isHolding = true
  for (const rate of rates) {
    let m = await step(rate)
    // Once more, whoever it is: a neighbour's burst is nobody's limit.
    if (isHolding && !holdsW1(m)) m = await step(rate)
    const holds = holdsW1(m)
    say(
      `W1 ${rate}/s: p50 ${m.ackMs.p50.toFixed(1)}, p99 ${m.ackMs.p99.toFixed(1)} ms, ${m.cpuUs.toFixed(0)} µs a send, ${m.acked}/${m.due} acked, generator late ${m.lateMs.toFixed(1)} ms`,
    )
    if (rate === 2000) out.cpuAt2k = m.cpuUs
    if (rate === 6000) out.cpuAt6k = m.cpuUs
    isHolding &&= holds
    if (isHolding) best = rate
    // What a send costs is asked at 6 k/s even of one that cannot keep up.
    else if (rate >= 6000) break
  }
  out.w1 = best
  const all = await load.measure({ kind: 'closed', senders: senders.length, warmMs: span.warmMs, runMs: span.runMs })
  out.closed = (all.acked * 1000) / all.ms
  say(`W1 closed loop: ${out.closed.toFixed(0)}/s, p99 ${all.ackMs.p99.toFixed(1)} ms`)
  const one = await load.measure({ kind: 'closed', senders: 1, warmMs: 500, runMs: span.runMs })
  out.oneP50 = one.ackMs.p50
  out.oneP99 = one.ackMs.p99
  say(`one in flight: p50 ${one.ackMs.p50.toFixed(2)}, p99 ${one.ackMs.p99.toFixed(2)} ms`)
  await load.end()

  const room = await subject.room(roomSize)
  load = await Load.open(subject, room)
  let fan = 0
  for (const rate of fanRates) {
    // Bursts from one sender; every member gets each.
    const sends = Math.max(burst, Math.round(rate / roomSize))
    const m = await load.measure({ kind: 'step', rate: sends, burst, senders: 1, fanOut: roomSize, ...span })
    const perSecond = (m.delivered * 1000) / m.ms
    const holds = m.acked === m.due && m.delivered >= m.due * roomSize && m.ackMs.p99 < p99MsMax.w2
    say(
      `W2 ${rate}/s: ${perSecond.toFixed(0)} deliveries/s, ack p99 ${m.ackMs.p99.toFixed(0)} ms, ${(m.cpuUs / roomSize).toFixed(2)} µs a delivery`,
    )
    if (!holds) break
    fan = perSecond
    out.fanUs = m.cpuUs / roomSize
  }
  out.fan = fan
  await load.end()

  return out
}

async function run(
  ground: Ground,
): Promise<{ parley: Partial<Figures>[]; sio: Partial<Figures>[]; raw: Partial<Figures>[] }> {
  const out = { parley: [] as Partial<Figures>[], sio: [] as Partial<Figures>[], raw: [] as Partial<Figures>[] }
  for (let rep = 1; rep <= reps; rep++) {
    console.log(`repetition ${rep} of ${reps}`)
    const commit = await rawCommit(ground.databaseUrl, isQuick ? 1000 : 3000)
    const writes = await rawWrites(roomSize, isQuick ? 1000 : 3000)
    out.raw.push({ oneP50: commit.p50, oneP99: commit.p99, fan: writes })
    console.log(
      `  raw: commit p50 ${commit.p50.toFixed(2)}, p99 ${commit.p99.toFixed(2)} ms; ${writes.toFixed(0)} writes per CPU second`,
    )
    for (const [name, start] of [
      ['sio', startSio],
      ['parley', startParley],
    ] as const) {
      if (values.only && values.only !== name) continue
      const subject = await start(ground)
      try {
        out[name].push(await measureSubject(subject))
      } finally {
        await subject.stop()
      }
    }
  }
  return out
}

const ground = await startGround()
try {
  const { parley, sio, raw } = await run(ground)
  const table = goalsTable(medianOf(parley), medianOf(sio), medianOf(raw))
  const spread = spreadOf(sio.map(f => f.w1 ?? 0))
  const text = [
    `${machineLine()};`,
    `${reps} repetition${reps === 1 ? '' : 's'}, medians${isQuick ? ', quick spans' : ''}. The reference's W1 spread over the repetitions: ${(spread * 100).toFixed(0)} %${spread > 0.3 ? ': too much, these figures do not count' : ''}.`,
    '',
    table,
  ].join('\n')
  console.log(`\n${text}`)
  if (!values.only) writeSection('Goals', text)
} finally {
  await ground.stop()
}
process.exit(0)
