/** The hub by itself: what comes for a peer before its seat is known. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { label, letterKinds } from '#protos/letter.ts'
import { payloadOf } from './framing.ts'
import { Hub } from './hub.ts'
import { Flusher, Outbox } from './outbox.ts'
import { Peer } from './peer.ts'
import { Positions } from './positions.ts'
import type { Reads } from './reads.ts'

const conversation = '11111111-1111-7111-8111-111111111111'
const attempt = '22222222-2222-7222-8222-222222222222'
const again = '33333333-3333-7333-8333-333333333333'

function rig(t: TestContext) {
  const metrics = openMetrics()
  const attached: unknown[] = []
  const hub = new Hub({
    clock: systemClock,
    log: silentLog,
    metrics,
    reads: {} as Reads,
    positions: new Positions(() => 0),
    engine: {
      command: () => ({ taken: true }),
      attach: items => void attached.push(...items),
      detach: () => {},
      closeSocket: () => {},
      pending: () => ({ letters: 0, bytes: 0 }),
    },
    answered: () => {},
  })
  t.after(() => hub.close())
  const got: { type: string; seq?: number }[] = []
  const wire = {
    write: (frames: readonly Buffer[]) => {
      for (const frame of frames) got.push(JSON.parse(payloadOf(frame).toString()))
      return 1
    },
    unsent: () => 0,
    left: () => 0,
    filled: () => {},
    tooSlow: () => {},
  }
  const peer = new Peer(1, 'ann', 's', new Outbox(wire, new Flusher(metrics)))
  peer.state = 'live'
  hub.peers.set(peer.id, peer)
  return { hub, peer, got, attached }
}

test('H9 a replay that comes before the notice of the membership is passed on whole', async t => {
  const { hub, peer, got, attached } = rig(t)
  hub.joining(peer, attempt, { conversation, afterSeq: 6, asked: {}, isImplicit: false })
  const on = { socket: 1, attempt, conversation }
  for (const seq of [7, 8]) {
    const frame = Buffer.from(JSON.stringify({ type: 'message.new', seq }))
    hub.replay(label(letterKinds.replay, { ...on, seq }), frame)
  }
  hub.answer(label(letterKinds.answer, on), Buffer.from(JSON.stringify({ type: 'room.joined', headSeq: 8 })))
  await written(() => got.length >= 3)
  assert.deepEqual(
    got.map(f => [f.type, f.seq]),
    [
      ['message.new', 7],
      ['message.new', 8],
      ['room.joined', undefined],
    ],
  )
  assert.deepEqual(attached, [[conversation, 6]])
  // The notice that was late still comes, with the numbering that the join began.
  const notice = { type: 'conversation.added', conversationId: conversation, conversation: { headSeq: 3 } }
  const added = label(letterKinds.user, { conversation, subject: 'ann', seq: 3 })
  hub.users.add('ann', peer)
  for (let i = 0; i < 2; i++) hub.user(added, Buffer.from(JSON.stringify(notice)))
  await written(() => got.length >= 4)
  assert.deepEqual(got.slice(3), [{ ...notice, conversation: { headSeq: 8 } }])
})

test('H9 a room that was left before its join was answered is not joined, one joined again after that is', async t => {
  const { hub, peer, got } = rig(t)
  const typing = () => {
    const frame = Buffer.from(JSON.stringify({ type: 'typing' }))
    hub.typing(label(letterKinds.typing, { conversation, principal: 'ben' }), frame)
  }
  const join = (asked: string) =>
    hub.joining(peer, asked, { conversation, afterSeq: undefined, asked: {}, isImplicit: false })
  const joined = (asked: string) => {
    const on = label(letterKinds.answer, { socket: 1, attempt: asked, conversation })
    hub.answer(on, Buffer.from(JSON.stringify({ type: 'room.joined', headSeq: 8 })))
  }
  join(attempt)
  hub.leaveRoom(peer, { type: 'room.leave', conversationId: conversation })
  joined(attempt)
  typing()
  await written(() => got.length >= 1)
  assert.deepEqual(got.splice(0), [{ type: 'room.joined', headSeq: 8 }])
  join(attempt)
  hub.leaveRoom(peer, { type: 'room.leave', conversationId: conversation })
  join(again)
  joined(attempt)
  joined(again)
  typing()
  await written(() => got.length >= 3)
  assert.deepEqual(
    got.map(f => f.type),
    ['room.joined', 'room.joined', 'typing'],
  )
  got.length = 0
  join(attempt)
  const on = label(letterKinds.answer, { socket: 1, attempt, conversation })
  hub.answer(on, Buffer.from(JSON.stringify({ type: 'resync_required', reason: 'ahead' })))
  typing()
  await written(() => got.length >= 1)
  assert.deepEqual(got, [{ type: 'resync_required', reason: 'ahead' }], 'one that ended so is not joined any more')
})

/** A turn of the event loop writes; a busy machine takes its time for one. One more turn shows what should not come. */
async function written(isThere: () => boolean): Promise<void> {
  for (const until = performance.now() + 5000; !isThere() && performance.now() < until; ) {
    await new Promise(go => setTimeout(go, 2))
  }
  await new Promise(go => setTimeout(go, 20))
}
