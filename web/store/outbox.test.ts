import 'fake-indexeddb/auto'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Outbox } from './outbox.ts'

const letter = (n: number, conversationId = 'room') => ({
  type: 'message.send' as const,
  conversationId,
  clientMessageId: `id-${n}`,
  content: `text ${n}`,
})

test('O1 unsent messages survive a reload with their ids, in the order of writing', async () => {
  const before = new Outbox('o1')
  await before.keep({ letter: letter(2), writtenAt: 20 })
  await before.keep({ letter: letter(1), writtenAt: 10 })
  await before.keep({ letter: letter(3), writtenAt: 30 })
  await before.drop('id-2')
  await before.close()
  const after = new Outbox('o1')
  const { kept } = await after.load()
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
  const box = new Outbox('o2')
  await box.draft({ conversationId: 'room', text: 'half' })
  await box.draft({ conversationId: 'other', text: 'a thought' })
  await box.keep({ letter: letter(1), writtenAt: 1 })
  const { drafts, kept } = await box.load()
  assert.deepEqual(drafts, [{ conversationId: 'other', text: 'a thought' }])
  assert.equal(kept.length, 1)
  await box.close()
})

test('O3 a refused message keeps its reason, and signing out leaves nothing', async () => {
  const box = new Outbox('o3')
  await box.keep({ letter: letter(1), writtenAt: 1 })
  await box.fail({ letter: letter(1), writtenAt: 1, failed: 'no' })
  assert.equal((await box.load()).kept[0]?.failed, 'no')
  await box.wipe()
  assert.deepEqual(await box.load(), { kept: [], drafts: [] })
  await box.close()
})

test('O4 how far others got is kept per conversation', async () => {
  const before = new Outbox('o5')
  await before.keepPositions('room', new Map([['ben', { readSeq: 4, deliveredSeq: 6 }]]))
  await before.close()
  const after = new Outbox('o5')
  assert.deepEqual([...(await after.positions('room'))], [['ben', { readSeq: 4, deliveredSeq: 6 }]])
  assert.equal((await after.positions('other')).size, 0)
  await after.close()
})

test('O5 two people on one browser see only their own', async () => {
  const [a, b] = [new Outbox('o4a'), new Outbox('o4b')]
  await a.keep({ letter: letter(1), writtenAt: 1 })
  assert.equal((await b.load()).kept.length, 0)
  await a.close()
  await b.close()
})
