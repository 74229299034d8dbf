/** Children that misbehave: lines in pieces and without end, noise, grandchildren, and those that do not want to go. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import { ChildTransport } from './child-transport.ts'

function child(script: string) {
  const transport = new ChildTransport({ command: process.execPath, args: ['-e', script], env: { OURS: 'yes' } })
  const heard: JSONRPCMessage[] = []
  const errors: string[] = []
  const closed = Promise.withResolvers<void>()
  transport.onmessage = message => heard.push(message)
  transport.onerror = error => errors.push(error.message)
  transport.onclose = closed.resolve
  return { transport, heard, errors, closed: closed.promise }
}
const line = (method: string) => JSON.stringify({ jsonrpc: '2.0', method })

test('3.5 a line may come in pieces and several at once; what is no message is passed over', async () => {
  const { transport, heard, errors, closed } = child(`
    const lines = ${JSON.stringify(`hello\n${line('a')}\n\n${line('é')}\n`)}
    const bytes = Buffer.from(lines)
    let at = 0
    const next = () => at < bytes.length ? process.stdout.write(bytes.subarray(at, at += 7), next) : undefined
    next()
  `)
  await transport.start()
  await closed
  assert.deepEqual(
    heard.map(m => ('method' in m ? m.method : '')),
    ['a', 'é'],
  )
  assert.equal(errors.length, 1)
})

test('3.5 a line without end ends its child', async () => {
  const { transport, heard, errors, closed } = child(`
    const piece = 'x'.repeat(1024 * 1024)
    const more = () => process.stdout.write(piece, more)
    more()
  `)
  await transport.start()
  await closed
  assert.deepEqual([heard.length, errors[0]], [0, 'the server sent too much'])
})

test('S15 a child gets what every program needs and what it was given, none of our settings', async () => {
  process.env['PARLEY_CANARY'] = 'secret'
  const { transport, heard, closed } = child(
    `process.stdout.write(JSON.stringify({ jsonrpc: '2.0', method: 'env', params: process.env }) + '\\n')`,
  )
  await transport.start()
  await closed
  delete process.env['PARLEY_CANARY']
  const env = (heard[0] as { params: Record<string, string> }).params
  assert.deepEqual([env['OURS'], env['PARLEY_CANARY'], 'PATH' in env], ['yes', undefined, true])
})

test('S12 a child ends with its input, by force if it must, and its children do not hold it up', async () => {
  const stubborn = child(`process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.error('no')`)
  const parent = child(`
    require('node:child_process').spawn(process.execPath, ['-e', 'setTimeout(() => {}, 8000)'], { stdio: 'inherit' })
    setTimeout(() => process.exit(0), 300)
  `)
  await Promise.all([stubborn.transport.start(), parent.transport.start()])
  const startedAt = performance.now()
  await parent.closed
  assert.ok(performance.now() - startedAt < 6000)
  await stubborn.transport.close()
  await stubborn.closed
  assert.ok(performance.now() - startedAt < 15_000)
  assert.equal(stubborn.transport.complaints, 'no')
  await assert.rejects(stubborn.transport.send({ jsonrpc: '2.0', method: 'x' }), /has ended/)
})
