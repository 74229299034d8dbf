/** Go-back-n and interest as pure bookkeeping. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { label, letterFlags, letterKinds } from '#protos/letter.ts'
import { linkCreditLetters } from '#protos/limits.ts'
import { Interest } from './interest.ts'
import { isOrdered, LinkOrder } from './order.ts'

const a = '0190a5a0-0000-7000-8000-00000000000a'
const b = '0190a5a0-0000-7000-8000-00000000000b'
const letter = (conversation = a, flags = 0, socket = 1) => label(letterKinds.command, { conversation, flags, socket })

test('O1 after a refusal the pair is refused, for the same reason, until the restart mark; other pairs pass', () => {
  const order = new LinkOrder()
  assert.equal(order.arrive(letter()), undefined)
  order.refuse(letter(), { kind: 'load', code: 'OVERLOADED', retryAfterMs: 300 })
  order.refuse(letter(), { kind: 'epoch' })
  assert.deepEqual(order.arrive(letter()), { kind: 'load', code: 'OVERLOADED', retryAfterMs: 300 })
  assert.equal(order.arrive(letter(b)), undefined)
  assert.equal(order.arrive(letter(a, 0, 2)), undefined)
  assert.equal(order.arrive(letter(a, letterFlags.restart)), undefined)
  assert.equal(order.arrive(letter()), undefined)
})

test('O2 marks are forgotten once a whole credit of letters came after them, so they never outgrow it', () => {
  const order = new LinkOrder()
  order.refuse(letter(), { kind: 'epoch' })
  for (let n = 0; n < linkCreditLetters; n++) order.arrive(letter(b))
  assert.deepEqual(order.arrive(letter(b)), undefined)
  assert.equal(order.size, 0)
  for (let n = 1; n < linkCreditLetters * 2; n++) {
    order.arrive(letter(a, 0, n))
    order.refuse(letter(a, 0, n), { kind: 'epoch' })
  }
  assert.ok(order.size <= linkCreditLetters + 1)
})

test('O3 order is for durable commands of a socket only', () => {
  assert.ok(isOrdered(letter()))
  assert.ok(!isOrdered(letter(a, 0, 0)))
  assert.ok(!isOrdered(letter(a, letterFlags.loose)))
})

test('O4 the interest table counts once per link, is bounded, and forgets links and shards', () => {
  const interest = new Interest<string>(3)
  assert.ok(interest.add(1, a, 'x'))
  assert.ok(interest.add(1, a, 'x'))
  assert.ok(interest.add(1, a, 'y'))
  assert.ok(interest.add(2, b, 'x'))
  assert.equal(interest.size, 3)
  assert.ok(!interest.add(3, 'c', 'x'))
  assert.ok(interest.add(2, b, 'x'), 'what is there already is not refused')
  assert.deepEqual([...interest.of(1, a)!], ['x', 'y'])
  interest.dropLink('x')
  assert.deepEqual([...interest.of(1, a)!], ['y'])
  assert.equal(interest.of(2, b), undefined)
  interest.dropShard(1)
  assert.equal(interest.size, 0)
  interest.remove(1, a, 'y')
  assert.equal(interest.size, 0)
})
