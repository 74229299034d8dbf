/**
 * `node load/bench/overload.ts [--capacity n] [--seconds n] [--smoke]`: twice what Parley carries, for a minute, open loop (G16). The
 * capacity is measured before, unless it is given. Prints how long admitted and refused sends took and how memory grew, and writes
 * it into load/RESULTS.md. Fails when an attempt got no answer, nothing was refused, or a refused send never came through.
 */
import { fork } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { machineLine } from '#load/kit/machine.ts'
import { rssBytes } from '#load/kit/proc.ts'
import { type Goal, recordGoals, writeSection } from '#load/kit/results.ts'
import { type Scraped, scrape, sumOf } from '#load/kit/scrape.ts'
import { ask } from './ask.ts'
import { Load } from './load.ts'
import type { Flooded, FromOverload, ToOverload } from './overload-generator.ts'
import { type ParleySubject, startGround, startParley } from './subjects.ts'
import type { Sender } from './wires.ts'

const { values } = parseArgs({
  options: { capacity: { type: 'string' }, seconds: { type: 'string' }, smoke: { type: 'boolean' } },
})
const isSmoke = values.smoke === true
const seconds = Number(values.seconds ?? (isSmoke ? 3 : 60))
const pairCount = isSmoke ? 20 : 200
const closed = { warmMs: 15_000, runMs: 10_000 }
const p99MsMax = 250
const refusedMsMax = 10
const growthMbMax = 100
const sampleMs = 250
const queueSampleMs = 5000

/** What comes through when each socket sends its next message as soon as the last one is acked: no queue but theirs. */
async function capacityOf(subject: ParleySubject, senders: Sender[]): Promise<number> {
  const load = await Load.open(subject, senders)
  const m = await load.measure({ kind: 'closed', senders: senders.length, ...closed })
  await load.end()
  const perSecond = (m.acked * 1000) / m.ms
  console.log(`  closed loop: ${perSecond.toFixed(0)}/s, ack p99 ${m.ackMs.p99.toFixed(1)} ms`)
  return Math.round(perSecond / 100) * 100
}

interface Growth {
  gateway: number
  engine: number
}

/** The most that each process grew by, MB, until `stop`. */
function watchMemory(subject: ParleySubject): () => Growth {
  const now = () => {
    const { gateway, engine } = subject.product.node()
    return { gateway: rssBytes(gateway) / 2 ** 20, engine: rssBytes(engine) / 2 ** 20 }
  }
  const before = now()
  const growth = { gateway: 0, engine: 0 }
  const timer = setInterval(() => {
    const at = now()
    growth.gateway = Math.max(growth.gateway, at.gateway - before.gateway)
    growth.engine = Math.max(growth.engine, at.engine - before.engine)
  }, sampleMs)
  return () => {
    clearInterval(timer)
    return growth
  }
}

/** What waits where, and how late each loop was. */
interface Moment {
  second: number
  pending: number
  mailboxes: number
  lagMs: { gateway: number; worker: number }
}

/** Every few seconds until `stop`. */
function watchQueues(subject: ParleySubject): () => Moment[] {
  const moments: Moment[] = []
  const from = performance.now()
  const look = async () => {
    const { metricsUrl, engineMetricsUrl } = subject.product.node()
    const [gateway, engine] = await Promise.all([scrape(metricsUrl!), scrape(engineMetricsUrl!)])
    const lag = (page: Scraped, thread: string) =>
      page.get(`parley_event_loop_lag_ms{thread="${thread}"}`) ?? Number.NaN
    moments.push({
      second: (performance.now() - from) / 1000,
      pending: sumOf(gateway, 'parley_sends_pending'),
      mailboxes: sumOf(engine, 'parley_mailbox_letters'),
      lagMs: { gateway: lag(gateway, 'gateway'), worker: lag(engine, 'worker-0') },
    })
  }
  // A page that does not come in time is one that was asked in vain.
  const timer = setInterval(() => void look().catch(() => {}), queueSampleMs)
  return () => {
    clearInterval(timer)
    return moments
  }
}

async function flood(subject: ParleySubject, senders: Sender[], capacity: number) {
  const generator = fork(path.join(import.meta.dirname, 'overload-generator.ts'), [], { stdio: 'inherit' })
  const order = (rate: number, ms: number) =>
    ask<FromOverload, 'flooded'>(
      generator,
      { kind: 'flood', rate, runMs: ms, drainMs: 20_000 } satisfies ToOverload,
      'flooded',
    )
  try {
    await ask<FromOverload, 'open'>(generator, { kind: 'open', url: subject.url, senders } satisfies ToOverload, 'open')
    // What full load needs is there before growth is counted.
    await order(capacity, isSmoke ? 1000 : 10_000)
    const [memory, queues] = [watchMemory(subject), watchQueues(subject)]
    const flooded = await order(2 * capacity, seconds * 1000)
    return { flooded, growth: memory(), moments: queues() }
  } finally {
    generator.kill('SIGKILL')
  }
}

