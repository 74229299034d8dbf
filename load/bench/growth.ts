/**
 * `node load/bench/growth.ts [conversations] [--smoke]`: W1 at one rate with 100 conversations in the database, and with 100,000 in it and
 * in memory, and after those have left memory (G9): ack p99, CPU a send, bytes of a resident actor. Writes its section of
 * load/RESULTS.md. Fails when sends were not acked, or the conversations were not really in memory, or did not leave it.
 */
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { machineLine } from '#load/kit/machine.ts'
import { type Goal, recordGoals, writeSection } from '#load/kit/results.ts'
import { scrape, sumOf } from '#load/kit/scrape.ts'
import { actorIdleMs, receiptFlushMs } from '#protos/limits.ts'
import { type Cpu, Load } from './load.ts'
import { makeMany, Wakers } from './many-conversations.ts'
import { type Ground, type ParleySubject, startGround, startParley } from './subjects.ts'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { smoke: { type: 'boolean' } } })
const isSmoke = values.smoke === true
const count = Number(positionals[0] ?? (isSmoke ? 500 : 100_000))
const hotPairs = isSmoke ? 10 : 100
const rate = isSmoke ? 100 : 4000
/** A join reads the head of its conversation. */
const wakeRates = isSmoke ? { join: 300, send: 500 } : { join: 2500, send: 5000 }
const rounds = isSmoke ? 1 : 3
const span = isSmoke
  ? { burst: 1, warmMs: 500, runMs: 1000, drainMs: 5000 }
  : { burst: 1, warmMs: 1500, runMs: 5000, drainMs: 8000 }
const warmUpMs = isSmoke ? 500 : 15_000
const hook = path.resolve(import.meta.dirname, '../rig/faults.ts')

interface State {
  what: string
  actors: number
  p50: number
  p99: number
  cpuUs: number
  /** CPU µs a send, by component. */
  parts: string
}

const problems: string[] = []
const admin = (subject: ParleySubject) => subject.product.node().engineMetricsUrl!
const actorsOf = async (subject: ParleySubject) => sumOf(await scrape(admin(subject)), 'parley_actors')

/** Heap of the engine's threads after a collection, bytes. */
async function heapOf(subject: ParleySubject): Promise<number> {
  const answer = await fetch(`${admin(subject)}/heap`, { signal: AbortSignal.timeout(20_000) })
  const { main, threads } = (await answer.json()) as { main: number; threads: number[] }
  if (threads.length === 0) throw new Error('no thread of the engine said how large its heap is')
  return threads.reduce((n, bytes) => n + bytes, main)
}

async function w1(subject: ParleySubject, load: Load, what: string): Promise<State> {
  const found: { p50: number; p99: number; cpuUs: number; parts: Cpu }[] = []
  const actors = await actorsOf(subject)
  for (let i = 0; i < rounds; i++) {
    const m = await load.measure({ kind: 'step', rate, senders: 2 * hotPairs, ...span })
    if (m.acked !== m.due) problems.push(`${what}: ${m.acked} of ${m.due} sends were acked`)
    found.push({ p50: m.ackMs.p50, p99: m.ackMs.p99, cpuUs: m.cpuUs, parts: m.parts })
  }
  const median = (of: 'p50' | 'p99' | 'cpuUs') =>
    found.map(f => f[of]).sort((a, b) => a - b)[Math.floor(found.length / 2)]!
  const cpuUs = median('cpuUs')
  const parts = Object.entries(found.find(f => f.cpuUs === cpuUs)!.parts)
    .map(([name, us]) => `${name} ${us.toFixed(0)}`)
    .join(', ')
  const state = { what, actors, p50: median('p50'), p99: median('p99'), cpuUs, parts }
  console.log(
    `  ${what}: ${actors} in memory, p50 ${state.p50.toFixed(1)}, p99 ${state.p99.toFixed(1)} ms (${found.map(f => f.p99.toFixed(1)).join(', ')}), ${state.cpuUs.toFixed(0)} µs a send (${parts})`,
  )
  return state
}

interface Grown {
  states: State[]
  /** Bytes an actor in memory takes: read from the database, and after one message. */
  bytesRead: number
  bytesSent: number
  leftMs: number
  actorsLeft: number
}

