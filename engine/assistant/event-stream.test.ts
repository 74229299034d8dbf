/** Server-sent events, however their bytes are cut. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EventStream, type ServerEvent } from './event-stream.ts'

const source = [
  ': a comment\n\n',
  'data: {"a":1}\n\n',
  'event: error\r\ndata: crlf\r\n\r\n',
  'data:one\ndata: two\nid: 7\nretry: 5\n\n',
  'data: bare returns\r\r',
  'data\n\n',
  'event: alone\n\n',
  'data: Ärger 🙂 und 漢字\n\n',
  'data: ends nowhere\n',
].join('')
const expected: ServerEvent[] = [
  { name: '', data: '{"a":1}' },
  { name: 'error', data: 'crlf' },
  { name: '', data: 'one\ntwo' },
  { name: '', data: 'bare returns' },
  { name: '', data: '' },
  { name: '', data: 'Ärger 🙂 und 漢字' },
]

test('[P6] events are the same wherever their bytes are cut', () => {
  const bytes = Buffer.from(source)
  const inPieces = (cuts: readonly number[]) => {
    const stream = new EventStream()
    return [...cuts, bytes.length].flatMap((cut, i) => stream.push(bytes.subarray(cuts[i - 1] ?? 0, cut)))
  }
  assert.deepEqual(inPieces([]), expected)
  for (let a = 0; a < bytes.length; a++) assert.deepEqual(inPieces([a]), expected, `cut at ${a}`)
  for (let size = 1; size <= 9; size++) {
    const cuts = Array.from({ length: Math.floor((bytes.length - 1) / size) }, (_, i) => (i + 1) * size)
    assert.deepEqual(inPieces(cuts), expected, `pieces of ${size}`)
  }
})
