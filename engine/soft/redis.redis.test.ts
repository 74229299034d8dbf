/** The store on a real Redis passes the contract; a Redis that is lost, flushed or hung costs answers, never an error. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createRedisStore } from './redis.ts'
import { softContract } from './soft.contract.ts'
import type { SoftStore } from './store.ts'

const isMissing = spawnSync('redis-server', ['--version']).error !== undefined
const folder = mkdtempSync(path.join(tmpdir(), 'parley-redis-'))
const socket = path.join(folder, 's')
let server: ChildProcess | undefined

async function reachable(): Promise<void> {
  for (let i = 0; i < 100; i++) {
    const probe = new Redis(socket, { lazyConnect: true, retryStrategy: () => null })
    probe.on('error', () => {})
    const isUp = await probe.connect().then(
      () => true,
      () => false,
    )
    probe.disconnect()
    if (isUp) return
    await sleep(50)
  }
  throw new Error('redis-server did not come up')
}

async function open(settleMs = 0, ttlMs = 400, socketsMax = 3): Promise<SoftStore> {
  const deps = { url: socket, log: silentLog, metrics: openMetrics(), settleMs }
  const store = createRedisStore(deps, { ttlMs, socketsMax })
  for (let i = 0; i < 100; i++) {
    // Until it is connected every answer is unknown.
    const probe = randomUUID()
    await store.arrive(probe, 'probe')
    if ((await store.presence([probe])).get(probe)?.status === 'online') break
    await sleep(20)
  }
  await sleep(50)
  return store
}

describe('redis', { skip: isMissing ? 'redis-server is not installed' : false }, () => {
  before(async () => {
    server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no'], {
      stdio: 'ignore',
    })
    await reachable()
  })
  after(() => {
    server?.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })

  softContract('redis', { open: ({ ttlMs, socketsMax }) => open(0, ttlMs, socketsMax), wait: sleep })

  test('P2 two gateways see each other’s sockets and changes', async () => {
    const [a, b] = await Promise.all([open(), open()])
    const user = randomUUID()
    const told: string[] = []
    b.onPresence((id, state) => id === user && told.push(state.status))
    await a.arrive(user, 'ga 1')
    await b.arrive(user, 'gb 1')
    await a.leave(user, 'ga 1')
    await b.leave(user, 'gb 1')
    for (let i = 0; i < 50 && told.length < 2; i++) await sleep(20)
    assert.deepEqual(told, ['online', 'offline'])
    await Promise.all([a.close(), b.close()])
  })

  test('P1 after everything was lost absent people are unknown, not offline, until gateways have spoken', async () => {
    const store = await open(700)
    const admin = new Redis(socket)
    await sleep(800)
    const [here, away] = [randomUUID(), randomUUID()]
    const status = async (id: string) => (await store.presence([id])).get(id)!.status
    assert.equal(await status(away), 'offline')
    await admin.flushall()
    assert.equal(await status(away), 'unknown')
    await store.beat([[here, 'g 1']])
    assert.equal(await status(here), 'online')
    assert.equal(await status(away), 'unknown')
    await sleep(800)
    assert.equal(await status(away), 'offline')
    admin.disconnect()
    await store.close()
  })

  test('M-02, M-06 gateways tell each other what they granted, for as long as the stretch lasts; a hung store knows nothing', async () => {
    const [a, b] = await Promise.all([open(), open()])
    for (let i = 0; i < 50 && (a.gateways < 2 || b.gateways < 2); i++) await sleep(20)
    // Those of other tests may be counted still: who left without a word is here until its time is over.
    assert.ok(a.gateways >= 2)
    const rate = `rest_address 203.0.113.9 ${randomUUID()}`
    assert.equal((await a.spend(rate, 3, 800))?.total, 3)
    const second = await b.spend(rate, 4, 800)
    assert.equal(second?.total, 7)
    assert.ok(second.restMs > 0 && second.restMs <= 800, `${second.restMs}`)
    const admin = new Redis(socket)
    const keys = await admin.keys('parley:rate:*')
    assert.ok(keys.length > 0 && !keys.some(key => key.includes('203.0.113.9')), 'no address leaves the process')
    for (const key of keys) assert.ok((await admin.pttl(key)) > 0, 'each key ends by itself')
    await sleep(900)
    assert.equal((await a.spend(rate, 1, 800))?.total, 1, 'a new stretch')
    server!.kill('SIGSTOP')
    try {
      const start = performance.now()
      for (let i = 0; i < 50; i++) assert.equal(await a.spend(rate, 1, 800), undefined)
      assert.ok(performance.now() - start < 400)
    } finally {
      server!.kill('SIGCONT')
    }
    await b.close()
    await sleep(1200)
    assert.ok(await a.spend(rate, 1, 800))
    await a.close()
    admin.disconnect()
  })

  test('P1 a hung Redis costs 150 ms once, then nothing, and is found again when it runs', async () => {
    const store = await open(2000)
    const user = randomUUID()
    await store.arrive(user, 'g 1')
    server!.kill('SIGSTOP')
    try {
      let start = performance.now()
      assert.equal((await store.presence([user])).get(user)!.status, 'unknown')
      assert.ok(performance.now() - start < 400)
      start = performance.now()
      for (let i = 0; i < 100; i++) await store.arrive(user, 'g 1')
      assert.ok(performance.now() - start < 300)
    } finally {
      server!.kill('SIGCONT')
    }
    await sleep(1200)
    // Whoever came while it hung is not in it yet, and nobody says that they are gone.
    assert.equal((await store.presence([randomUUID()])).values().next().value!.status, 'unknown')
    await store.beat([[user, 'g 1']])
    assert.equal((await store.presence([user])).get(user)!.status, 'online')
    await store.close()
  })
})
