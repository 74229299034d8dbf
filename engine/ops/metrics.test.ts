/** Our own kinds of metric say on a page, alone and added up over threads, what those of prom-client would. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AggregatorRegistry, Counter, Histogram, Registry } from 'prom-client'
import { openScrape } from '#engine/cluster/scrape.ts'
import { CountBy } from './count-by.ts'
import { openMetrics } from './metrics.ts'
import { Tally } from './tally.ts'

const buckets = [0.5, 1, 2, 5, 1000]
/** On, just below and just above each bound; nothing, less than nothing and more than all. */
const values = [...buckets.flatMap(b => [b, b - 1e-9, b + 1e-9]), 0, -0, -3, 0.1, 0.2, 4000, 0.7, 1e300]
const types = ['message.send', 'bad', 'message.send', 'a "quoted"\nline\\', '']

interface Observes {
  observe(value: number): void
}
interface Counts {
  inc(labels: { type: string }, by?: number): void
}

/** The same page twice: by prom-client's own kinds and by ours. */
function twoPages() {
  const [theirs, ours] = [new Registry(), new Registry()]
  const histogram = { name: 'wait_ms', help: 'A wait, ms.', buckets }
  const counter = { name: 'frames_total', help: 'Frames, by type.' }
  const both: [Observes, Counts][] = [
    [
      new Histogram({ ...histogram, registers: [theirs] }),
      new Counter({ ...counter, labelNames: ['type'], registers: [theirs] }),
    ],
    [new Tally({ ...histogram, registry: ours }), new CountBy({ ...counter, label: 'type', registry: ours })],
  ]
  return { theirs, ours, both }
}

test('[MET1] a page is the same to the letter, before anything was counted and after', async () => {
  const { theirs, ours, both } = twoPages()
  assert.equal(await ours.metrics(), await theirs.metrics())
  for (const value of values) {
    for (const [histogram] of both) histogram.observe(value)
    assert.equal(await ours.metrics(), await theirs.metrics(), `after ${value}`)
  }
  for (const [i, type] of types.entries()) {
    for (const [, counter] of both) counter.inc({ type }, i === 3 ? 0.5 : undefined)
    assert.equal(await ours.metrics(), await theirs.metrics(), `after ${type}`)
  }
})

test('[MET2] what threads send each other adds up to the same page', async () => {
  const dumps: [unknown[], unknown[]] = [[], []]
  for (const part of [values, values.slice(0, 7), []]) {
    const { theirs, ours, both } = twoPages()
    for (const [histogram, counter] of both) {
      for (const value of part) {
        histogram.observe(value)
        counter.inc({ type: types[part.length % 3]! }, 2)
      }
    }
    for (const [i, registry] of [theirs, ours].entries()) {
      dumps[i]!.push(structuredClone(await registry.getMetricsAsJSON()))
    }
  }
  const [theirs, ours] = dumps.map(d => AggregatorRegistry.aggregate(d as object[]).metrics())
  assert.equal(await ours, await theirs)
  assert.match((await ours)!, /^wait_ms_bucket\{le="2"\} \d\d$/m)
})

test('[MET3] the product’s own page holds them too, alone and added up', async () => {
  const metrics = openMetrics()
  metrics.parley_frames_in_total.inc({ type: 'ping' })
  metrics.parley_send_ms.observe(3)
  const lines = ['parley_frames_in_total{type="ping"} 1', 'parley_send_ms_bucket{le="5"} 1', 'parley_send_ms_sum 3']
  const alone = await metrics.registry.metrics()
  const summed = await openScrape(metrics.registry, () => 0).text()
  for (const line of lines) for (const page of [alone, summed]) assert.ok(page.split('\n').includes(line), line)
})

test('[MET4] what is no number, or less than nothing for a counter, is refused and leaves no trace', async () => {
  const { ours, both } = twoPages()
  const [tally, countBy] = both[1]!
  const before = await ours.metrics()
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, undefined]) {
    assert.throws(() => tally.observe(value as number), TypeError)
  }
  for (const by of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => countBy.inc({ type: 'x' }, by), TypeError)
  }
  assert.equal(await ours.metrics(), before)
})
