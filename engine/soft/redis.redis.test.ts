/** The store on a real Redis passes the contract; a Redis that is lost, flushed or hung costs answers, never an error. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { silentLog } from '#engine/ops/log.ts'
import { type Metrics, openMetrics } from '#engine/ops/metrics.ts'
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

/** Of the test that runs. */
const opened: { close(): unknown }[] = []

interface Given {
  settleMs?: number
  ttlMs?: number
  socketsMax?: number
  goneMs?: number
  owedMax?: number
  url?: string
  name?: string
  replaces?: string
  metrics?: Metrics
}

async function open({ ttlMs = 400, socketsMax = 3, ...given }: Given = {}): Promise<SoftStore> {
  const deps = { url: socket, log: silentLog, metrics: openMetrics(), settleMs: 0, name: randomUUID(), replaces: '' }
  const store = createRedisStore({ ...deps, ...given }, { ttlMs, socketsMax })
  opened.push(store)
  for (let i = 0; i < 100; i++) {
    // Until it is connected every answer is unknown.
    const probe = randomUUID()
    await store.arrive(probe, 'probe')
    const { status } = (await store.presence([probe])).get(probe)!
    await store.leave(probe, 'probe')
    if (status === 'online') break
    await sleep(20)
  }
  await sleep(50)
  return store
}

const statusOf = async (store: SoftStore, id: string) => (await store.presence([id])).get(id)!.status

async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 4000): Promise<void> {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(20)) if (await holds()) return
  assert.fail(`not in time: ${what}`)
}

