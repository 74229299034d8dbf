import 'fake-indexeddb/auto'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DurableFrame } from '#protos/catalogue.ts'
import {
  Archive,
  eventsKeptMax,
  fitting,
  historiesKeptMax,
  historyCharsMax,
  type KeptRoom,
  roomCharsMax,
  roomsKeptMax,
} from './archive.ts'
import { Database } from './database.ts'

const ts = (second: number) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString()
const event = (seq: number, content = `text ${seq}`) =>
  ({ type: 'message.new', conversationId: 'room', seq, messageId: `m${seq}`, content, ts: ts(seq) }) as DurableFrame
const events = (n: number, content?: string) => Array.from({ length: n }, (_, i) => event(i + 1, content))
const room = (id: string, second: number, title = id): KeptRoom => ({
  ...{ id, title, kind: 'group', toolPolicy: 'requester', createdAt: ts(second), members: [] },
  ...{ headSeq: 3, readSeq: 2, unread: 1 },
})

function opened(userId: string) {
  const database = new Database(userId)
  return { archive: new Archive(database), close: () => database.close() }
}

test('A1 what was read is there after a reload: the list, the events, the answer so far', async () => {
  const before = opened('a1')
  const answer = { conversationId: 'room', messageId: 'm9', text: 'half an ans' }
  await before.archive.keepRooms([room('room', 1)])
  await before.archive.keepHistory({ conversationId: 'room', firstSeq: 1, events: events(3) }, 1)
  await before.archive.keepAnswer(answer)
  await before.close()
  const after = opened('a1')
  assert.deepEqual(await after.archive.rooms(), [room('room', 1)])
  const history = await after.archive.history('room')
  assert.deepEqual([history?.events, history?.firstSeq, history?.answer], [events(3), 1, answer])
  assert.equal(await after.archive.history('other'), undefined)
  await after.archive.dropAnswer('room')
  assert.equal((await after.archive.history('room'))?.answer, undefined)
  await after.close()
})

test('A2 of a history the end is kept that is within both limits, without a hole', () => {
  const seqs = (all: readonly DurableFrame[]) => [all.at(0)?.seq, all.at(-1)?.seq, all.length]
  assert.deepEqual(seqs(fitting(events(eventsKeptMax + 50))), [51, eventsKeptMax + 50, eventsKeptMax])
  const heavy = fitting(events(100, 'x'.repeat(16_000)))
  assert.equal(heavy.at(-1)?.seq, 100)
  assert.ok(JSON.stringify(heavy).length <= historyCharsMax + heavy.length + 2)
  assert.ok(heavy.length >= 10)
  assert.deepEqual(fitting([event(1, 'x'.repeat(historyCharsMax))]), [])
})

test('A3 the histories longest unused go, and the quietest conversations', async () => {
  const { archive, close } = opened('a3')
  for (let i = 0; i < historiesKeptMax + 2; i++) {
    await archive.keepHistory({ conversationId: `c${i}`, firstSeq: 1, events: events(1) }, i === 0 ? 1000 : i)
  }
  const has = async (i: number) => (await archive.history(`c${i}`)) !== undefined
  assert.deepEqual(
    [await has(0), await has(1), await has(2), await has(3), await has(historiesKeptMax + 1)],
    [true, false, false, true, true],
  )
  const many = Array.from({ length: roomsKeptMax + 5 }, (_, i) => room(`r${i}`, i))
  await archive.keepRooms(many)
  const ids = new Set((await archive.rooms()).map(each => each.id))
  assert.deepEqual([ids.size, ids.has('r4'), ids.has('r5')], [roomsKeptMax, false, true])
  await close()
})

test('A4 a conversation too large for the list is left out of it, also when it was smaller before', async () => {
  const { archive, close } = opened('a4')
  await archive.keepRooms([room('a', 1), room('b', 2)])
  await archive.keepRooms([room('a', 1, 'x'.repeat(roomCharsMax))])
  assert.deepEqual(
    (await archive.rooms()).map(each => each.id),
    ['b'],
  )
  await close()
})

test('A5 what one is no longer in goes whole, and signing out leaves nothing', async () => {
  const { archive, close } = opened('a5')
  for (const id of ['a', 'b']) {
    await archive.keepRooms([room(id, 1)])
    await archive.keepHistory({ conversationId: id, firstSeq: 1, events: events(1) }, 1)
    await archive.keepAnswer({ conversationId: id, messageId: 'm', text: 'x' })
  }
  await archive.drop('a')
  assert.deepEqual([(await archive.rooms()).length, await archive.history('a')], [1, undefined])
  await archive.wipe()
  assert.deepEqual([await archive.rooms(), await archive.history('b')], [[], undefined])
  await close()
})
