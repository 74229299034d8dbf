import 'fake-indexeddb/auto'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Database } from './database.ts'
import { Outbox } from './outbox.ts'

const letter = (n: number, conversationId = 'room') => ({
  type: 'message.send' as const,
  conversationId,
  clientMessageId: `id-${n}`,
  content: `text ${n}`,
})

/** As a page of this user has it; closed with `close`. */
function opened(userId: string) {
  const database = new Database(userId)
  return { box: new Outbox(database), close: () => database.close() }
}

test('O1 unsent messages survive a reload with their ids, in the order of writing', async () => {
  const before = opened('o1')
  await before.box.keep({ letter: letter(2), writtenAt: 20 })
  await before.box.keep({ letter: letter(1), writtenAt: 10 })
  await before.box.keep({ letter: letter(3), writtenAt: 30 })
  await before.box.drop('id-2')
  await before.close()
  const after = opened('o1')
  const { kept } = await after.box.load()
  assert.deepEqual(
    kept.map(k => [k.letter.clientMessageId, k.letter.content]),
    [
      ['id-1', 'text 1'],
      ['id-3', 'text 3'],
    ],
  )
  await after.close()
})

test('O2 keeping a message removes the draft of its room in the same transaction, and no other', async () => {
  const { box, close } = opened('o2')
  await box.draft({ conversationId: 'room', text: 'half' })
  await box.draft({ conversationId: 'other', text: 'a thought' })
  await box.keep({ letter: letter(1), writtenAt: 1 })
  const { drafts, kept } = await box.load()
  assert.deepEqual(drafts, [{ conversationId: 'other', text: 'a thought' }])
  assert.equal(kept.length, 1)
  await close()
})

test('O3 a refused message keeps its reason, and signing out leaves nothing', async () => {
  const { box, close } = opened('o3')
  await box.keep({ letter: letter(1), writtenAt: 1 })
  await box.fail({ letter: letter(1), writtenAt: 1, failed: 'no' })
  assert.equal((await box.load()).kept[0]?.failed, 'no')
  await box.wipe()
  assert.deepEqual(await box.load(), { kept: [], drafts: [] })
  await close()
})

test('O4 how far others got is kept per conversation', async () => {
  const before = opened('o5')
  await before.box.keepPositions('room', new Map([['ben', { readSeq: 4, deliveredSeq: 6 }]]))
  await before.close()
  const after = opened('o5')
  assert.deepEqual([...(await after.box.positions('room'))], [['ben', { readSeq: 4, deliveredSeq: 6 }]])
  assert.equal((await after.box.positions('other')).size, 0)
  await after.close()
})

test('O5 two people on one browser see only their own', async () => {
  const [a, b] = [opened('o4a'), opened('o4b')]
  await a.box.keep({ letter: letter(1), writtenAt: 1 })
  assert.equal((await b.box.load()).kept.length, 0)
  await a.close()
  await b.close()
})
