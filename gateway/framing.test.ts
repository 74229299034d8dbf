/** The module that knows private parts of `ws`, pinned to the version that it was written for. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { frameText, payloadOf, rawSocket, unsentBytes, writeFrames } from './framing.ts'

test('H12 the version of ws is the one whose private parts are used', () => {
  const { version } = JSON.parse(readFileSync(new URL('../node_modules/ws/package.json', import.meta.url), 'utf8'))
  assert.equal(version, '8.23.0', 'look at framing.ts and quick-lane.ts again, then change this')
})

test('H12 frames of every length class arrive as they were, many in one write', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false })
  await once(server, 'listening')
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const [ws] = (await once(server, 'connection')) as [WebSocket]
  const texts = ['', 'x', 'é'.repeat(62), 'x'.repeat(125), 'x'.repeat(126), 'x'.repeat(65_535), 'x'.repeat(65_536)]
  const got: string[] = []
  client.on('message', (data: Buffer) => got.push(data.toString()))
  const frames = texts.map(text => frameText(text))
  assert.ok(rawSocket(ws), 'the raw socket is where it was')
  const bytes = frames.reduce((sum, f) => sum + f.length, 0)
  assert.equal(writeFrames(ws, frames, bytes), 1)
  assert.ok(unsentBytes(ws) <= bytes)
  for (const frame of frames) ws.send(payloadOf(frame), { binary: false })
  while (got.length < texts.length * 2) await once(client, 'message')
  assert.deepEqual(got, [...texts, ...texts])
  assert.equal(writeFrames(ws, [], 0), 0)
  client.close()
  await once(ws, 'close')
  assert.equal(writeFrames(ws, frames, bytes), 0, 'nothing is written to a closed socket')
  assert.equal(unsentBytes(ws), 0)
  server.close()
})
