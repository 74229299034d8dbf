/** The outbox on a wire that the test drives: one write a turn, limits, drain, stall. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { openMetrics } from '#engine/ops/metrics.ts'
import { outboxControlBytesMax, outboxPushBytesMax, outboxStallMsMax } from '#protos/limits.ts'
import { frameText } from './framing.ts'
import { Flusher, Outbox, type Wire } from './outbox.ts'

class FakeWire implements Wire {
  writes: string[][] = []
  waiting = 0
  remaining = 0
  slow = 0
  fills = 0
  write(frames: readonly Buffer[]): number {
    this.writes.push(
      frames.map(f =>
        f
          .toString('latin1')
          .replace(/^[^a-z]+/, '')
          .slice(0, 3),
      ),
    )
    return 1
  }
  unsent(): number {
    return this.waiting
  }
  left(): number {
    return this.remaining
  }
  filled(): void {
    this.fills++
  }
  tooSlow(): void {
    this.slow++
  }
}

function rig() {
  const wire = new FakeWire()
  const metrics = openMetrics()
  const outbox = new Outbox(wire, new Flusher(metrics))
  return { wire, outbox, metrics }
}
const frame = (name: string, bytes = 10) => frameText(name.padEnd(bytes, '.'))

test('H12 all frames of a turn leave in one write, in order', async () => {
  const { wire, outbox } = rig()
  outbox.push(frame('aaa'))
  outbox.control(frame('bbb'))
  outbox.latest('k', frame('ccc'))
  outbox.offer(frame('ddd'))
  assert.equal(wire.writes.length, 0)
  await turn()
  assert.deepEqual(wire.writes, [['aaa', 'bbb', 'ccc', 'ddd']])
})

test('H10 at the limit frames still go, beyond it the socket is full until it has drained to a quarter', async () => {
  const { wire, outbox } = rig()
  wire.waiting = outboxPushBytesMax - frame('aaa').length
  assert.equal(outbox.push(frame('aaa')), true)
  assert.equal(outbox.push(frame('bbb')), false)
  assert.equal(wire.fills, 1)
  await turn()
  wire.waiting = outboxPushBytesMax / 2
  assert.equal(outbox.poll(1), false)
  assert.equal(outbox.push(frame('ccc')), false, 'it stays full')
  wire.waiting = 100
  assert.equal(outbox.poll(2), true)
  assert.equal(outbox.push(frame('ddd')), true)
})

test('H11 while full, answers wait in order, latest values are merged, typing is dropped', async () => {
  const { wire, outbox, metrics } = rig()
  wire.waiting = outboxPushBytesMax
  assert.equal(outbox.push(frame('aaa')), false)
  outbox.control(frame('ack'))
  outbox.latest('k', frame('old'))
  outbox.latest('k', frame('new'))
  outbox.offer(frame('typ'))
  outbox.control(frame('err'))
  await turn()
  assert.deepEqual(wire.writes, [])
  wire.waiting = 0
  assert.equal(outbox.poll(1), true)
  await turn()
  assert.deepEqual(wire.writes, [['ack', 'err', 'new']])
  const dropped = await metrics.parley_drops_total.get()
  assert.deepEqual(dropped.values.map(v => [v.labels['kind'], v.value]).sort(), [
    ['merged', 1],
    ['typing', 1],
  ])
})

test('H11 answers beyond 256 KiB close 4420', () => {
  const { wire, outbox } = rig()
  wire.waiting = outboxPushBytesMax
  outbox.push(frame('aaa'))
  const size = frame('ack', 1000).length
  for (let bytes = size; bytes <= outboxControlBytesMax; bytes += size) outbox.control(frame('ack', 1000))
  assert.equal(wire.slow, 0)
  outbox.control(frame('ack', 1000))
  assert.equal(wire.slow, 1)
})

test('H11 answers alone fill a socket too: those beyond 256 KiB unsent wait, and beyond 256 KiB of these it closes', async () => {
  const { wire, outbox } = rig()
  outbox.control(frame('aaa'))
  await turn()
  wire.waiting = outboxPushBytesMax
  const size = frame('ack', 1000).length
  for (let bytes = size; bytes <= outboxControlBytesMax; bytes += size) outbox.control(frame('ack', 1000))
  await turn()
  assert.deepEqual([wire.writes.length, wire.fills, wire.slow], [1, 1, 0])
  outbox.control(frame('ack', 1000))
  assert.equal(wire.slow, 1)
})

test('H11 30 s without progress close 4420, slow progress does not', () => {
  const { wire, outbox } = rig()
  wire.waiting = outboxPushBytesMax
  outbox.push(frame('aaa'))
  outbox.poll(1000)
  outbox.poll(1000 + outboxStallMsMax - 1)
  assert.equal(wire.slow, 0)
  wire.remaining += 1
  outbox.poll(1000 + outboxStallMsMax)
  outbox.poll(1000 + 2 * outboxStallMsMax - 1)
  assert.equal(wire.slow, 0)
  outbox.poll(1000 + 2 * outboxStallMsMax)
  assert.equal(wire.slow, 1)
})

test('H10 a burst of one turn is written at once, so that only what the socket did not take counts', () => {
  const { wire, outbox } = rig()
  for (let i = 0; i < 100; i++) assert.equal(outbox.push(frame('aaa', 20_000)), true)
  assert.ok(wire.writes.length > 10)
  wire.waiting = outboxPushBytesMax
  assert.equal(outbox.push(frame('bbb')), false)
})

test('H10 one frame larger than the limit goes into an empty box only', () => {
  const { wire, outbox } = rig()
  assert.equal(outbox.push(frame('big', outboxPushBytesMax + 1)), true)
  wire.waiting = outboxPushBytesMax
  assert.equal(outbox.push(frame('aaa')), false)
})
