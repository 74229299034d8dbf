/** The lane reads what `ws` reads: the same texts in the same order, the same close codes, however the bytes are cut. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { type WebSocket, WebSocketServer } from 'ws'
import { QuickLane } from './quick-lane.ts'

type Read = { texts: string[]; code: number; lane: number }

function frame(text: string | Buffer, { opcode = 1, fin = true, mask = [1, 2, 3, 250] } = {}): Buffer {
  const payload = Buffer.from(text as string)
  const head = Buffer.alloc(payload.length < 126 ? 6 : 8)
  head[0] = (fin ? 0x80 : 0) | opcode
  head[1] = 0x80 | (payload.length < 126 ? payload.length : 126)
  if (payload.length >= 126) head.writeUInt16BE(payload.length, 2)
  head.set(mask, head.length - 4)
  payload.forEach((byte, i) => {
    payload[i] = byte ^ mask[i % 4]!
  })
  return Buffer.concat([head, payload])
}

const closing = () => frame(Buffer.from([0x03, 0xe8]), { opcode: 8 })

/** What a server hears of these chunks, each written alone; with the lane or without it. */
async function hear(chunks: readonly Buffer[], hasLane: boolean, closeAt?: string): Promise<Read> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false, maxPayload: 65_536 })
  await once(server, 'listening')
  const read: Read = { texts: [], code: 0, lane: 0 }
  const closed = Promise.withResolvers<void>()
  const take = (ws: WebSocket, text: string) => {
    read.texts.push(text)
    if (text === closeAt) ws.close(4000)
  }
  const lane = new QuickLane<{ ws: WebSocket }>(({ ws }, text) => {
    read.lane++
    take(ws, text)
  })
  server.on('connection', ws => {
    if (hasLane) lane.add({ ws })
    ws.on('message', (data: Buffer) => take(ws, data.toString()))
    ws.on('error', () => {})
    ws.on('close', () => closed.resolve())
  })
  const socket: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    'GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
  )
  await once(socket, 'data')
  // Of the server's own frames the first byte of a close frame is unlike any other byte of theirs here.
  socket.on('data', bytes => {
    const at = bytes.indexOf(0x88)
    if (at >= 0) read.code = bytes.readUInt16BE(at + 2)
    if (at >= 0) socket.end()
  })
  socket.setNoDelay(true)
  for (const chunk of chunks) {
    socket.write(chunk)
    await new Promise(resolve => setTimeout(resolve, 3))
  }
  // A server that does not close is left, and what it should have said is missing.
  const late = setTimeout(() => socket.destroy(), 2000)
  await closed.promise
  clearTimeout(late)
  socket.destroy()
  server.close()
  return read
}

async function same(chunks: readonly Buffer[], closeAt?: string): Promise<Read> {
  const copies = () => chunks.map(chunk => Buffer.from(chunk))
  const [quick, plain] = [await hear(copies(), true, closeAt), await hear(copies(), false, closeAt)]
  assert.deepEqual({ ...quick, lane: 0 }, plain)
  return quick
}

test('H16 whole frames take the lane, alone and several in a chunk', async () => {
  const texts = ['', 'x', 'xyz', 'é'.repeat(60), 'x'.repeat(125), 'x'.repeat(126), '😀'.repeat(2000), '{"a":1}']
  const read = await same([...texts.map(t => frame(t)), Buffer.concat(texts.map(t => frame(t))), closing()])
  assert.deepEqual(read.texts, [...texts, ...texts])
  // The shortest have less than the eight bytes that are looked at, unless something comes behind them.
  assert.ok(read.lane >= 2 * texts.length - 4, `${read.lane} by the lane`)
  assert.equal(read.code, 1000)
})

test('H16 frames cut anywhere arrive whole and in order', async () => {
  const bytes = Buffer.concat(['first', 'x'.repeat(130), 'third'].map(t => frame(t)))
  for (const cut of [1, 2, 5, 6, 10, 12, 14, 20, bytes.length - 1]) {
    const read = await same([bytes.subarray(0, cut), bytes.subarray(cut), frame('after'), closing()])
    assert.deepEqual(read.texts, ['first', 'x'.repeat(130), 'third', 'after'])
  }
})

test('H16 a part that looks like a frame of its own is none', async () => {
  // Behind its first byte this frame begins as another would: a text of one character, masked.
  const bytes = Buffer.concat([frame('x', { mask: [0x81, 0xc0, 3, 250] }), frame('behind')])
  const read = await same([bytes.subarray(0, 1), bytes.subarray(1), closing()])
  assert.deepEqual([read.texts, read.code], [['x', 'behind'], 1000])
})

test('H16 a new text between fragments is refused, in a chunk of its own too', async () => {
  const read = await same([frame('begun', { fin: false }), frame('new text'), frame('later')])
  assert.deepEqual([read.texts, read.code], [[], 1002])
})

test('H16 fragments, pings and binary frames between are what they were', async () => {
  const chunks = [
    Buffer.concat([frame('one'), frame('tw', { fin: false })]),
    frame('ping', { opcode: 9 }),
    Buffer.concat([frame('o', { opcode: 0 }), frame('three')]),
    Buffer.concat([frame('bin', { opcode: 2 }), frame('four')]),
    closing(),
  ]
  assert.deepEqual((await same(chunks)).texts, ['one', 'two', 'three', 'bin', 'four'])
})

test('H16 what is refused is refused with the same code, and nothing behind it is read', async () => {
  const unmasked = Buffer.from([0x81, 0x03, 0x61, 0x62, 0x63, 0, 0, 0])
  const rsv = frame('reserved')
  rsv[0] = 0xc1
  const inFragments = Buffer.concat([frame('begun', { fin: false }), frame('new text inside')])
  const cases: [Buffer, number][] = [
    [frame(Buffer.from([0xc3, 0x28, 0x20, 0x20])), 1007],
    [frame(Buffer.from([0xed, 0xa0, 0x80])), 1007],
    [unmasked, 1002],
    [rsv, 1002],
    [inFragments, 1002],
    [Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]), 1009],
  ]
  for (const [chunk, code] of cases) {
    const read = await same([frame('before'), Buffer.concat([chunk, frame('behind')]), frame('later')])
    assert.deepEqual([read.texts, read.code], [['before'], code])
  }
})

test('H16 a socket that is being closed leaves the rest to ws', async () => {
  const chunk = Buffer.concat([frame('last words'), frame('too late')])
  const read = await same(
    [chunk, frame('much too late'), frame(Buffer.from([0x0f, 0xa0]), { opcode: 8 })],
    'last words',
  )
  assert.equal(read.lane, 1)
  assert.equal(read.texts[0], 'last words')
})
