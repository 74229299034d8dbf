/** Readings of the log: gathered, few at a time, shared; one that fails fails for those who asked, and no later one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logReadsMax, logStretchesMax } from '#protos/limits.ts'
import { LogReads } from './log-reads.ts'
import type { LogFrame, Stretch } from './reads.ts'

const chunk = { events: 8, bytes: 1000 }
const frameAt = (conversation: string, seq: number): LogFrame => ({
  seq,
  kind: 'message.new',
  senderId: 'sender',
  json: JSON.stringify({ conversation, seq }),
})
const turn = () => new Promise(resolve => setImmediate(resolve))

function rig() {
  const asked: { stretches: readonly Stretch[]; answer: PromiseWithResolvers<void> }[] = []
  const reads = {
    async frames(stretches: readonly Stretch[]) {
      const answer = Promise.withResolvers<void>()
      asked.push({ stretches, answer })
      await answer.promise
      return stretches.map(({ conversation, after }) => [frameAt(conversation, after + 1)])
    },
  }
  return { asked, log: new LogReads({ reads, clock: { mono: () => 0 } }) }
}

test('[LR1] what is asked in one turn is one reading up to a bound, and each gets its own', async () => {
  const { asked, log } = rig()
  const count = logStretchesMax * logReadsMax + 3
  const all = Array.from({ length: count }, (_, i) => log.events(`c${i}`, i, 1000, chunk))
  await turn()
  assert.deepEqual(
    asked.map(a => a.stretches.length),
    Array.from({ length: logReadsMax }, () => logStretchesMax),
  )
  // What comes while readings are under way goes with what waited.
  const late = log.events('late', 4, 1000, chunk)
  await turn()
  assert.equal(asked.length, logReadsMax)
  asked[0]!.answer.resolve()
  while (asked.length === logReadsMax) await turn()
  assert.equal(asked[logReadsMax]!.stretches.length, 4)
  for (const { answer } of asked) answer.resolve()
  for (const [i, events] of (await Promise.all(all)).entries()) {
    assert.deepEqual(
      events.map(e => e.json),
      [JSON.stringify({ conversation: `c${i}`, seq: i + 1 })],
    )
  }
  assert.deepEqual(
    (await late).map(e => e.seq),
    [5],
  )
})

test('[LR2] a reading that fails is told to all of its askers; the next is made anew', async () => {
  const { asked, log } = rig()
  const two = [log.events('a', 1, 9, chunk), log.events('b', 1, 9, chunk)]
  await turn()
  asked[0]!.answer.reject(new Error('away'))
  for (const one of await Promise.allSettled(two)) assert.equal(one.status, 'rejected')
  const again = log.events('a', 1, 9, chunk)
  while (asked.length < 2) await turn()
  asked[1]!.answer.resolve()
  assert.equal((await again).length, 1)
})

test('[LR3] who stands at the same place shares a reading; above `to` nothing is given', async () => {
  const { asked, log } = rig()
  const [first, second, below] = [
    log.events('a', 1, 9, chunk),
    log.events('a', 1, 9, chunk),
    log.events('b', 1, 1, chunk),
  ]
  await turn()
  assert.equal(asked[0]!.stretches.length, 2)
  asked[0]!.answer.resolve()
  assert.deepEqual([(await first).length, (await second).length, (await below).length], [1, 1, 0])
})
