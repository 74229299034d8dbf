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
