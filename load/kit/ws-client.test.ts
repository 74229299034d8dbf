import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { type WebSocket, WebSocketServer } from 'ws'
import { replaceSection } from './results.ts'
import { WsClient } from './ws-client.ts'

async function withServer(onSocket: (socket: WebSocket) => void, use: (url: string) => Promise<void>): Promise<void> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/ws' })
  server.on('connection', onSocket)
  await once(server, 'listening')
  try {
    await use(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`)
  } finally {
    for (const socket of server.clients) socket.terminate()
    server.close()
    await once(server, 'close')
  }
}

test('[LK1] texts of every length class come back whole and in order, however the network cuts them', () =>
  withServer(
    socket => socket.on('message', data => socket.send(data.toString())),
    async url => {
      const sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]
      const got: number[] = []
      const all = Promise.withResolvers<void>()
      const client = await WsClient.open(url, {
        onText(bytes) {
          assert.ok(bytes.every(byte => byte === 120))
          got.push(bytes.length)
          if (got.length === sizes.length) all.resolve()
        },
      })
      for (const size of sizes) client.send('x'.repeat(size))
      await all.promise
      assert.deepEqual(got, sizes)
      client.destroy()
    },
  ))

test('[LK2] it answers pings, tells the close code and says when it is refused', async () => {
  const pong = Promise.withResolvers<void>()
  await withServer(
    socket => {
      socket.on('pong', data => {
        assert.equal(data.toString(), 'beat')
        pong.resolve()
        socket.close(4410)
      })
      socket.ping('beat')
    },
    async url => {
      const closed = Promise.withResolvers<number>()
      const client = await WsClient.open(url, { onText() {}, onClose: closed.resolve })
      await pong.promise
      assert.equal(await closed.promise, 4410)
      assert.equal(client.isClosed, true)
    },
  )
  const plain = createServer((_, response) => response.writeHead(403).end()).listen(0, '127.0.0.1')
  plain.on('upgrade', (_, socket) => socket.end('HTTP/1.1 403 Forbidden\r\n\r\n'))
  await once(plain, 'listening')
  await assert.rejects(
    WsClient.open(`ws://127.0.0.1:${(plain.address() as AddressInfo).port}/ws`, { onText() {} }),
    /403/,
  )
  plain.close()
})

test('[LK3] a section of the results is replaced in its place, and added where it is new', () => {
  const page = replaceSection(replaceSection('# Results\n', 'A', 'one'), 'B', 'two')
  assert.equal(page, '# Results\n\n## A\n\none\n\n## B\n\ntwo\n')
  assert.equal(replaceSection(page, 'A', 'three'), '# Results\n\n## A\n\nthree\n\n## B\n\ntwo\n')
})
