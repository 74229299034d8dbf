/**
 * A running product for scripts that measure or break it: `parley start` as its users start it, on free ports, with a data
 * folder that goes away. Refuses to reach inside: what it knows comes from node.json and the public listeners.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type NodeFile, readNodeFile } from '#engine/process/node-file.ts'

const root = path.resolve(import.meta.dirname, '../..')
const cli = path.join(root, 'engine/cli.ts')
const startMsMax = 120_000

export interface Product {
  /** http://host:port of the public listener. */
  url: string
  wsUrl: string
  /** Processes and addresses as they are now; a restarted child has another pid. */
  node(): NodeFile
  /** Access tokens of users seed_1 … seed_n. */
  seed(users: number): Promise<string[]>
  request<T>(token: string, method: string, path: string, body?: unknown): Promise<T>
  stop(): Promise<void>
}

/** Starts it and waits until it is ready. `env`: settings over those that every script wants. */
export async function startProduct(env: Record<string, string> = {}): Promise<Product> {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-load-'))
  // As root the database runs as another user, who has to get here.
  chmodSync(home, 0o755)
  const settings: Record<string, string | undefined> = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: '0',
    METRICS_PORT: '0',
    ENGINE_METRICS_PORT: '0',
    MODEL_PORT: '0',
    DATA_DIR: home,
    RATE_LIMIT_SCALE: '1000',
    SOCKETS_PER_ADDRESS: '0',
    BCRYPT_COST: '6',
    LOG_LEVEL: 'warn',
    DRAIN_SPREAD_MS: '0',
    ...env,
  }
  const parent = spawn(process.execPath, [cli, 'start'], {
    cwd: root,
    env: settings,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const keep = (piece: Buffer) => {
    output = (output + piece.toString()).slice(-20_000)
  }
  parent.stdout.on('data', keep)
  parent.stderr.on('data', keep)

  const stop = async () => {
    await endProcess(parent, 30_000)
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await waitReady(parent, home, () => output)
  } catch (error) {
    await stop()
    throw error
  }
  const node = () => readNodeFile(home) ?? fail('node.json is gone')
  const url = node().url ?? fail('node.json has no url')
  return {
    url,
    wsUrl: url.replace(/^http/, 'ws'),
    node,
    async seed(users) {
      const file = path.join(home, `tokens-${users}`)
      await promisify(execFile)(process.execPath, [cli, 'seed', '--users', String(users), '--tokens', file], {
        cwd: root,
        env: { ...settings, DATABASE_URL: node().databaseUrl },
      })
      return readFileSync(file, 'utf8').trim().split('\n')
    },
    request: (token, method, where, body) => request(url, token, method, where, body),
    async stop() {
      if (process.env['SHOW_OUTPUT']) process.stderr.write(output)
      await stop()
    },
  }
}

async function request<T>(url: string, token: string, method: string, where: string, body?: unknown): Promise<T> {
  const response = await fetch(url + where, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${where}: ${response.status} ${text.slice(0, 300)}`)
  return (text === '' ? undefined : JSON.parse(text)) as T
}

async function waitReady(parent: ChildProcess, home: string, output: () => string): Promise<void> {
  for (const until = performance.now() + startMsMax; performance.now() < until; await sleep(100)) {
    if (parent.exitCode !== null || parent.signalCode) break
    const url = readNodeFile(home)?.url
    if (!url) continue
    const ready = await fetch(`${url}/readyz`).catch(() => undefined)
    await ready?.body?.cancel()
    if (ready?.ok) return
  }
  throw new Error(`the product did not get ready; it said:\n${output()}`)
}

/** SIGTERM, and SIGKILL for one that does not listen. */
export async function endProcess(child: ChildProcess, graceMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode) return
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await ended
  clearTimeout(timer)
}

function fail(why: string): never {
  throw new Error(why)
}
