/**
 * `node load/bench/scrapes.ts [--smoke]`: CPU of metrics that are read every 5 s (G17). Under steady sends, spans with many scrapes and
 * without any take turns; the difference by the number of scrapes is what one costs. Fails when sends were not acked or a page was
 * empty.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { machineLine } from '#load/kit/machine.ts'
import { cpuMs } from '#load/kit/proc.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { scrape } from '#load/kit/scrape.ts'
import { Load } from './load.ts'
import { type ParleySubject, startGround, startParley } from './subjects.ts'

const isSmoke = process.argv.includes('--smoke')
const pairCount = isSmoke ? 10 : 200
const rate = isSmoke ? 100 : 2000
const runMs = isSmoke ? 1000 : 6000
const rounds = isSmoke ? 1 : 6
const betweenMs = 50
const usualMs = 5000
const problems: string[] = []

/** Reads both pages again and again until told; answers how often. */
function reading(subject: ParleySubject): () => Promise<number> {
  let isOver = false
  const run = async () => {
    let count = 0
    for (; !isOver; count++) {
      const { metricsUrl, engineMetricsUrl } = subject.product.node()
      const pages = await Promise.all([scrape(metricsUrl!), scrape(engineMetricsUrl!)])
      if (pages.some(page => page.size < 20)) problems.push('a page of metrics was empty')
      await sleep(betweenMs)
    }
    return count
  }
  const running = run()
  return () => {
    isOver = true
    return running
  }
}

const ground = await startGround()
let subject: ParleySubject | undefined
try {
  const parley = await startParley(ground)
  subject = parley
  const used = () => {
    const { gateway, engine } = parley.product.node()
    return cpuMs(gateway) + cpuMs(engine)
  }
  const senders = await parley.pairs(pairCount)
  const load = await Load.open(parley, senders)
  const step = async (warmMs: number) => {
    const m = await load.measure({
      kind: 'step',
      rate,
      burst: 1,
      senders: senders.length,
      warmMs,
      runMs,
      drainMs: 5000,
    })
    if (m.acked !== m.due) problems.push(`${m.acked} of ${m.due} sends were acked`)
  }
  await step(isSmoke ? 0 : 15_000)
  const spans: { withoutMs: number; withMs: number; scrapes: number }[] = []
  for (let i = 0; i < rounds; i++) {
    const from = used()
    await step(0)
    const withoutMs = used() - from
    const stop = reading(parley)
    const fromWith = used()
    await step(0)
    const withMs = used() - fromWith
    spans.push({ withoutMs, withMs, scrapes: await stop() })
  }
  await load.end()
  const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!
  const oneMs = median(spans.map(s => (s.withMs - s.withoutMs) / s.scrapes))
  const baseMs = median(spans.map(s => s.withoutMs))
  const ofCore = (100 * oneMs) / usualMs
  const ofUsed = (ofCore * runMs) / baseMs
  const text = [
    `Machine: ${machineLine()}.`,
    '',
    `Reading both pages of metrics once costs ${oneMs.toFixed(1)} ms of CPU in gateway and engine (medians of ${rounds} pairs of spans at ${rate} sends/s, about ${(1000 / betweenMs).toFixed(0)} scrapes a second`,
    `and none): every 5 s that is ${ofCore.toFixed(2)} % of a core, and ${ofUsed.toFixed(2)} % of what both use at this rate. Counting itself is always on and is in every figure here.`,
  ].join('\n')
  console.log(`\n${text}\n`)
  for (const problem of problems) console.log(`FAIL ${problem}`)
  if (!isSmoke && problems.length === 0) {
    writeSection('Metrics', text)
    const measured = `${ofUsed.toFixed(2)} % of gateway and engine at ${rate}/s (${oneMs.toFixed(1)} ms a scrape)`
    recordGoals(
      [{ id: 'G17', what: 'metrics, read every 5 s', floor: '≤ 2 % CPU', aim: '1 %', measured, isMet: ofUsed <= 2 }],
      'scrapes',
    )
  }
  console.log(problems.length === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = problems.length === 0 ? 0 : 1
} finally {
  await subject?.stop()
  await ground.stop()
}
process.exit()
