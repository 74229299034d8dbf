/** Requests to servers that are not ours, against real ones on this machine: where they go, and where they end. */
import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { AddressRefused, onlyLoopback, publicOr, type Resolve } from '#engine/ops/public-address.ts'
import { mcpMessageBytesMax } from '#protos/limits.ts'
import { createGuardedFetch } from './guarded-fetch.ts'

/** A server on loopback that counts its connections, and a resolver that leads every name to the next of `answers`. */
async function world(answer: RequestListener, answers: string[] = []) {
  let connections = 0
  const server = createServer(answer).on('connection', () => connections++)
  await new Promise<void>(go => server.listen(0, '127.0.0.1', go))
  const resolve: Resolve = (_host, _options, done) => {
    const address = answers.shift() ?? '127.0.0.1'
    done(null, [{ address, family: address.includes(':') ? 6 : 4 }])
  }
  return {
    port: (server.address() as AddressInfo).port,
    resolve,
    connections: () => connections,
    async close() {
      server.closeAllConnections()
      await new Promise(go => server.close(go))
    },
  }
}
const ok: RequestListener = (_request, response) => void response.end('fine')

test('S14 a name that leads inside reaches nothing, however it is spelt and whatever it led to before', async () => {
  const w = await world(ok, ['127.0.0.1', '::1', '::ffff:127.0.0.1', '169.254.169.254', '10.0.0.1'])
  const guarded = createGuardedFetch(publicOr([]), { resolve: w.resolve })
  try {
    for (let i = 0; i < 5; i++) await assert.rejects(guarded.fetch(`http://mcp.example:${w.port}/`), AddressRefused)
    for (const host of ['127.0.0.1', '2130706433', '[::1]', '[::ffff:7f00:1]'])
      await assert.rejects(guarded.fetch(`http://${host}:${w.port}/`), AddressRefused, host)
    assert.equal(w.connections(), 0)
  } finally {
    guarded.close()
    await w.close()
  }
})

test('S14 a name is judged for each connection: bound anew it is refused, back again it is reached', async () => {
  const w = await world(ok, ['127.0.0.1', '10.0.0.1', '127.0.0.1'])
  const guarded = createGuardedFetch(onlyLoopback, { resolve: w.resolve })
  try {
    const ask = () => guarded.fetch(`http://mcp.example:${w.port}/`).then(r => r.text())
    assert.equal(await ask(), 'fine')
    await assert.rejects(ask(), AddressRefused)
    assert.equal(await ask(), 'fine')
    assert.equal(w.connections(), 2)
  } finally {
    guarded.close()
    await w.close()
  }
})

test('S14 no redirect is followed, nothing is unpacked, and an answer without end is cut off', async () => {
  const piece = Buffer.alloc(1024 * 1024, 'x')
  let sent = 0
  const w = await world((request, response) => {
    if (request.url === '/moved') return void response.writeHead(307, { location: '/' }).end()
    if (request.url === '/packed') return void response.writeHead(200, { 'content-encoding': 'gzip' }).end('x')
    if (request.url === '/none') return void response.writeHead(202).end()
    const more = () => {
      while (!response.destroyed && response.write(piece)) sent += piece.length
      sent += piece.length
    }
    response.on('drain', more)
    more()
  })
  const guarded = createGuardedFetch(onlyLoopback, { resolve: w.resolve })
  try {
    const at = (path: string) => `http://mcp.example:${w.port}${path}`
    await assert.rejects(guarded.fetch(at('/moved'), { method: 'POST', body: '{}' }), /307/)
    await assert.rejects(guarded.fetch(at('/packed')), /gzip/)
    assert.equal((await guarded.fetch(at('/none'), { method: 'POST', body: '{}' })).status, 202)
    await assert.rejects(guarded.fetch(at('/endless')).then(r => r.text()))
    assert.ok(sent < mcpMessageBytesMax * 2, `${sent}`)
  } finally {
    guarded.close()
    await w.close()
  }
})

test('S26 a request ends with its signal', async () => {
  const w = await world(() => {})
  const guarded = createGuardedFetch(onlyLoopback, { resolve: w.resolve })
  try {
    const signal = AbortSignal.timeout(50)
    await assert.rejects(guarded.fetch(`http://mcp.example:${w.port}/`, { method: 'POST', body: '{}', signal }))
  } finally {
    guarded.close()
    await w.close()
  }
})
