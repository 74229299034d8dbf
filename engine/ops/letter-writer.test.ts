/** Credit of a link, as both ends count it, and when letters leave. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { label, letterKinds, readBatch } from '#protos/letter.ts'
import {
  linkBusyLettersMin,
  linkCreditBytes,
  linkCreditLetters,
  linkHoldLettersMax,
  linkHoldMs,
} from '#protos/limits.ts'
import { CreditPurse, CreditTab, LetterWriter } from './letter-writer.ts'

test('K1 a purse is empty when its bytes or its letters are spent, and never holds more than was granted', () => {
  const purse = new CreditPurse()
  purse.give(10 * linkCreditBytes, 10 * linkCreditLetters)
  purse.spend(linkCreditBytes)
  assert.ok(purse.isEmpty)
  assert.equal(purse.debtBytes, 0)
  purse.spend(5)
  assert.equal(purse.debtBytes, 5)
  purse.give(10 * linkCreditBytes, 10 * linkCreditLetters)
  for (let n = 0; n < linkCreditLetters; n++) {
    assert.ok(!purse.isEmpty)
    purse.spend(1)
  }
  assert.ok(purse.isEmpty)
})

test('K2 what was read is given back in quarters, all of it', () => {
  for (const bytes of [1, 1000, linkCreditBytes]) {
    const tab = new CreditTab()
    let read = 0
    let given = 0
    for (let n = 0; n < 3 * linkCreditLetters; n++) {
      read += bytes
      const due = tab.read(bytes)
      if (due) given += due.bytes
      assert.ok(read - given < linkCreditBytes / 4 + bytes)
    }
    assert.ok(given > 0)
  }
})

/** A writer with what has left through it: the number of letters of each message. */
function writerTo(): { writer: LetterWriter; left: number[]; push(count?: number): void } {
  const left: number[] = []
  const sink = {
    write(bytes: Buffer) {
      left.push(readBatch(bytes).length)
      return true
    },
    once() {},
  }
  const writer = new LetterWriter(sink, () => {})
  return {
    writer,
    left,
    push(count = 1) {
      for (let i = 0; i < count; i++) writer.push(label(letterKinds.command), Buffer.from('{}'))
    },
  }
}

test('K3 a letter leaves with its turn; behind a busy peer it waits for the next answer, or for company, or a few ms', async () => {
  const { writer, left, push } = writerTo()
  push(2)
  await turn()
  assert.deepEqual(left, [2])
  push()
  await turn()
  assert.deepEqual(left, [2, 1], 'nobody has answered, and nobody is known to be busy')

  writer.heard(linkBusyLettersMin)
  push()
  await turn()
  assert.deepEqual(left.splice(0), [2, 1, 1], 'nothing is under way: it does not wait')
  push()
  await turn()
  push()
  await turn()
  assert.deepEqual(left, [])
  writer.heard(linkBusyLettersMin)
  await turn()
  assert.deepEqual(left.splice(0), [2])

  push(linkHoldLettersMax - 1)
  await turn()
  assert.deepEqual(left, [])
  push()
  await turn()
  assert.deepEqual(left.splice(0), [linkHoldLettersMax])

  push()
  await sleep(5 * linkHoldMs)
  assert.deepEqual(left.splice(0), [1])
})

test('K4 behind a peer that answers few letters at a time nothing waits', async () => {
  const { writer, left, push } = writerTo()
  writer.heard(linkBusyLettersMin)
  push()
  await turn()
  writer.heard(linkBusyLettersMin - 1)
  for (let i = 0; i < 3; i++) {
    push()
    await turn()
  }
  assert.deepEqual(left, [1, 1, 1, 1])
})

test('K5 a closed writer sends nothing that it held', async () => {
  const { writer, left, push } = writerTo()
  writer.heard(linkBusyLettersMin)
  push()
  await turn()
  push()
  writer.close()
  await sleep(2 * linkHoldMs)
  assert.deepEqual(left, [1])
})
