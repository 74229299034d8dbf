/** Links: what passes keeps its order whatever the speed, a cut loses nothing, one way is one way. */
import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLink } from './links.ts'

/** An echo behind a link; everything that came back so far. */
async function echo(t: TestContext) {
  const server = createServer(socket => {
    heard.sockets++
    socket.on('error', () => {})
    socket.on('data', piece => {
      heard.there += piece.toString()
      socket.write(piece)
    })
  })
  const heard = { sockets: 0, there: '', back: '', closed: false }
  await new Promise<void>(go => server.listen(0, '127.0.0.1', go))
  const port = (server.address() as { port: number }).port
  const link = await openLink(() => ({ host: '127.0.0.1', port }))
  const client: Socket = connect(link.port, '127.0.0.1')
  client.on('error', () => {})
  client.on('close', () => (heard.closed = true))
  client.on('data', piece => {
    heard.back += piece.toString()
  })
  t.after(async () => {
    client.destroy()
    await link.close()
    server.close()
  })
  return { link, client, heard }
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 5000; !holds(); await sleep(5)) assert.ok(performance.now() < end)
}

test('[F13] a slow link is slow, keeps the order, and is fast again', async t => {
  const { link, client, heard } = await echo(t)
  link.shape({ delayMs: 30, bytesPerSecond: 20_000 })
  const pieces = Array.from({ length: 40 }, (_, i) => `${i}.`)
  const began = performance.now()
  for (const piece of pieces) {
    client.write(piece)
    await sleep(1)
  }
  link.shape(undefined)
  client.write('end')
  await until(() => heard.back.endsWith('end'))
  assert.equal(heard.back, `${pieces.join('')}end`)
  assert.ok(performance.now() - began >= 30)
})

test('[F12] a cut holds what is on its way, each direction by itself, and a heal lets it through', async t => {
  const { link, client, heard } = await echo(t)
  client.write('a')
  await until(() => heard.back === 'a')
  link.setMode('holdReplies')
  client.write('b')
  await until(() => heard.there === 'ab')
  await sleep(50)
  assert.equal(heard.back, 'a')
  link.setMode('holdRequests')
  await until(() => heard.back === 'ab')
  client.write('c')
  await sleep(50)
  assert.equal(heard.there, 'ab')
  link.setMode('pass')
  await until(() => heard.back === 'abc')
  link.setMode('refuse')
  await until(() => heard.closed)
  assert.equal(link.counts.taken, 1)
})