function problemsOf(f: Flooded): string[] {
  const problems: string[] = []
  if (f.unanswered > 0) problems.push(`${f.unanswered} attempts got no answer`)
  if (f.refused === 0 && !isSmoke) problems.push('nothing was refused: this was no overload')
  if (f.withoutRetry > 0) problems.push(`${f.withoutRetry} refusals without retryAfterMs`)
  if (f.owed > 0) problems.push(`${f.owed} refused sends were never acked`)
  if (f.acked === 0) problems.push('nothing was acked')
  return problems
}

function goalsOf(f: Flooded, growth: Growth): Goal[] {
  const mb = growth.gateway + growth.engine
  const [ackP99, refusedP99] = [f.ackMs.p99 ?? Number.NaN, f.refusedMs.p99 ?? Number.NaN]
  return [
    {
      id: 'G16',
      what: 'twice the capacity: ack p99 of the admitted, ms',
      floor: '< 250',
      aim: '',
      measured: ackP99.toFixed(0),
      isMet: ackP99 < p99MsMax,
    },
    {
      id: 'G16',
      what: 'the rest refused with retryAfterMs, ms p99',
      floor: '≤ 10',
      aim: '',
      measured: `${refusedP99.toFixed(0)} (${(100 * f.quickShare).toFixed(0)} % within 10)`,
      isMet: refusedP99 <= refusedMsMax && f.withoutRetry === 0,
    },
    {
      id: 'G16',
      what: 'RSS growth of gateway and engine, MB',
      floor: '< 100',
      aim: '',
      measured: mb.toFixed(0),
      isMet: mb < growthMbMax,
    },
  ]
}

function report(capacity: number, f: Flooded, growth: Growth, moments: readonly Moment[]): string {
  const n = (ms: number | null) => ms?.toFixed(1) ?? '–'
  const row = (what: string, s: Flooded['ackMs']) =>
    `| ${what} | ${n(s.p50)} | ${n(s.p90)} | ${n(s.p99)} | ${n(s.max)} |`
  const mean = (list: number[]) => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length)
  const tenth = Math.max(1, Math.floor(f.perSecond.length / 6))
  const codes = Object.entries(f.codes).map(([code, count]) => `${code} ${count}`)
  return [
    `Machine: ${machineLine()}.`,
    '',
    `${2 * capacity} sends/s for ${seconds} s, twice the ${capacity} that ${2 * pairCount} sockets with one send each in flight get through, in ${pairCount} conversations of two. A refused send`,
    'comes again after its retryAfterMs, in order and before anything new, as a client would do it; meanwhile its socket is silent.',
    `${f.attempts} attempts, ${f.acked} acked, ${f.refused} refused (${codes.join(', ')}), ${f.again} of them sends coming again, ${f.unanswered} without an answer; ${f.waited} sends were not begun, because their socket had been told to wait.`,
    `Acks a second: ${mean(f.perSecond.slice(0, tenth)).toFixed(0)} in the first sixth, ${mean(f.perSecond.slice(-tenth)).toFixed(0)} in the last. ` +
      `RSS grew by ${growth.gateway.toFixed(0)} MB (gateway) and ${growth.engine.toFixed(0)} MB (engine).`,
    'The generator shares both cores; what it is late by is in all rows but the last but one.',
    '',
    '| ms | p50 | p90 | p99 | max |',
    '| --- | ---: | ---: | ---: | ---: |',
    row('due to acked', f.ackMs),
    row('due to refused', f.refusedMs),
    row('written to refused', f.refusedFromWriteMs),
    row('generator late', f.lateMs),
    '',
    '| second | acks/s | sends pending at the gateway | letters in mailboxes | loop of the gateway late, ms | of the worker |',
    '| ---: | ---: | ---: | ---: | ---: | ---: |',
    ...moments
      .filter(m => m.second < seconds)
      .map(
        m =>
          `| ${m.second.toFixed(0)} | ${f.perSecond[Math.floor(m.second) - 1] ?? '–'} | ${m.pending} | ${m.mailboxes} | ${n(m.lagMs.gateway)} | ${n(m.lagMs.worker)} |`,
      ),
  ].join('\n')
}

const ground = await startGround()
let subject: ParleySubject | undefined
try {
  subject = await startParley(ground)
  const senders = await subject.pairs(pairCount)
  const capacity = isSmoke ? 300 : Number(values.capacity ?? (await capacityOf(subject, senders)))
  console.log(`capacity ${capacity}/s; twice that for ${seconds} s`)
  const { flooded, growth, moments } = await flood(subject, senders, capacity)
  const text = report(capacity, flooded, growth, moments)
  console.log(`\n${text}\n`)
  const problems = problemsOf(flooded)
  for (const problem of problems) console.log(`FAIL ${problem}`)
  if (!isSmoke && problems.length === 0) {
    writeSection('Overload', text)
    recordGoals(goalsOf(flooded, growth), 'overload')
  }
  console.log(problems.length === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = problems.length === 0 ? 0 : 1
} finally {
  await subject?.stop()
  await ground.stop()
}
process.exit()
