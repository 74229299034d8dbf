/** The whole product from one command: processes, their deaths, and the way down. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { isAlive, type NodeFile, readNodeFile } from './node-file.ts'

const script = path.resolve(import.meta.dirname, '../cli.ts')

const settings = {
  HOST: '127.0.0.1',
  PORT: '0',
  METRICS_PORT: '0',
  ENGINE_METRICS_PORT: '0',
  MODEL_PORT: '0',
  ENGINE_THREADS: '1',
  LOG_LEVEL: 'warn',
  DRAIN_SPREAD_MS: '0',
}

let dataDir: string
let parent: ChildProcess | undefined
let out = ''
before(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'parley-start-'))
})
after(async () => {
  await end('SIGTERM')
  rmSync(dataDir, { recursive: true, force: true })
})

/** Resolves when the banner is there, with the time it took. */
async function start(): Promise<number> {
  const began = performance.now()
  out = ''
  const child = spawn(process.execPath, [script, 'start'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...settings,
      DATA_DIR: dataDir,
    },
  })
  parent = child
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (out += chunk))
  await until(() => {
    assert.equal(child.exitCode, null, out)
    return out.includes('Parley is ready.')
  }, 'the banner')
  return performance.now() - began
}

async function end(signal: NodeJS.Signals): Promise<number | string | null> {
  const child = parent
  if (!child || child.exitCode !== null || child.signalCode !== null) return null
  return new Promise(resolve => {
    child.once('exit', (code, by) => resolve(code ?? by))
    child.kill(signal)
  })
}

const node = () => readNodeFile(dataDir) as NodeFile & { url: string; metricsUrl: string; engineMetricsUrl: string }
const members = ['engine', 'gateway', 'model', 'postgres'] as const

async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 55_000): Promise<void> {
  const began = performance.now()
  while (!(await holds())) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}\n${out}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function isReady(): Promise<boolean> {
  const answers = await Promise.all(
    [`${node().url}/readyz`, `${node().engineMetricsUrl}/readyz`].map(url =>
      fetch(url).then(
        response => response.status,
        () => 0,
      ),
    ),
  )
  return answers.every(status => status === 200)
}

test('[START1] one command brings up four processes and says where they are', async () => {
  await start()
  for (const name of members) assert.ok(isAlive(node()[name]), name)
  assert.ok(await isReady())
  assert.ok(out.includes(new URL(node().url).port))
  assert.equal((await fetch(`${node().metricsUrl}/metrics`)).status, 200)
})

test('[START2] a second start on the same folder is refused in one sentence', async () => {
  const second = spawn(process.execPath, [script, 'start'], { env: { ...process.env, DATA_DIR: dataDir } })
  let said = ''
  second.stderr.on('data', chunk => (said += chunk))
  assert.equal(await new Promise(resolve => second.once('exit', resolve)), 1)
  assert.match(said, /^Parley already runs on DATA_DIR .*\. Stop it or set DATA_DIR to another folder\.\n$/)
})

test('[START2] a start goes on when it cannot write down where its processes are', async () => {
  const { parent: own, model, modelUrl } = node()
  const inTheWay = path.join(dataDir, 'node.json.next')
  mkdirSync(inTheWay)
  try {
    process.kill(model!, 'SIGKILL')
    await until(() => !isAlive(model), 'the end of the model')
    const answers = () =>
      fetch(`${modelUrl}/models`).then(
        response => response.ok,
        () => false,
      )
    await until(answers, 'another model')
    assert.ok(isAlive(own))
  } finally {
    rmdirSync(inTheWay)
  }
})

for (const name of members) {
  test(`[START3] ${name} is started again when it is killed, at the same address`, async () => {
    const before = node()
    process.kill(before[name]!, 'SIGKILL')
    await until(() => node()[name] !== undefined && node()[name] !== before[name], `another ${name}`)
    await until(isReady, 'readiness')
    const now = node()
    assert.deepEqual([now.url, now.databaseUrl], [before.url, before.databaseUrl])
  })
}

test('[START4] after everything was killed a start is soon ready and keeps the data', async () => {
  const before = node()
  for (const pid of [before.parent, before.gateway, before.engine, before.model, before.postgres])
    process.kill(pid!, 'SIGKILL')
  await until(() => !isAlive(before.postgres) && !isAlive(before.parent), 'the end of all')
  const took = await start()
  // 1.8 s on an idle machine; tests share theirs.
  assert.ok(took < 25_000, `${took} ms`)
  assert.ok(await isReady())
})

test('[START5] after only the parent was killed its children end, and a start adopts Postgres', async () => {
  const before = node()
  process.kill(before.parent, 'SIGKILL')
  await start()
  const now = node()
  assert.equal(now.postgres, before.postgres)
  for (const name of ['engine', 'gateway', 'model'] as const) assert.ok(!isAlive(before[name]), name)
  assert.ok(await isReady())
})

test('[START6] Ctrl-C stops everything, Postgres last, with code 0', async () => {
  const { engine, gateway, model, postgres } = node()
  assert.equal(await end('SIGINT'), 0)
  for (const pid of [engine, gateway, model, postgres]) assert.ok(!isAlive(pid))
})

test('[START7] Ctrl-C during a start leaves nothing behind', async () => {
  await end('SIGTERM')
  out = ''
  const child = spawn(process.execPath, [script, 'start'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...settings, LOG_LEVEL: 'info', DATA_DIR: dataDir },
  })
  parent = child
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (out += chunk))
  await until(() => out.includes('embedded Postgres started'), 'the database')
  assert.equal(await end('SIGINT'), 0, out)
  assert.ok(!out.includes('Parley is ready.'))
  const { engine, gateway, model, postgres } = node()
  for (const pid of [engine, gateway, model, postgres]) assert.ok(!isAlive(pid))
})

for (const [name, strike] of [
  ['SIGTERM to npm alone', (npm: number) => process.kill(npm, 'SIGTERM')],
  ['Ctrl-C in a terminal, which reaches npm and its child', (npm: number) => process.kill(-npm, 'SIGINT')],
] as const) {
  test(`[START8] ${name} stops everything in order`, async () => {
    await end('SIGTERM')
    out = ''
    const child = spawn('npm', ['start'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: path.resolve(import.meta.dirname, '../..'),
      env: { ...process.env, ...settings, DATA_DIR: dataDir },
      detached: true,
    })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (out += chunk))
    const ended = new Promise(resolve => child.once('exit', resolve))
    try {
      await until(() => out.includes('Parley is ready.') || child.exitCode !== null, 'the banner')
      const { parent: own, engine, gateway, model, postgres } = node()
      strike(child.pid!)
      await until(() => !isAlive(own), 'the end of the parent')
      await ended
      for (const pid of [engine, gateway, model, postgres]) assert.ok(!isAlive(pid), out)
    } finally {
      const { parent: own } = node()
      if (isAlive(own, 'engine/cli.ts')) process.kill(own, 'SIGKILL')
    }
  })
}
