/** A gateway that reaches no engine while the map names one sends its clients elsewhere, and comes back by itself. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openClient } from '#load/kit/client.ts'
import { type Stack, startStack } from '#load/kit/stack.ts'
import { cutOffMs, linkUnusedMs } from '#protos/limits.ts'

let stack: Stack
before(async () => {
  stack = await startStack()
})
after(() => stack?.stop())

const isReady = async () => {
  const response = await fetch(`${stack.url}/readyz`)
  await response.body?.cancel()
  return response.status === 200
}

test('G1012 sockets are closed and new ones refused while no engine is reached; a reachable one ends that', async () => {
  const user = await stack.user('alice')
  const client = await openClient(stack.url, { token: user.token })
  const [{ addrs }] = (await stack.sql("select addrs from engine_node where state = 'up'")) as [{ addrs: string[] }]
  // Another address of the same engine, at which nobody listens; the link that stands is let go after a while.
  await stack.sql("update engine_node set addrs = array['127.0.0.1:9'] where state = 'up'")
  const began = performance.now()
  assert.equal((await client.closed).code, 1012)
  const took = performance.now() - began
  assert.ok(took >= cutOffMs && took < linkUnusedMs + cutOffMs + 4000, `${took} ms`)
  assert.equal(await isReady(), false)
  await assert.rejects(openClient(stack.url, { token: user.token }), /503/)
  await stack.sql("update engine_node set addrs = $1 where state = 'up'", [addrs])
  for (let i = 0; i < 100 && !(await isReady()); i++) await sleep(50)
  const again = await openClient(stack.url, { token: user.token })
  await again.close()
})