/** A way to Redis that can be held: nothing is lost, all comes late. */
async function openLink(): Promise<{ url: string; hold(): void; pass(): void }> {
  const url = path.join(folder, randomUUID().slice(0, 8))
  const open = new Set<Socket>()
  let isHeld = false
  const server = createServer(near => {
    const far = connect(socket)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from)
      from.on('data', bytes => to.write(bytes)).on('error', () => to.destroy())
      from.on('close', () => {
        open.delete(from)
        to.destroy()
      })
      if (isHeld) from.pause()
    }
  })
  await new Promise<void>(resolve => server.listen(url, resolve))
  opened.push({
    close() {
      for (const end of open) end.destroy()
      server.close()
    },
  })
  return {
    url,
    hold() {
      isHeld = true
      for (const end of open) end.pause()
    },
    pass() {
      isHeld = false
      for (const end of open) end.resume()
    },
  }
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

  afterEach(async () => {
    for (const it of opened.splice(0).reverse()) await it.close()
    const admin = new Redis(socket)
    await admin.flushall()
    admin.disconnect()
  })

  softContract('redis', { open, wait: sleep })

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
  })

  test('P1 after everything was lost absent people are unknown, not offline, until gateways have spoken', async () => {
    const store = await open({ settleMs: 700 })
    const admin = new Redis(socket)
    await sleep(800)
    const [here, stays, away] = [randomUUID(), randomUUID(), randomUUID()]
    await store.arrive(stays, 'g 2')
    const status = async (id: string) => (await store.presence([id])).get(id)!.status
    assert.equal(await status(away), 'offline')
    await admin.flushall()
    assert.equal(await status(away), 'unknown')
    await store.arrive(here, 'g 1')
    assert.equal(await status(here), 'online')
    assert.equal(await status(away), 'unknown')
    assert.equal(await status(stays), 'unknown')
    await until('who was here is told again', async () => (await status(stays)) === 'online', 1300)
    assert.equal(await status(away), 'unknown')
    const since = performance.now()
    await until('it is known again', async () => (await status(away)) === 'offline', 2000)
    assert.ok(performance.now() - since > 500)
    admin.disconnect()
  })

  test('M-02, M-06 gateways tell each other what they granted, for as long as the stretch lasts; a hung store knows nothing', async () => {
    const [a, b] = await Promise.all([open(), open()])
    // Whoever came first is told of the other.
    for (let i = 0; i < 100 && (a.gateways < 2 || b.gateways < 2); i++) await sleep(20)
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
    const store = await open()
    const user = randomUUID()
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
    await until('whoever came while it hung is here', async () => (await statusOf(store, user)) === 'online', 2500)
  })

  test('P4 who came and who left while Redis hung is told when it runs, in the order of the calls', async () => {
    const [a, b] = await Promise.all([open({ ttlMs: 60_000 }), open({ ttlMs: 60_000 })])
    const [left, came, passed, moved] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
    await a.arrive(left, 'a 1')
    await a.arrive(moved, 'a 2')
    await sleep(50)
    const names = new Map<string, string>(
      [left, came, passed, moved].map((id, i) => [id, ['left', 'came', 'passed', 'moved'][i]!]),
    )
    const told: string[] = []
    b.onPresence((id, { status }) => names.has(id) && told.push(`${names.get(id)} ${status}`))
    server!.kill('SIGSTOP')
    try {
      // The first of them goes out and its answer does not come in time; the others find the breaker open or a queue.
      await a.arrive(passed, 'a 3')
      void a.leave(left, 'a 1')
      void a.leave(passed, 'a 3')
      void a.arrive(came, 'a 4')
      void a.arrive(moved, 'a 5')
      void a.leave(moved, 'a 2')
      await sleep(1500)
    } finally {
      server!.kill('SIGCONT')
    }
    const known = async () => [
      await statusOf(b, left),
      await statusOf(b, passed),
      await statusOf(b, came),
      await statusOf(b, moved),
    ]
    await until(
      'all is told',
      async () => (await known()).join() === 'offline,offline,online,online' && told.includes('came online'),
      2500,
    )
    const last = new Map(told.map(text => text.split(' ') as [string, string]))
    assert.equal(last.get('left'), 'offline')
    assert.equal(last.get('passed'), 'offline')
    assert.ok(!told.includes('moved offline') && !told.includes('came offline'), told.join())
  })

  test('P4 what comes while the owed is being told waits behind it', async () => {
    const metrics = openMetrics()
    const owedCount = async () => (await metrics.parley_soft_owed.get()).values[0]!.value
    const store = await open({ ttlMs: 60_000, metrics })
    const moved = randomUUID()
    const told: string[] = []
    store.onPresence((id, { status }) => id === moved && told.push(status))
    await store.arrive(moved, 'g 1')
    server!.kill('SIGSTOP')
    try {
      for (let i = 0; i < 1000; i++) await store.arrive(randomUUID(), `g o${i}`)
      await store.arrive(moved, 'g 2')
    } finally {
      server!.kill('SIGCONT')
    }
    while ((await owedCount()) === 1001) await setImmediate()
    assert.ok((await owedCount()) > 0, 'the first were told, the last was not')
    await store.leave(moved, 'g 1')
    await until('all are told', async () => (await owedCount()) === 0)
    await sleep(50)
    assert.equal(await statusOf(store, moved), 'online')
    assert.deepEqual(
      told.filter(status => status !== 'online'),
      [],
    )
  })

  test('P4 what is owed is bounded: a leaving beyond it ends with the time to live, a coming is told by a beat', async () => {
    const metrics = openMetrics()
    const store = await open({ ttlMs: 4000, owedMax: 2, metrics })
    const users = Array.from({ length: 6 }, () => randomUUID())
    for (const user of users.slice(0, 3)) await store.arrive(user, `g ${user}`)
    server!.kill('SIGSTOP')
    try {
      await store.presence([users[0]!])
      for (const user of users.slice(0, 3)) await store.leave(user, `g ${user}`)
      for (const user of users.slice(3)) await store.arrive(user, `g ${user}`)
    } finally {
      server!.kill('SIGCONT')
    }
    const known = async () => (await Promise.all(users.map(user => statusOf(store, user)))).join()
    await until('all are here', async () => (await known()) === 'offline,offline,online,online,online,online', 2500)
    assert.equal((await metrics.parley_soft_owed_dropped_total.get()).values[0]!.value, 4)
    assert.equal((await metrics.parley_soft_owed.get()).values[0]!.value, 0)
    await until('it has expired', async () => (await statusOf(store, users[2]!)) === 'offline', 5000)
  })

  test('P5 while a gateway does not reach Redis nobody is called offline who may be there, then the truth', async () => {
    const link = await openLink()
    const [cut, other] = await Promise.all([open({ ttlMs: 60_000, url: link.url }), open({ ttlMs: 60_000 })])
    const [absent, hops] = [randomUUID(), randomUUID()]
    await other.arrive(hops, 'o 1')
    await other.arrive(absent, 'o 2')
    let knownCount = 0
    other.onKnown(() => knownCount++)
    assert.equal(await statusOf(other, randomUUID()), 'offline')
    link.hold()
    // A pulse is on its way by then.
    await sleep(1300)
    const since = performance.now()
    // More than fits into one write: hops is not even on its way when the link passes.
    for (let i = 2; i < 300; i++) void cut.arrive(randomUUID(), `c ${i}`)
    void cut.arrive(hops, 'c 1')
    await other.leave(hops, 'o 1')
    const seen: { status: string; at: number }[] = []
    const look = async () => seen.push({ status: await statusOf(other, hops), at: performance.now() - since })
    while (performance.now() - since < 3000) {
      await look()
      await sleep(20)
    }
    assert.equal(seen.at(-1)!.status, 'unknown')
    const told: string[] = []
    other.onPresence((id, { status }) => id === absent && told.push(status))
    await other.leave(absent, 'o 2')
    await until('it is heard', () => told.length > 0)
    assert.equal(told[0], 'unknown')
    assert.equal(await statusOf(cut, absent), 'unknown')
    link.pass()
    await until('hops is seen', async () => {
      await look()
      return seen.at(-1)!.status === 'online'
    })
    // What was held on the way, pulses among it, must not say that all is told.
    assert.deepEqual(
      seen.filter(s => s.status === 'offline' && s.at > 2300),
      [],
    )
    await until('it may be asked', () => knownCount > 0)
    assert.equal(await statusOf(other, absent), 'offline')
  })

  test('P5 a goodbye, a next life under the same name and the time to live end the waiting for a gateway', async () => {
    const link = await openLink()
    const other = await open()
    const sure = async () => (await statusOf(other, randomUUID())) === 'offline'
    const gone = await open({ name: `gone-${randomUUID()}` })
    await gone.close()
    for (let i = 0; i < 26; i++) {
      assert.ok(await sure(), 'after a goodbye')
      await sleep(100)
    }
    await open({ name: `g-${randomUUID()}`, replaces: 'g-', url: link.url })
    link.hold()
    await until('its pulse is missing', async () => !(await sure()))
    const next = await open({ name: `g-${randomUUID()}`, replaces: 'g-' })
    await until('the next one takes its place', sure, 1000)
    await other.close()
    const impatient = await open({ goneMs: 3500 })
    await next.close()
    const link2 = await openLink()
    await open({ url: link2.url })
    link2.hold()
    const isSure = async () => (await statusOf(impatient, randomUUID())) === 'offline'
    await until('it is missing', async () => !(await isSure()))
    await until('it is gone', isSure, 2500)
  })

  test('P6 the wall clock of a host changes no age: a gateway an hour ahead makes nobody unknown', async t => {
    const hourMs = 3_600_000
    const wall = () => performance.timeOrigin + performance.now()
    let aheadMs = hourMs
    t.mock.method(Date, 'now', () => wall() + aheadMs)
    const admin = new Redis(socket)
    await admin.flushall()
    const ahead = await open({ settleMs: 300, ttlMs: 60_000 })
    const user = randomUUID()
    let lastSeen: number | null | undefined
    ahead.onPresence((id, state) => {
      if (id === user && state.status === 'online') lastSeen = state.lastSeen
    })
    await ahead.arrive(user, 'g 1')
    await until('the coming was heard', () => lastSeen !== undefined)
    assert.ok(Math.abs(lastSeen! - wall()) < 60_000)
    aheadMs = 0
    const right = await open({ settleMs: 300 })
    await until('absent people are known', async () => (await statusOf(right, randomUUID())) === 'offline', 2000)
    // One that an earlier version has left behind.
    await admin.set('parley:soft:epoch', wall() + hourMs)
    assert.equal(await statusOf(right, randomUUID()), 'unknown')
    await until('it is put right', async () => (await statusOf(right, randomUUID())) === 'offline', 2500)
    admin.disconnect()
  })
})
