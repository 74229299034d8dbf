/**
 * A running cluster for tests and scripts: `parley cluster` as its users start it, on free ports, with a data folder that
 * goes away. Refuses to reach inside: what it knows comes from cluster.json and the listeners named there.
 */
import { execFile, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { type ClusterFile, readClusterFile } from '#engine/process/cluster-file.ts'
import { endProcess } from './product.ts'

const root = path.resolve(import.meta.dirname, '../..')
const cli = path.join(root, 'engine/cli.ts')
const startMsMax = 120_000

export interface Cluster {
  /** Processes and addresses as they are written down now. */
  file(): ClusterFile
  /** What the parent and its children printed, the last of it. */
  output(): string
  /** Access tokens and ids of users seed_1 … seed_n; calls add up. */
  seed(users: number): Promise<string[]>
  request<T>(gateway: number, token: string, method: string, path: string, body?: unknown): Promise<T>
  sql<R = Record<string, unknown>>(text: string, values?: unknown[]): Promise<R[]>
  /** Resolves when all gateways and engines answer /readyz with 200; its milliseconds. */
  ready(msMax?: number): Promise<number>
  stop(): Promise<void>
}

/** Starts it and waits until it is ready. */
export async function startTestCluster(env: Record<string, string> = {}): Promise<Cluster> {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-cluster-'))
  // As root the database runs as another user, who has to get here.
  chmodSync(home, 0o755)
  const settings: NodeJS.ProcessEnv = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: '0',
    DATA_DIR: home,
    LOG_LEVEL: 'warn',
    DRAIN_SPREAD_MS: '0',
    ...env,
  }
  const parent = spawn(process.execPath, [cli, 'cluster'], {
    cwd: root,
    env: settings,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const keep = (piece: Buffer) => {
    output = (output + piece.toString()).slice(-40_000)
  }
  parent.stdout.on('data', keep)
  parent.stderr.on('data', keep)
  const stop = async () => {
    await endProcess(parent, 40_000)
    rmSync(home, { recursive: true, force: true })
  }
  const file = () => {
    const found = readClusterFile(home)
    if (!found) throw new Error(`cluster.json is not there; it said:\n${output}`)
    return found
  }
  for (const until = performance.now() + startMsMax; !readClusterFile(home); await sleep(50)) {
    if (parent.exitCode === null && !parent.signalCode && performance.now() < until) continue
    await stop()
    throw new Error(`the cluster did not get ready; it said:\n${output}`)
  }
  let users = 0
  return {
    file,
    output: () => output,
    async seed(count) {
      const tokens = path.join(home, `tokens-${++users}`)
      await promisify(execFile)(process.execPath, [cli, 'seed', '--users', String(count), '--tokens', tokens], {
        cwd: root,
        env: { ...settings, BCRYPT_COST: '6', DATABASE_URL: file().postgres.url },
      })
      return readFileSync(tokens, 'utf8').trim().split('\n')
    },
    async request(gateway, token, method, where, body) {
      const response = await fetch(file().gateways[gateway]!.url + where, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${where}: ${response.status} ${text.slice(0, 300)}`)
      return (text === '' ? undefined : JSON.parse(text)) as never
    },
    async sql<R>(text: string, values: unknown[] = []) {
      const client = new Client({ connectionString: file().postgres.url })
      client.on('error', () => {})
      await client.connect()
      try {
        return (await client.query(text, values)).rows as R[]
      } finally {
        await client.end()
      }
    },
    async ready(msMax = 30_000) {
      const began = performance.now()
      while (!(await isReady(file()))) {
        if (performance.now() - began > msMax) throw new Error(`not ready after ${msMax} ms; it said:\n${output}`)
        await sleep(20)
      }
      return performance.now() - began
    },
    stop,
  }
}

async function isReady({ gateways, engines }: ClusterFile): Promise<boolean> {
  const urls = [...gateways.map(g => g.url), ...engines.map(e => e.admin_url)]
  const statuses = await Promise.all(
    urls.map(url =>
      fetch(`${url}/readyz`).then(
        async response => {
          await response.body?.cancel()
          return response.status
        },
        () => 0,
      ),
    ),
  )
  return statuses.every(status => status === 200)
}