async function measure(ground: Ground, subject: ParleySubject): Promise<Grown> {
  const hot = await subject.pairs(hotPairs)
  const load = await Load.open(subject, hot)
  await load.measure({ kind: 'step', rate, senders: hot.length, ...span, warmMs: warmUpMs })
  const states = [await w1(subject, load, `${hotPairs} conversations`)]

  const cold = await makeMany(subject, ground.databaseUrl, count)
  const wakers = await Wakers.open(subject.url, cold)
  await sleep(2000)
  const before = { heap: await heapOf(subject), actors: await actorsOf(subject) }
  const perActor = async () => {
    // The gauge is set once a sweep.
    await sleep(2000)
    const actors = await actorsOf(subject)
    if (actors - before.actors < 0.9 * count) problems.push(`only ${actors} conversations were in memory`)
    return ((await heapOf(subject)) - before.heap) / Math.max(1, actors - before.actors)
  }
  await wakers.wake(cold, 'join', wakeRates.join)
  const bytesRead = await perActor()
  await wakers.wake(cold, 'send', wakeRates.send)
  const bytesSent = await perActor()
  const awakeAt = performance.now()
  console.log(`  an actor in memory: ${bytesRead.toFixed(0)} bytes, after one message ${bytesSent.toFixed(0)}`)
  // Positions that these sends moved are stored.
  await sleep(isSmoke ? 0 : receiptFlushMs - 3000)
  states.push(await w1(subject, load, `${count} more, all in memory`))

  let actorsLeft = await actorsOf(subject)
  // A minute is too long for a smoke.
  const waitMs = isSmoke ? 0 : actorIdleMs + 60_000
  for (const until = awakeAt + waitMs; actorsLeft > 2 * hotPairs && performance.now() < until; ) {
    await sleep(1000)
    actorsLeft = await actorsOf(subject)
  }
  const leftMs = performance.now() - awakeAt
  if (actorsLeft > 2 * hotPairs && !isSmoke) problems.push(`${actorsLeft} conversations are still in memory`)
  states.push(await w1(subject, load, `${count} more in the database, none in memory`))
  wakers.end()
  await load.end()
  return { states, bytesRead, bytesSent, leftMs, actorsLeft }
}

function goalsOf({ states: [few, many], bytesRead, bytesSent, leftMs, actorsLeft }: Grown): Goal[] {
  const ratio = (of: 'p99' | 'cpuUs', what: string): Goal => ({
    id: 'G9',
    what,
    floor: '≤ 1.25 ×',
    aim: '1.1 ×',
    measured: `${(many![of] / few![of]).toFixed(2)} × (${many![of].toFixed(0)} to ${few![of].toFixed(0)})`,
    isMet: many![of] <= 1.25 * few![of],
  })
  return [
    ratio('p99', `ack p99 at ${rate}/s, 100 to ${count} conversations`),
    ratio('cpuUs', `CPU µs a send, 100 to ${count} conversations`),
    {
      id: 'G9',
      what: 'bytes of heap a resident actor; after one message',
      floor: '≤ 1024',
      aim: '',
      measured: `${bytesRead.toFixed(0)}; ${bytesSent.toFixed(0)}`,
      isMet: bytesSent <= 1024,
    },
    {
      id: 'G9',
      what: 'idle ones leave memory',
      floor: 'yes',
      aim: '',
      measured: `${actorsLeft} left ${(leftMs / 1000).toFixed(0)} s after the last send`,
      isMet: actorsLeft <= 2 * hotPairs,
    },
  ]
}

function report({ states, bytesRead, bytesSent, leftMs, actorsLeft }: Grown): string {
  return [
    `Machine: ${machineLine()}.`,
    '',
    `W1 at ${rate} sends/s in ${hotPairs} conversations of two, ${rounds} times each, medians; beside them ${count} more, each joined and sent to once.`,
    `An actor in memory takes ${bytesRead.toFixed(0)} bytes of heap after a join and ${bytesSent.toFixed(0)} after a message (what is remembered of latest messages is bounded for the worker).`,
    `${(leftMs / 1000).toFixed(0)} s after the last send to them ${actorsLeft} actors were in memory.`,
    '',
    '| conversations | in memory | p50 ms | p99 ms | CPU µs a send | of it |',
    '| --- | ---: | ---: | ---: | ---: | --- |',
    ...states.map(
      s =>
        `| ${s.what} | ${s.actors} | ${s.p50.toFixed(1)} | ${s.p99.toFixed(1)} | ${s.cpuUs.toFixed(0)} | ${s.parts} |`,
    ),
  ].join('\n')
}

const ground = await startGround()
let subject: ParleySubject | undefined
try {
  subject = await startParley(ground, { NODE_OPTIONS: `--import ${hook}` })
  const grown = await measure(ground, subject)
  const text = report(grown)
  console.log(`\n${text}\n`)
  for (const problem of problems) console.log(`FAIL ${problem}`)
  if (!isSmoke && problems.length === 0) {
    writeSection('Growth', text)
    recordGoals(goalsOf(grown), 'growth')
  }
  console.log(problems.length === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = problems.length === 0 ? 0 : 1
} finally {
  await subject?.stop()
  await ground.stop()
}
process.exit()
