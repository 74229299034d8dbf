import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ServerFrame } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { type Listener, noticeOf } from './notice.ts'

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 12, 0, second)).toISOString()
const said = (more: object = {}) =>
  ({
    ...{ type: 'message.new', conversationId: 'c', seq: 7, messageId: 'm', senderId: 'mia', role: 'user' },
    ...{ content: 'See **you** at 8', ts: at(0), ...more },
  }) as unknown as ServerFrame
const listener = (more: Partial<Listener> = {}): Listener => ({
  me: { id: 'ana', username: 'ana' },
  room: { kind: 'dm', name: 'Mia' },
  isSeen: false,
  now: Date.parse(at(1)),
  nameOf: id => id.toUpperCase(),
  answer: () => undefined,
  mayDecide: () => true,
  ...more,
})
const group = { room: { kind: 'group', name: 'Oslo trip' } } as const
const body = (frame: ServerFrame, more: Partial<Listener> = {}) => noticeOf(frame, listener(more))?.body

test('N1 what another wrote in a direct chat is told, in plain words', () => {
  assert.deepEqual(noticeOf(said(), listener()), {
    ...{ conversationId: 'c', seq: 7, title: 'Mia', body: 'See you at 8' },
  })
  assert.equal(body(said({ senderId: 'ana' })), undefined)
  assert.equal(body(said({ deleted: true })), undefined)
})

test('N2 nothing is told of what is on screen, and nothing that is older than a minute', () => {
  assert.equal(body(said(), { isSeen: true }), undefined)
  assert.equal(body(said(), { now: Date.parse(at(60)) }), 'See you at 8')
  assert.equal(body(said(), { now: Date.parse(at(61)) }), undefined)
})

test('N3 in a group only a mention is told, as a word of its own', () => {
  assert.equal(body(said(), group), undefined)
  assert.equal(body(said({ content: 'ask @Ana, please' }), group), 'MIA: ask @Ana, please')
  assert.equal(body(said({ content: 'ask @anabel or x@ana' }), group), undefined)
})

test('N4 of answers one’s own is told, if it took longer than somebody waits', () => {
  const answer = said({ senderId: assistantId, role: 'assistant', ts: at(30), content: 'Done' })
  const began = (requestedBy: string, second: number) => ({
    ...group,
    now: Date.parse(at(31)),
    answer: () => ({ requestedBy, beganAt: Date.parse(at(second)) }),
  })
  assert.equal(body(answer, began('ana', 19)), 'Done')
  assert.equal(body(answer, began('ana', 21)), undefined)
  assert.equal(body(answer, began('mia', 0)), undefined)
  assert.equal(body(answer, { ...group, now: Date.parse(at(31)) }), undefined)
})

test('N5 a call that waits is told to those who may decide', () => {
  const call = { type: 'tool.called', conversationId: 'c', seq: 8, messageId: 'm', approval: 'required', ts: at(0) }
  const asked = (more: object) => ({ ...call, ...more }) as unknown as ServerFrame
  assert.equal(body(asked({})), 'The assistant waits for you')
  assert.equal(body(asked({}), { mayDecide: () => false }), undefined)
  assert.equal(body(asked({ approval: 'auto' })), undefined)
})
