import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { keepChild } from './child.ts'
import { isAlive } from './node-file.ts'
import { checkPort } from './ports.ts'
import { StartError } from './start-error.ts'

function keep(t: TestContext, fixture: string) {
  const readies: Record<string, unknown>[] = []
  const lines: string[] = []
  let ends = 0
  const child = keepChild({
    name: 'fixture',
    script: path.join(import.meta.dirname, 'fixtures/child.ts'),
    env: () => ({ ...process.env, FIXTURE: fixture, GIVEN_PORT: `${(readies[0]?.['port'] as number) ?? ''}` }),
    log: silentLog,
    onReady: message => readies.push(message),
    onEnded: () => ends++,
    onLine: line => lines.push(line),
  })
  t.after(() => child.stop(100))
  return { child, readies, lines, ends: () => ends }
}

async function until(holds: () => boolean, what: string, ms = 10_000): Promise<number> {
  const began = performance.now()
  while (!holds()) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  return performance.now() - began
}

test('[CHILD1] a child that was killed is started again at once, with what its first run found', async t => {
  const { child, readies, ends } = keep(t, '')
  await child.ready
  const first = child.pid()!
  process.kill(first, 'SIGKILL')
  const took = await until(() => readies.length === 2, 'the second ready')
  assert.ok(took < 1500, `${took} ms`)
  assert.notEqual(child.pid(), first)
  assert.equal(ends(), 1)
  assert.equal(readies[1]!['port'], 4321)
})

test('[CHILD2] a child that dies again and again is started more and more slowly', async t => {
  const { child, readies } = keep(t, '')
  await child.ready
  const spans: number[] = []
  for (let i = 2; i <= 5; i++) {
    process.kill(child.pid()!, 'SIGKILL')
    spans.push(await until(() => readies.length === i, `ready ${i}`))
  }
  assert.ok(spans[3]! > 700, `${spans.join()}`)
})

test('[CHILD6] a child that ran for a second is started again at once, however often it was killed before', async t => {
  const { child, readies } = keep(t, '')
  await child.ready
  for (let i = 2; i <= 4; i++) {
    process.kill(child.pid()!, 'SIGKILL')
    await until(() => readies.length === i, `ready ${i}`)
  }
  await new Promise(resolve => setTimeout(resolve, 1100))
  const waits: number[] = []
  t.mock.method(globalThis, 'setTimeout', (_run: () => void, ms: number) => void waits.push(ms))
  process.kill(child.pid()!, 'SIGKILL')
  while (waits.length === 0) await new Promise(resolve => setImmediate(resolve))
  assert.equal(waits[0], 0)
})

test('[CHILD3] a wrong setting is said in the words of the child and not tried again', async t => {
  const { child, ends } = keep(t, 'setting')
  await assert.rejects(child.ready, (error: Error) => {
    assert.ok(error instanceof StartError)
    assert.equal(error.message, 'The fixture did not start: PORT: "x" cannot be used.')
    return true
  })
  assert.equal(ends(), 0)
})

test('[CHILD4] a child that never comes up is given up after three tries', async t => {
  const { child, ends } = keep(t, 'never')
  await assert.rejects(child.ready, StartError)
  assert.equal(ends(), 2)
})

test('[CHILD5] stop asks first and ends by force what does not listen', async t => {
  const { child } = keep(t, 'deaf')
  await child.ready
  const pid = child.pid()!
  const began = performance.now()
  await child.stop(300)
  assert.ok(performance.now() - began >= 290)
  assert.equal(isAlive(pid), false)
})

test('[PORT1] a port in use is refused with a sentence that names the setting, a free one is not', async t => {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  await assert.rejects(checkPort('PORT', port, '127.0.0.1'), (error: Error) => {
    assert.match(error.message, new RegExp(`^PORT ${port} is in use by another program\\.`))
    return error instanceof StartError
  })
  await new Promise(resolve => server.close(resolve))
  await checkPort('PORT', port, '127.0.0.1')
  await checkPort('PORT', 0, '127.0.0.1')
})
