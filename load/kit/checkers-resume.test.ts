import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Row } from './checkers.ts'
import { checkStreams, type ResumeTruth, type Stream, type StreamItem } from './checkers-resume.ts'

const rows = (from: number, to: number): Row[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    conversation: 'c',
    seq: from + i,
    kind: 'message.new',
    senderId: 'ana',
    clientId: `id${from + i}`,
    messageId: `m${from + i}`,
    content: `text ${from + i}`,
    epoch: 1,
  }))

const events = (from: number, to: number, at = 0): StreamItem[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ kind: 'event', seq: from + i, at: at + i }))

interface Planted {
  streams: Stream[]
  truth: ResumeTruth
}

/** Ten events: the first connection saw 3 and 4, the second resumed from 4, got 9 pushed early, and saw 10. */
function good(): Planted {
  return {
    streams: [
      {
        device: 'ben',
        connection: 1,
        conversation: 'c',
        items: [{ kind: 'head', seq: 2, at: 0 }, ...events(3, 4, 10)],
      },
      {
        device: 'ben',
        connection: 2,
        conversation: 'c',
        items: [
          { kind: 'head', seq: 8, at: 100 },
          { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
          ...events(9, 9, 102),
          ...events(5, 9, 103),
          { kind: 'joined', id: 'j', headSeq: 9, at: 110 },
          ...events(10, 10, 111),
        ],
      },
    ],
    truth: { rows: rows(1, 10), acks: [{ conversation: 'c', seq: 9, at: 90 }], complete: new Set(['ben']) },
  }
}

const items = (p: Planted, connection: number) => p.streams[connection - 1]!.items

test('[C3] a good life over two connections has no problem', () => {
  const { streams, truth } = good()
  assert.deepEqual(checkStreams(streams, truth), [])
})

test('[C3] a join answered below the head of ready, from where live goes on, has no problem', () => {
  const p = good()
  p.streams[1]!.items = [
    { kind: 'head', seq: 9, at: 100 },
    { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
    ...events(5, 8, 102),
    { kind: 'joined', id: 'j', headSeq: 8, at: 110 },
    ...events(9, 10, 111),
  ]
  p.truth.acks = []
  assert.deepEqual(checkStreams(p.streams, p.truth), [])
})

test('[C3] a connection that breaks inside a replay has no problem', () => {
  const p = good()
  p.streams.push({
    device: 'ben',
    connection: 3,
    conversation: 'c',
    items: [{ kind: 'head', seq: 10, at: 200 }, { kind: 'join', id: 'k', afterSeq: 4, at: 201 }, ...events(5, 7, 202)],
  })
  assert.deepEqual(checkStreams(p.streams, p.truth), [])
})

test('[C3] a resync that is true, with the range read by REST, has no problem', () => {
  const p = good()
  p.truth.rows = rows(1, 3000)
  p.streams[1]!.items = [
    { kind: 'head', seq: 3000, at: 100 },
    { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
    { kind: 'resync', id: 'j', reason: 'too_far', firstSeq: 1, headSeq: 3000, at: 102 },
    { kind: 'read', from: 5, to: 3000, at: 103 },
  ]
  assert.deepEqual(checkStreams(p.streams, p.truth), [])
})

const planted: Record<string, (p: Planted) => void> = {
  'a hole in live events': p => items(p, 1).splice(1, 1),
  'an event pushed twice': p => items(p, 1).splice(2, 0, { kind: 'event', seq: 3, at: 11 }),
  'a replay that begins one too early': p => items(p, 2).splice(3, 0, { kind: 'event', seq: 4, at: 102 }),
  'a replay that begins one too late': p => items(p, 2).splice(3, 1),
  'a replay with a hole': p => items(p, 2).splice(5, 1),
  'a live event inside the replay': p => items(p, 2).splice(5, 0, { kind: 'event', seq: 10, at: 105 }),
  'live that goes on below the head': p => items(p, 2).splice(9, 0, { kind: 'event', seq: 9, at: 111 }),
  'a join that knows less than was acked': p => {
    p.truth = { ...p.truth, acks: [{ conversation: 'c', seq: 10, at: 90 }] }
  },
  'an event that never came': p => items(p, 2).pop(),
  'a resync for two missed events': p => {
    p.streams[1]!.items = [
      { kind: 'head', seq: 10, at: 100 },
      { kind: 'join', id: 'j', afterSeq: 8, at: 101 },
      { kind: 'resync', id: 'j', reason: 'too_far', firstSeq: 1, headSeq: 10, at: 102 },
      { kind: 'read', from: 5, to: 10, at: 103 },
    ]
  },
  'a resync that nobody read up': p => {
    p.truth.rows = rows(1, 3000)
    p.streams[1]!.items = [
      { kind: 'head', seq: 3000, at: 100 },
      { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
      { kind: 'resync', id: 'j', reason: 'too_far', firstSeq: 1, headSeq: 3000, at: 102 },
    ]
  },
  'an "ahead" from one who is behind': p => {
    p.streams[1]!.items = [
      { kind: 'head', seq: 10, at: 100 },
      { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
      { kind: 'resync', id: 'j', reason: 'ahead', firstSeq: 1, headSeq: 10, at: 102 },
      { kind: 'read', from: 5, to: 10, at: 103 },
    ]
  },
  'a "gone" while the log has it': p => {
    p.streams[1]!.items = [
      { kind: 'head', seq: 10, at: 100 },
      { kind: 'join', id: 'j', afterSeq: 4, at: 101 },
      { kind: 'resync', id: 'j', reason: 'gone', firstSeq: 1, headSeq: 10, at: 102 },
      { kind: 'read', from: 5, to: 10, at: 103 },
    ]
  },
}

for (const [name, plant] of Object.entries(planted)) {
  test(`[C3] notices ${name}`, () => {
    const p = good()
    plant(p)
    assert.notDeepEqual(checkStreams(p.streams, p.truth), [])
  })
}

test('[C3] two joins may be under way: each answer has its own replay before it', () => {
  const p = good()
  const at = 100
  p.truth.rows = rows(1, 12)
  p.streams[1]!.items = [
    { kind: 'join', id: 'a', afterSeq: 6, at },
    { kind: 'head', seq: 7, at },
    { kind: 'join', id: 'b', afterSeq: 6, at },
    ...[8, 9, 10, 7, 8, 9, 10].map(seq => ({ kind: 'event' as const, seq, at })),
    { kind: 'joined', id: 'a', headSeq: 10, at },
    ...[11, 12, 7, 8, 9, 10, 11, 12].map(seq => ({ kind: 'event' as const, seq, at })),
    { kind: 'joined', id: 'b', headSeq: 12, at },
  ]
  const ofMine = (problem: string) => problem.includes('connection 2')
  assert.deepEqual(checkStreams(p.streams, p.truth).filter(ofMine), [])
  p.streams[1]!.items.splice(6, 1)
  assert.notDeepEqual(checkStreams(p.streams, p.truth).filter(ofMine), [])
})
