import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { shardCount } from '#protos/limits.ts'
import type { EngineReady } from './main.ts'

const script = path.join(import.meta.dirname, 'main.ts')

let database: TestDatabase
let sql: Client
before(async () => {
  database = await testDatabase()
  sql = new Client({ connectionString: database.url })
  await sql.connect()
})
after(async () => {
  await sql.end()
  await database.drop()
})

interface Engine {
  child: ChildProcess
  ready: EngineReady
  tookMs: number
  ended: Promise<number | string>
}

async function start(t: TestContext, env: Record<string, string> = {}): Promise<Engine> {
  const began = performance.now()
  const child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      ENGINE_METRICS_PORT: '0',
      ENGINE_THREADS: '2',
      OPENAI_BASE_URL: 'http://127.0.0.1:9/v1',
      ...env,
    },
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr!.on('data', chunk => (said += chunk))
  const ended = new Promise<number | string>(resolve =>
    child.once('exit', (code, signal) => resolve(code ?? signal ?? '')),
  )
  const ready = await new Promise<EngineReady>((resolve, reject) => {
    child.once('message', message => resolve(message as EngineReady))
    void ended.then(how => reject(new Error(`it ended with ${how}: ${said}`)))
  })
  return { child, ready, ended, tookMs: performance.now() - began }
}

async function owners(): Promise<{ owner: string | null; addr: string; n: number }[]> {
  const { rows } = await sql.query(
    `select s.owner, n.addrs[s.worker + 1] as addr, count(*)::int as n
       from shard s left join engine_node n on n.incarnation = s.owner and n.state = 'up'
      group by 1, 2 order by 2`,
  )
  return rows
}

test('[ENG1] a ready engine owns every shard at addresses of its own threads and says so', async t => {
  const { ready } = await start(t)
  const rows = await owners()
  assert.ok(rows.every(row => row.owner === ready.incarnation))
  assert.equal(
    rows.reduce((n, row) => n + row.n, 0),
    shardCount,
  )
  const { threads } = (await (await fetch(`${ready.adminUrl}/threads`)).json()) as { threads: { addr: string }[] }
  assert.deepEqual(
    rows.map(row => row.addr),
    threads.map(thread => thread.addr).sort(),
  )
  assert.equal((await fetch(`${ready.adminUrl}/healthz`)).status, 200)
  assert.equal((await fetch(`${ready.adminUrl}/readyz`)).status, 200)
  assert.equal((await fetch(`${ready.adminUrl}/nothing`)).status, 404)
  const text = await (await fetch(`${ready.adminUrl}/metrics`)).text()
  const lines = text.split('\n')
  assert.ok(lines.includes(`parley_shards_owned ${shardCount}`))
  for (const thread of ['main', 'worker-0', 'worker-1'])
    assert.ok(
      lines.some(line => line.startsWith(`parley_event_loop_lag_ms{thread="${thread}"} `)),
      thread,
    )
})

test('[ENG2] an engine that was killed owns everything again soon after its next start', async t => {
  const first = await start(t)
  first.child.kill('SIGKILL')
  await first.ended
  const second = await start(t)
  assert.ok((await owners()).every(row => row.owner === second.ready.incarnation))
  // 0.7 s on an idle machine; tests share theirs.
  assert.ok(second.tookMs < 12_000, `${second.tookMs} ms`)
})

test('[ENG3] SIGTERM ends an engine within 5 s with code 0 and frees its shards at once', async t => {
  const { child, ready, ended } = await start(t)
  const began = performance.now()
  child.kill('SIGTERM')
  assert.equal(await ended, 0)
  assert.ok(performance.now() - began < 5000)
  const { rows } = await sql.query('select state from engine_node where incarnation = $1', [ready.incarnation])
  assert.equal(rows[0].state, 'dead')
})

test('[ENG4] an engine that was declared dead ends with a code of its own', async t => {
  const { ready, ended } = await start(t)
  await sql.query("update engine_node set state = 'dead' where incarnation = $1", [ready.incarnation])
  assert.equal(await ended, 75)
})

test('[ENG5] an engine ends when the channel to its parent closes', async t => {
  const { child, ended } = await start(t)
  const began = performance.now()
  child.disconnect()
  assert.equal(await ended, 0)
  assert.ok(performance.now() - began < 8000)
})

test('[ENG6] a wrong setting ends it with code 2 and a sentence', async t => {
  await assert.rejects(start(t, { ENGINE_THREADS: 'many' }), /it ended with 2: ENGINE_THREADS: "many" cannot be used\./)
})

test('[ENG7] a second engine of one name on one machine is refused, one of another name is not', async t => {
  const first = await start(t)
  await assert.rejects(start(t), /it ended with 2/)
  const second = await start(t, { NODE_ID: 'other' })
  assert.notEqual(second.ready.node, first.ready.node)
  assert.ok((await owners()).every(row => row.owner === first.ready.incarnation))
  // Killed, it would count as up until it is buried, and the next test's engine would leave it its shards that long.
  second.child.kill('SIGTERM')
  assert.equal(await second.ended, 0)
})

const faults = { NODE_OPTIONS: `--import ${new URL('../load/rig/faults.ts', import.meta.url).href}` }
for (const kind of ['throw', 'exit', 'oom', 'spin']) {
  test(`[ENG8] a worker broken by ${kind} is replaced under fresh epochs while its neighbour keeps its own`, async t => {
    const { ready } = await start(t, { ...faults, ENGINE_HEAP_MB: '128' })
    const epochs = async (worker: number): Promise<number[]> =>
      (
        await sql.query('select epoch::int from shard where owner = $1 and worker = $2 order by shard_id', [
          ready.incarnation,
          worker,
        ])
      ).rows.map(row => row.epoch)
    const [broken, neighbour] = [await epochs(0), await epochs(1)]
    assert.equal(broken.length + neighbour.length, shardCount)
    const began = performance.now()
    const answer = await fetch(`${ready.adminUrl}/fault`, { method: 'POST', body: JSON.stringify({ worker: 0, kind }) })
    assert.equal(answer.status, 202)
    const isFresh = (now: number[]) => now.length === broken.length && now.every((epoch, i) => epoch > broken[i]!)
    while (!isFresh(await epochs(0))) {
      assert.ok(performance.now() - began < 50_000, 'waited 50 s')
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    t.diagnostic(`${Math.round(performance.now() - began)} ms`)
    assert.deepEqual(await epochs(1), neighbour)
  })
}
