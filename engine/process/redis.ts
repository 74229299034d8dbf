/**
 * Owns a redis-server of a cluster: from PATH, on loopback, without any file; started again when it ends. Refuses to be
 * more than a cache: what it held is gone with its process.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '#engine/ops/log.ts'
import { StartError } from './start-error.ts'

export interface KeptRedis {
  url: string
  /** Of the last process; it may have ended. */
  pid(): number
  stop(): Promise<void>
}

const command = 'redis-server'
const startMsMax = 10_000
const stopMsMax = 2000

/** Throws a StartError when there is no redis-server. */
export function needRedis(): void {
  if (spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0) return
  throw new StartError('A cluster needs redis-server in PATH: install Redis, or set REDIS_URL to one that runs.')
}

/** Resolves when it answers. `onMoved`: it runs as another process now. */
export async function keepRedis(options: {
  port: number
  restartMs: number
  log: Log
  onMoved(): void
}): Promise<KeptRedis> {
  const { port, log } = options
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-redis-'))
  let current: ChildProcess | undefined
  let pid = 0
  let timer: NodeJS.Timeout | undefined
  let isStopping = false

  function start(): void {
    const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
    // A group of its own: Ctrl-C reaches the parent only, which stops it last.
    const child = spawn(command, settings, { stdio: 'ignore', detached: true })
    current = child
    pid = child.pid ?? pid
    const ended = (how: string | number | undefined) => {
      if (current !== child) return
      current = undefined
      if (isStopping) return
      log.warn('redis-server ended and is started again', { code: how, ms: options.restartMs })
      timer = setTimeout(start, options.restartMs)
    }
    child.once('error', error => ended(error.message))
    child.once('exit', (code, signal) => ended(signal ?? code ?? 'exit'))
    options.onMoved()
  }

  async function stop(): Promise<void> {
    isStopping = true
    clearTimeout(timer)
    const child = current
    if (child) {
      const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), stopMsMax)
      await gone
      clearTimeout(force)
    }
    rmSync(folder, { recursive: true, force: true })
  }

  start()
  for (const until = performance.now() + startMsMax; !(await answers(port)); await sleep(20)) {
    if (performance.now() < until) continue
    await stop()
    throw new StartError(`redis-server did not come up on port ${port} within ${startMsMax / 1000} s.`)
  }
  return { url: `redis://127.0.0.1:${port}`, pid: () => pid, stop }
}

function answers(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection({ host: '127.0.0.1', port }, () => socket.write('PING\r\n'))
    const done = (isUp: boolean) => {
      socket.destroy()
      resolve(isUp)
    }
    socket.setTimeout(500, () => done(false))
    socket.once('error', () => done(false))
    socket.once('data', data => done(data.toString().startsWith('+PONG')))
  })
}
