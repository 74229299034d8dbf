/** The journal's contract on the in-memory log, and its pace, where time can be held. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import { openBench, settled } from '#load/kit/journal-bench.ts'
import { memoryWorld } from '#load/kit/journal-world.ts'
import { journalContract } from './journal.contract.ts'

journalContract('memory', async () => memoryWorld())

test('J14 behind a statement of several sources, what comes on the next turns goes together; behind one of a lone source nothing waits', async () => {
  const bench = await openBench(memoryWorld(), { ...systemClock, mono: () => 1000 })
  try {
    const sources = Array.from({ length: 5 }, () => bench.source())
    await bench.own(...sources)
    const [first, second, ...late] = sources
    first!.send()
    await settled(first!)
    first!.send()
    second!.send()
    await settled(first!, second!)
    for (const source of late) {
      source.send()
      await turn()
    }
    await settled(...late)
    assert.deepEqual(
      bench.store.commits.map(batch => batch.length),
      [1, 2, 3],
    )
  } finally {
    await bench.close()
  }
})

test('J26 the next statement leaves before the shares of the last are settled, without those who are in both', async () => {
  const bench = await openBench(memoryWorld())
  try {
    const [first, second] = [bench.source(), bench.source()]
    await bench.own(first, second)
    const seen: string[] = []
    const { commit } = bench.store
    const gate = Promise.withResolvers<void>()
    bench.store.commit = async contributions => {
      const isFirst = seen.length === 0
      const names = contributions.map(c => (c.conversation === first.conversation ? 'first' : 'second'))
      seen.push(`sent ${names.join(' ')}`)
      if (isFirst) await gate.promise
      return commit.call(bench.store, contributions)
    }
    for (const [name, source] of [
      ['first', first],
      ['second', second],
    ] as const) {
      const settle = source.settle.bind(source)
      source.settle = outcome => {
        seen.push(`settled ${name}`)
        settle(outcome)
      }
    }
    first.send()
    while (seen.length === 0) await turn()
    // Both have more while the first statement is under way; a source gives nothing before its share is settled.
    first.send()
    second.send()
    gate.resolve()
    await settled(first, second)
    assert.deepEqual(seen, [
      'sent first',
      'sent second',
      'settled first',
      'sent first',
      'settled second',
      'settled first',
    ])
  } finally {
    await bench.close()
  }
})
