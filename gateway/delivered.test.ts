/** When receipts of delivery leave. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { deliveredEveryMs, yieldLettersMin, yieldMsMax } from '#protos/limits.ts'
import { Delivered } from './delivered.ts'

function rig() {
  const told: string[] = []
  const busy = { letters: 0, bytes: 0 }
  const delivered = new Delivered({
    clock: systemClock,
    engine: {
      command(command) {
        told.push(`${command.principal} ${JSON.parse(Buffer.from(command.body).toString()).seq}`)
        return { taken: true }
      },
      pending: () => busy,
    },
  })
  return { delivered, told, busy }
}

test('H14 the highest event is told once', () => {
  const { delivered, told } = rig()
  for (const seq of [3, 5, 4]) delivered.note('c', 'ann', seq)
  delivered.flush()
  delivered.flush()
  assert.deepEqual(told, ['ann 5'])
})

test('H14 receipts let many waiting sends pass, and not for ever', () => {
  const { delivered, told, busy } = rig()
  delivered.note('c', 'ann', 1)
  busy.letters = yieldLettersMin
  for (let ms = 0; ms < yieldMsMax; ms += deliveredEveryMs) {
    delivered.flush()
    assert.deepEqual(told, [])
  }
  delivered.note('c', 'ann', 2)
  delivered.flush()
  assert.deepEqual(told, ['ann 2'])
  delivered.note('c', 'ann', 3)
  delivered.flush()
  assert.equal(told.length, 1)
  busy.letters = 0
  delivered.flush()
  assert.equal(told.length, 2)
})
