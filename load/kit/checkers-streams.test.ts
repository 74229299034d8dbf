import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { checkStreams, type TurnRecord, type View } from './checkers-streams.ts'

const text = 'größe 🦊 the end'
const bytes = Buffer.byteLength(text)
const limits = { cancelMs: 1000, doneMs: 5000 }

function view(more: Partial<View> = {}): View {
  const sha256 = createHash('sha256').update(text).digest('hex')
  return {
    who: 'a viewer',
    answerId: 'a',
    pieces: [
      { at: 10, offset: 0, content: 'größe ' },
      { at: 20, offset: 8, content: '🦊 the end' },
    ],
    messageAt: 30,
    messageContent: text,
    dones: [{ at: 31, bytes, sha256, finish: 'stop', seq: 5 }],
    errors: [],
    joinedAt: 0,
    ...more,
  }
}

function turn(more: Partial<TurnRecord> = {}): TurnRecord {
  return {
    run: 'r',
    expected: { finish: 'stop', text: 'whole', inferences: 1 },
    answerId: 'a',
    answers: [{ content: text, finish: 'stop', seq: 5 }],
    row: { status: 'ended', finish: 'stop', bytes },
    views: [view()],
    inferences: [{ run: 'r', round: 0, attempt: 1, at: 1, planned: text, sentBytes: bytes, closedAt: 29 }],
    effectsTwice: 0,
    struckBy: [],
    mayFail: false,
    endedAt: 30,
    ...more,
  }
}

const cut = (content: string, finish = 'interrupted'): Partial<TurnRecord> => ({
  answers: [{ content, finish, seq: 5 }],
  row: { status: 'ended', finish, bytes: Buffer.byteLength(content) },
  views: [],
})
const second = { run: 'r', round: 0, attempt: 2, at: 15, planned: 'another', sentBytes: 7, closedAt: 29 }

test('[C4] a turn that went well has no problem, also for somebody who joined in the middle or as it ended', () => {
  const joined = view({ pieces: [{ at: 15, offset: 0, content: text }] })
  const late = view({ pieces: [], isReplayed: true })
  const gone = view({ dones: [], endedAt: 2000 })
  assert.deepEqual(checkStreams([turn({ views: [view(), joined, late, gone] })], limits), [])
})

const wrong: [string, Partial<TurnRecord>, RegExp][] = [
  ['two answers', { answers: [turn().answers[0]!, turn().answers[0]!] }, /2 answers/],
  ['a run that is left open', { row: { status: 'running', finish: null, bytes: 0 } }, /row is running/],
  ['a row that says another length', { row: { status: 'ended', finish: 'stop', bytes: 3 } }, /3 bytes/],
  ['a hole in the bytes', { views: [view({ pieces: [{ at: 1, offset: 3, content: 'x' }] })] }, /at byte 3/],
  [
    'shown bytes that were never stored',
    { views: [view({ pieces: [{ at: 1, offset: 0, content: 'größe! ' }] })] },
    /shown/,
  ],
  ['an end before all of it', { views: [view({ pieces: [] })] }, /after 0 of/],
  ['another hash', { views: [view({ dones: [{ ...view().dones[0]!, sha256: '0' }] })] }, /another text/],
  ['another finish', { views: [view({ dones: [{ ...view().dones[0]!, finish: 'length' }] })] }, /another end/],
  ['two ends', { views: [view({ dones: [view().dones[0]!, view().dones[0]!] })] }, /2 chat.done/],
  ['no end', { views: [view({ dones: [] })] }, /no chat.done/],
  ['an end before the message', { views: [view({ messageAt: 40 })] }, /before message.new/],
  ['text after the end', { views: [view({ dones: [{ ...view().dones[0]!, at: 15 }], messageAt: 14 })] }, /text after/],
  ['an interruption without a fault', cut('größe '), /nothing happened/],
  ['an interruption by a gateway', { ...cut('größe '), struckBy: ['F7 kill'] }, /nothing happened/],
  ['a stop that nobody asked for', cut('größe ', 'stopped'), /nobody asked/],
  ['a finish that upstream did not give', cut(text, 'length'), /ended length/],
  ['a whole answer that is a part', { ...cut('größe ', 'stop') }, /a part of what was sent/],
  ['a second inference after a byte', { inferences: [...turn().inferences, second] }, /asked again/],
  ['a text that nobody sent', { inferences: [{ ...second, at: 1 }] }, /no request sent/],
  ['more requests than the script makes', { views: [], inferences: [...turn().inferences, second] }, /2 requests/],
  [
    'a slow stop',
    { ...cut('größe ', 'stopped'), stopAt: 5, inferences: [{ ...turn().inferences[0]!, closedAt: 1500 }] },
    /stop did not/,
  ],
  [
    'a request after a stop',
    { ...cut('', 'stopped'), stopAt: 5, inferences: [{ ...second, attempt: 1, at: 2000 }] },
    /asked after/,
  ],
  ['a tool that acted twice', { effectsTwice: 1 }, /more than once/],
  ['a task too few', { tasks: { found: 0, expected: 1 } }, /0 tasks/],
]

for (const [what, more, said] of wrong) {
  test(`[C4] ${what} is noticed`, () => {
    assert.match(checkStreams([turn(more)], limits).join('\n'), said)
  })
}

test('[C4] a turn that a dead node left over may end with what was stored, and before anything was asked for', () => {
  const struckBy = ['F2']
  assert.deepEqual(checkStreams([turn({ ...cut('größe '), struckBy })], limits), [])
  assert.deepEqual(checkStreams([turn({ ...cut(''), struckBy, inferences: [] })], limits), [])
})
