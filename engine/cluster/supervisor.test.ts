import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import type { ToFixture } from './fixtures/worker.ts'
import { type EndCause, superviseThreads } from './supervisor.ts'

type FromFixture = { kind: 'up'; worker: number } | { kind: 'echo'; worker: number; n: number }

function threads(t: TestContext, count: number, data: Record<string, unknown> = {}) {
  const heard: FromFixture[] = []
  const ends: { worker: number; cause: EndCause }[] = []
  const hopeless: number[] = []
  const metrics = openMetrics()
  const supervisor = superviseThreads<ToFixture, FromFixture>({
    count,
    module: new URL('./fixtures/worker.ts', import.meta.url).href,
    heapMb: 64,
    data,
    clock: systemClock,
    log: silentLog,
    metrics,
    stallMs: 1200,
    onMessage: (_worker, message) => heard.push(message),
    onEnded: (worker, cause) => ends.push({ worker, cause }),
    onHopeless: worker => hopeless.push(worker),
  })
  t.after(() => supervisor.stop(0))
  const ups = (worker: number) => heard.filter(m => m.kind === 'up' && m.worker === worker).length
  return { supervisor, heard, ends, hopeless, ups, metrics }
}

async function until(holds: () => boolean, what: string, ms = 10_000): Promise<number> {
  const began = performance.now()
  while (!holds()) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  return performance.now() - began
}

const faults: [ToFixture['kind'], EndCause][] = [
  ['throw', 'throw'],
  ['reject', 'throw'],
  ['exit', 'exit'],
  ['heap', 'heap'],
  ['spin', 'stall'],
]
for (const [fault, cause] of faults) {
  test(`[SUP1] a thread that meets ${fault} is replaced under its index, and its neighbour does not notice`, async t => {
    const { supervisor, heard, ends, ups, metrics } = threads(t, 2)
    await until(() => ups(0) === 1 && ups(1) === 1, 'both threads')
    supervisor.post(0, { kind: fault } as ToFixture)
    await until(() => ups(0) === 2, 'the replacement')
    // A thread that collects garbage for two seconds before its heap is full has stalled first.
    const causes = fault === 'heap' ? [cause, 'stall'] : [cause]
    assert.deepEqual([ends.length, ends[0]?.worker], [1, 0])
    assert.ok(causes.includes(ends[0]!.cause), ends[0]!.cause)
    assert.equal(ups(1), 1)
    for (const n of [0, 1]) supervisor.post(n, { kind: 'echo', n })
    await until(() => heard.filter(m => m.kind === 'echo').length === 2, 'answers of both')
    const counted = await metrics.parley_worker_restarts_total.get()
    assert.deepEqual(
      counted.values.map(v => [v.labels.cause, v.value]),
      [[ends[0]!.cause, 1]],
    )
  })
}

test('[SUP2] a thread that fails at its start is tried a few times and then given up', async t => {
  const { hopeless, ends } = threads(t, 1, { diesAtStart: true })
  await until(() => hopeless.length > 0, 'the end of hope', 20_000)
  assert.equal(ends.length, 5)
})

test('[SUP3] stop lets tasks end by themselves and ends at once those that do not', async t => {
  const { supervisor, ends, ups } = threads(t, 2)
  await until(() => ups(0) === 1 && ups(1) === 1, 'both threads')
  supervisor.post(0, { kind: 'stop' })
  supervisor.post(1, { kind: 'spin' })
  const began = performance.now()
  await supervisor.stop(300)
  const took = performance.now() - began
  assert.ok(took >= 250 && took < 2000, `${took} ms`)
  assert.deepEqual(ends, [])
})

test('[SUP4] a pause of the whole process is no stall of its threads', async t => {
  const { supervisor, ends, ups, heard } = threads(t, 1)
  await until(() => ups(0) === 1, 'the thread')
  // As after SIGCONT: all stood still, and the one that judges wakes first.
  supervisor.post(0, { kind: 'stand', ms: 2200 })
  for (const end = performance.now() + 1900; performance.now() < end; );
  supervisor.post(0, { kind: 'echo', n: 1 })
  await until(() => heard.some(m => m.kind === 'echo'), 'the thread again')
  assert.deepEqual(ends, [])
})
