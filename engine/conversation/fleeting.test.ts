/** Receipts, typing, joins and the model's view, as SPEC.md has them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assistantId } from '#protos/ids.ts'
import { catchup, joinedFrame } from './attach.ts'
import type { Effect } from './effects.ts'
import { ann, ben, cat, dan, idOf, kinds, Scenario } from './fixtures/scenario.ts'
import { dirtyPositions, markPositions } from './receipts.ts'
import { chosen, positionsOf, saidIn, transcript } from './transcript.ts'
import { wakeAt } from './transition.ts'

const told = (effects: readonly Effect[]) =>
  effects.flatMap(e => (e.kind === 'receipt' ? [[e.userId, e.readSeq, e.frame.readSeq, e.frame.deliveredSeq]] : []))

test('[P1] a position is a maximum, clamped to the head', () => {
  const s = Scenario.dm()
  s.send(ann, 'a', 1)
  assert.deepEqual(told(s.as(ben, { type: 'receipt.read', seq: 99 })), [[ben, 3, 3, 3]])
  assert.deepEqual(s.as(ben, { type: 'receipt.read', seq: 2 }), [])
  assert.deepEqual(s.as(ben, { type: 'receipt.read', seq: 3 }), [])
})

test('[P2] reading implies delivery, and [P3] is told at once', () => {
  const s = Scenario.dm()
  assert.deepEqual(told(s.as(ben, { type: 'receipt.read', seq: 1 })), [[ben, 1, 1, 1]])
  assert.deepEqual(told(s.as(ben, { type: 'receipt.read', seq: 2 })), [[ben, 2, 2, 2]])
})

test('[P4] delivery alone is told once a second, the latest when it is over', () => {
  const s = Scenario.dm()
  for (let i = 1; i <= 3; i++) s.send(ann, `m${i}`, i)
  assert.deepEqual(told(s.as(ben, { type: 'receipt.delivered', seq: 2 })), [[ben, 0, 0, 2]])
  s.wait(300)
  assert.deepEqual(told(s.as(ben, { type: 'receipt.delivered', seq: 3 })), [])
  assert.deepEqual(told(s.as(ben, { type: 'receipt.delivered', seq: 4 })), [])
  assert.equal(wakeAt(s.state), s.mono + 700)
  s.wait(700)
  assert.deepEqual(told(s.tick()), [[ben, 0, 0, 4]])
  assert.equal(wakeAt(s.state), undefined)
})

test('[P5] one’s own send moves one’s own position and tells nobody', () => {
  const s = Scenario.dm()
  const effects = s.send(ann, 'x', 1)
  assert.deepEqual(told(effects), [])
  assert.deepEqual(dirtyPositions(s.state), [{ userId: ann, readSeq: 3, deliveredSeq: 3 }])
  s.state = markPositions(s.state, [ann], false)
  assert.deepEqual(dirtyPositions(s.state), [])
})

test('[P6] in a blocked dm a receipt reaches only one’s own sockets', () => {
  const s = Scenario.dm()
  s.as(ann, { type: 'block.set', userId: ben, blocked: true })
  const effects = s.as(ben, { type: 'receipt.read', seq: 2 })
  assert.equal(effects.length, 1)
  assert.ok(effects[0]?.kind === 'user' && effects[0].userId === ben)
  assert.equal(dirtyPositions(s.state)[0]?.readSeq, 2)
})

test('[P7] above 100 members positions move and no one is told', () => {
  const others = Array.from({ length: 100 }, (_, i) => idOf(100 + i))
  const s = Scenario.group(ann, others)
  assert.deepEqual(s.as(ann, { type: 'receipt.read', seq: 5 }), [])
  assert.equal(dirtyPositions(s.state)[0]?.readSeq, 5)
})

test('[Y1] typing is told once in two seconds and ends after five', () => {
  const s = Scenario.group()
  const typing = () => kinds(s.as(ben, { type: 'typing.start' }))
  assert.deepEqual(typing(), ['typing'])
  s.wait(1000)
  assert.deepEqual(typing(), [])
  s.wait(1000)
  assert.deepEqual(typing(), ['typing'])
  s.wait(4999)
  assert.deepEqual(s.tick(), [])
  s.wait(1)
  assert.deepEqual(s.tick(), [{ kind: 'typing', userId: ben, on: false }])
  assert.equal(wakeAt(s.state), undefined)
})

test('[Y1] a start soon after a stop is told', () => {
  const s = Scenario.group()
  const typing = (type: 'typing.start' | 'typing.stop') => s.as(ben, { type })
  const told = (on: boolean) => [{ kind: 'typing', userId: ben, on }]
  assert.deepEqual(typing('typing.start'), told(true))
  s.wait(100)
  assert.deepEqual(typing('typing.stop'), told(false))
  s.wait(100)
  assert.deepEqual(typing('typing.start'), told(true))
  s.wait(100)
  assert.deepEqual(typing('typing.start'), [])
})

test('[Y2] stop and one’s own message end it', () => {
  const s = Scenario.group()
  s.as(ben, { type: 'typing.start' })
  assert.deepEqual(s.as(ben, { type: 'typing.stop' }), [{ kind: 'typing', userId: ben, on: false }])
  assert.deepEqual(s.as(ben, { type: 'typing.stop' }), [])
  s.wait(2000)
  s.as(ben, { type: 'typing.start' })
  assert.deepEqual(kinds(s.send(ben, 'x', 1)), ['message.new', 'ack', 'typing'])
})

test('[Y3] in a blocked dm typing is dropped; a stranger learns that there is nothing', () => {
  const s = Scenario.dm()
  s.as(ann, { type: 'block.set', userId: ben, blocked: true })
  for (const user of [ann, ben]) assert.deepEqual(s.as(user, { type: 'typing.start' }), [])
  for (const type of ['typing.start', 'typing.stop'] as const) {
    const [effect, ...more] = s.as(dan, { type })
    assert.ok(effect?.kind === 'answer' && effect.frame.type === 'error' && effect.frame.code === 'NOT_FOUND')
    assert.deepEqual(more, [])
  }
})

test('[J1] at the head or without afterSeq there is nothing to replay; [J2] beyond the window there is a reason', () => {
  const { state } = Scenario.group()
  assert.deepEqual(catchup(state, undefined), { kind: 'joined' })
  assert.deepEqual(catchup(state, 3), { kind: 'joined' })
  assert.deepEqual(catchup(state, 0), { kind: 'replay', after: 0 })
  assert.deepEqual(catchup(state, 4), { kind: 'resync', reason: 'ahead' })
  assert.deepEqual(catchup({ ...state, firstSeq: 3 }, 1), { kind: 'resync', reason: 'gone' })
  assert.deepEqual(catchup({ ...state, firstSeq: 3 }, 2), { kind: 'replay', after: 2 })
  assert.deepEqual(catchup({ ...state, head: 2001 }, 1), { kind: 'replay', after: 1 })
  assert.deepEqual(catchup({ ...state, head: 2001 }, 0), { kind: 'resync', reason: 'too_far' })
})

test('[J3] an answer in progress comes with its text so far', () => {
  const s = Scenario.ai()
  assert.equal('stream' in joinedFrame(s.state), false)
  s.chat(ann, 'hi', 1)
  const run = s.start()
  s.run({ kind: 'run.delta', runId: run, text: 'so far' })
  const { answerId } = s.state.runs[0]!
  assert.deepEqual(joinedFrame(s.state).stream, { messageId: answerId, offset: 0, content: 'so far' })
})

const said = [
  { seq: 2, senderId: ann, content: 'first' },
  { seq: 3, senderId: ann, content: 'question' },
  { seq: 4, senderId: ben, content: 'a later question' },
  { seq: 5, senderId: assistantId, content: 'an answer' },
  { seq: 6, senderId: cat, content: '' },
]

test('[X1] the question comes last, and [X4] later ones are left out', () => {
  const lines = transcript({ systemPrompt: 'sys', said, questionSeq: 3, nameOf: undefined, tokensMax: 100 })
  assert.deepEqual(lines, [
    { role: 'system', content: 'sys' },
    { role: 'user', content: 'first' },
    { role: 'assistant', content: 'an answer' },
    { role: 'user', content: 'question' },
  ])
})

test('[X2] old messages fall out first, the question never', () => {
  const lines = (tokensMax: number) =>
    transcript({ systemPrompt: 'sys', said, questionSeq: 3, nameOf: undefined, tokensMax }).map(l => l.content)
  assert.deepEqual(lines(5), ['sys', 'an answer', 'question'])
  assert.deepEqual(lines(1), ['sys', 'question'])
})

test('[X5] the model reads the latest words of a message, and none of one that is gone', () => {
  const heard = (type: string, seq: number, of: number, content = '') => ({
    type,
    seq,
    messageId: idOf(of, 'e'),
    senderId: ann,
    content,
  })
  const said = saidIn([
    heard('message.new', 2, 2, 'buy milk'),
    heard('message.new', 3, 3, 'a secret'),
    heard('message.new', 4, 4, ''),
    heard('message.edited', 5, 2, 'buy oat milk'),
    heard('message.edited', 6, 3, 'another secret'),
    heard('message.deleted', 7, 3),
    // Deleted before it was read, so its text is masked; the words of its edit are in the log still.
    heard('message.edited', 8, 4, 'a third secret'),
    heard('message.edited', 9, 1, 'of a message that is not among these'),
    heard('message.edited', 10, 2, 'buy rice milk'),
    heard('message.new', 11, 11, 'what shall I buy?'),
  ])
  const given = { systemPrompt: 'sys', said, questionSeq: 11, nameOf: undefined, tokensMax: 100 }
  assert.deepEqual(
    transcript(given).map(l => l.content),
    ['sys', 'buy rice milk', 'what shall I buy?'],
  )
  assert.deepEqual(positionsOf(chosen(given)), [2, 10, 11])
})

test('[X3] in groups people are named, the assistant is itself', () => {
  const nameOf = (id: string) => (id === ann ? 'Ann' : 'Ben')
  const lines = transcript({ systemPrompt: 'sys', said, questionSeq: 4, nameOf, tokensMax: 100 })
  assert.deepEqual(
    lines.map(l => l.content),
    ['sys', 'Ann: first', 'Ann: question', 'an answer', 'Ben: a later question'],
  )
})

test('[P1] whoever was removed and comes again begins anew, as the store has it', () => {
  const s = Scenario.group()
  for (let i = 1; i <= 3; i++) s.send(ann, `m${i}`, i)
  s.as(ben, { type: 'receipt.read', seq: 6 })
  s.as(ann, { type: 'member.remove', userId: ben })
  assert.ok(!s.state.positions.has(ben))
  s.as(ann, { type: 'member.add', userId: ben, role: 'member' })
  assert.deepEqual(told(s.as(ben, { type: 'receipt.read', seq: 4 })), [[ben, 4, 4, 4]])
})
