/** Credit of a link, as both ends count it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { linkCreditBytes, linkCreditLetters } from '#protos/limits.ts'
import { CreditPurse, CreditTab } from './letter-writer.ts'

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
