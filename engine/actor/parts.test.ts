/** The small parts: mailbox bounds, tail, timers, gathered reads, backlog. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { ann, ben, idOf } from '#engine/conversation/fixtures/scenario.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { label, letterKinds } from '#protos/letter.ts'
import {
  deltaBacklogBytesMax,
  earlyCommandsMax,
  mailboxBytesMax,
  mailboxBytesPerWorkerMax,
  mailboxLettersMax,
  mailboxLettersPerSenderMax,
  tailBytesMax,
  tailChunkEventsMax,
  tailEventsMax,
  typingRepeatMs,
} from '#protos/limits.ts'
import { Backlog } from './backlog.ts'
import { Early } from './early.ts'
import { Mailbox, type Waiting } from './mailbox.ts'
import type { Directory } from './ports.ts'
import { openReads } from './reads.ts'
import { Tail } from './tail.ts'
import { openTimers } from './timers.ts'

let count = 0
function letter(principal = ann, bytes = 100): Waiting {
  const attempt = idOf(++count, 'f')
  return {
    command: { type: 'chat.stop', conversationId: idOf(1, 'c'), messageId: idOf(1) },
    from: { principal, socket: 1, attempt, trace: '', ref: undefined },
    delivery: { label: label(letterKinds.command), body: new Uint8Array(0), origin: { linkId: 1 }, arrivedAt: 0 },
    bytes,
    isReady: true,
    isAgain: false,
  }
}

test('[Y1] typing that comes before the state waits for it, for a moment; receipts and joins as long as they must', () => {
  const early = new Early()
  const conversationId = idOf(1, 'c')
  const { from, delivery } = letter()
  const give = () => {
    early.push({ type: 'typing.start', conversationId }, { ...from, ref: delivery })
    early.push({ type: 'receipt.read', conversationId, seq: 1 }, { ...from, ref: delivery })
  }
  const types = (mono: number) => early.takeFresh(mono).map(({ command }) => command.type)
  give()
  assert.deepEqual(types(typingRepeatMs - 1), ['typing.start', 'receipt.read'])
  give()
  assert.deepEqual(types(typingRepeatMs), ['receipt.read'])
  for (let i = 0; i < earlyCommandsMax / 2; i++) give()
  assert.equal(early.push({ type: 'typing.stop', conversationId }, from), true, 'dropped, and nobody is told')
  assert.equal(early.push({ type: 'receipt.read', conversationId, seq: 1 }, from), false)
})

test('[A1] a mailbox holds 256 letters of a sender and 4096 in all, and frees what it gives out', () => {
  const tally = { letters: 0, bytes: 0 }
  const box = new Mailbox(tally)
  for (let i = 0; i < mailboxLettersPerSenderMax; i++) assert.ok(box.push(letter(ann)))
  assert.equal(box.push(letter(ann)), false)
  for (let i = 0; box.length < mailboxLettersMax; i++) assert.ok(box.push(letter(idOf(100 + (i >> 7)))))
  assert.equal(box.push(letter(ben)), false)
  box.shift()
  assert.ok(box.push(letter(ann)))
  assert.deepEqual(tally, { letters: mailboxLettersMax, bytes: mailboxLettersMax * 100 })
  box.remove(() => true)
  assert.deepEqual(tally, { letters: 0, bytes: 0 })
})

test('[A1] bytes are bounded for a conversation and for the worker', () => {
  const tally = { letters: 0, bytes: 0 }
  const box = new Mailbox(tally)
  assert.ok(box.push(letter(ann, mailboxBytesMax)))
  assert.equal(box.push(letter(ben, 1)), false)
  for (let b = 1; b < mailboxBytesPerWorkerMax / mailboxBytesMax; b++) {
    assert.ok(new Mailbox(tally).push(letter(ann, mailboxBytesMax)))
  }
  assert.equal(new Mailbox(tally).push(letter(ben, 1)), false)
})

test('[A2] what is taken and put back keeps its order, whatever came between', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 60 }), fc.nat(20), fc.nat(5), (senders, taken, removed) => {
      const box = new Mailbox({ letters: 0, bytes: 0 })
      const all = senders.map(s => letter(idOf(s)))
      const half = all.splice(Math.ceil(all.length / 2))
      for (const l of all) box.push(l)
      const out: Waiting[] = []
      for (let i = 0; i < taken; i++) {
        const l = box.shift()
        if (l) out.push(l)
      }
      for (const l of half) box.push(l)
      box.putBack(out)
      box.remove(l => l.from.principal === idOf(removed))
      const left: Waiting[] = []
      for (let l = box.shift(); l; l = box.shift()) left.push(l)
      assert.deepEqual(
        left.map(l => l.from.attempt),
        [...all, ...half].filter(l => l.from.principal !== idOf(removed)).map(l => l.from.attempt),
      )
      assert.equal(box.length, 0)
    }),
  )
})

test('[J4] a tail answers only what it holds without a hole', () => {
  const tail = new Tail({ tailBytesMax: 256 * 1024 })
  const frameOf = (seq: number) => Buffer.from(`{"seq":${seq}}`)
  for (let seq = 5; seq <= 9; seq++) tail.push(seq, frameOf(seq))
  assert.deepEqual(
    tail.after(6, 9)?.map(e => e.seq),
    [7, 8, 9],
  )
  assert.deepEqual(
    tail.after(4, 8)?.map(e => e.seq),
    [5, 6, 7, 8],
  )
  assert.equal(tail.after(3, 9), undefined)
  assert.equal(tail.after(6, 10), undefined)
  assert.deepEqual(tail.after(9, 9), [])
  tail.push(11, frameOf(11))
  assert.equal(tail.after(6, 11), undefined)
  for (let seq = 12; seq < 12 + 2 * tailEventsMax; seq++) {
    tail.push(seq, frameOf(seq))
    // Whole chunks go: never more than the limit, never a chunk less.
    assert.equal(tail.after(seq - tailEventsMax - 1, seq), undefined)
    const kept = Math.min(seq - 10, tailEventsMax - tailChunkEventsMax + 1)
    const found = tail.after(seq - kept, seq)!
    assert.deepEqual(
      found.map(e => JSON.parse(Buffer.from(e.frame).toString()).seq),
      Array.from({ length: kept }, (_, i) => seq - kept + 1 + i),
    )
  }
  tail.push(tail.last! + 1, Buffer.alloc(tailBytesMax + 1))
  assert.equal(tail.last, undefined)
})

test('[Y1] timers ring in order of their time, cancelled ones never, and one that throws harms none', async () => {
  const errors: unknown[] = []
  const timers = openTimers(systemClock, e => errors.push(e))
  const rung: number[] = []
  for (const ms of [30, 10, 20, 5, 25]) timers.after(ms, () => rung.push(ms))
  timers.after(15, () => rung.push(-1))()
  timers.after(12, () => {
    throw new Error('one')
  })
  // The timers hold no process open, so the test does.
  await sleep(60)
  assert.deepEqual(rung, [5, 10, 20, 25, 30])
  assert.equal(errors.length, 1)
  timers.after(1, () => rung.push(99))
  timers.close()
  await sleep(10)
  assert.equal(rung.includes(99), false)
})

test('[A2] reads of one turn are one statement, and a failing one is tried again', async () => {
  const timers = openTimers(systemClock, () => {})
  const asked: number[] = []
  let fails = 1
  const directory = {
    heads: async (ids: readonly string[]) => {
      asked.push(ids.length)
      if (fails-- > 0) throw new Error('away')
      return new Map(ids.map(id => [id, { head: 1, firstSeq: 1, epoch: 1 }]))
    },
  } as unknown as Directory
  const reads = openReads({ directory, timers, clock: systemClock, log: silentLog })
  const hold = setInterval(() => {}, 1000)
  const heads = await Promise.all([1, 2, 2, 3].map(n => reads.head(idOf(n))))
  clearInterval(hold)
  assert.deepEqual(asked, [3, 3])
  assert.equal(heads.filter(h => h?.head === 1).length, 4)
  reads.close()
  timers.close()
})

test('[T6] the backlog lets providers wait above its limit', async () => {
  const backlog = new Backlog()
  await backlog.room()
  backlog.add(deltaBacklogBytesMax + 1)
  let isOpen = false
  const waiting = backlog.room().then(() => {
    isOpen = true
  })
  await sleep(5)
  assert.equal(isOpen, false)
  backlog.add(-1)
  await waiting
  assert.ok(isOpen)
})
