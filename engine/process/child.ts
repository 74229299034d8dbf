/**
 * Owns one child process: starts it, hears that it is ready, starts it again when it ends, stops it. The channel to it stays
 * open as long as this process lives; a child ends when it closes. Refuses to know what the child does.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Log } from '#engine/ops/log.ts'
import { StartError } from './start-error.ts'

export interface ChildOptions {
  name: string
  /** Absolute path of the script. */
  script: string
  /** Asked at each start: ports found by the first run stay with the later ones. */
  env(): Record<string, string | undefined>
  log: Log
  /** Node's own arguments, before the script. */
  nodeArgs?: readonly string[]
  /** Each time a process was made, before it is ready. */
  onSpawned?(): void
  /** Each time the child says that it is ready. */
  onReady(message: Record<string, unknown>): void
  /** Whatever else it says over the channel. */
  onSaid?(message: Record<string, unknown>): void
  /** Each end that was not asked for, before the next start. */
  onEnded(): void
  /** Its lines, where a terminal shows them in another form; undefined: they go where ours go. */
  onLine: ((line: string) => void) | undefined
  /** The pause before each restart. Not given: none before the first, longer and longer ones after failures. */
  restartMs?: number
}

export interface Child {
  /** Resolves at the first ready; rejects with a StartError when the child does not come up. */
  ready: Promise<void>
  pid(): number | undefined
  /** SIGTERM, and SIGKILL after `graceMs`. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>
  kill(): void
}

/** A child that was ready for less than this counts as failed again: what dies of itself does so at once. */
const steadyMs = 1000
const backoffMsMax = 5000
/** One that came up before it ended can do so again: waiting long for it would only be a longer pause for people. */
const readyBackoffMsMax = 1000
/** Before its first ready: a port or a lock of a predecessor may take a moment to be free. */
const firstTriesMax = 3
/** Ends that another try cannot mend: a setting is wrong. */
const exitSetting = 2

export function keepChild(options: ChildOptions): Child {
  const { name, log } = options
  let current: ChildProcess | undefined
  let isStopping = false
  let wasReady = false
  let failures = 0
  let restart: NodeJS.Timeout | undefined
  let settle!: { resolve(): void; reject(error: Error): void }
  const ready = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject }
  })
  // Awaited by the parent in its own order; until then a rejection is not unhandled.
  ready.catch(() => undefined)
  start()

  function start(): void {
    const isPiped = options.onLine !== undefined
    const child = spawn(process.execPath, [...(options.nodeArgs ?? []), options.script], {
      env: options.env() as NodeJS.ProcessEnv,
      // stderr is read in any case: its last words explain a failed start.
      stdio: ['ignore', isPiped ? 'pipe' : 'inherit', 'pipe', 'ipc'],
      // A group of its own: Ctrl-C reaches the parent only, which stops the children in order.
      detached: true,
    })
    current = child
    options.onSpawned?.()
    const lastWords: string[] = []
    let readyAt: number | undefined
    if (isPiped) splitLines(child.stdout!, line => options.onLine!(line))
    splitLines(child.stderr!, line => {
      lastWords.push(line)
      if (lastWords.length > 20) lastWords.shift()
      if (options.onLine) options.onLine(line)
      else process.stderr.write(`${line}\n`)
    })
    child.on('message', message => {
      const said = message as Record<string, unknown>
      if (said['kind'] !== 'ready') {
        options.onSaid?.(said)
        return
      }
      readyAt = performance.now()
      wasReady = true
      options.onReady(said)
      settle.resolve()
    })
    child.once('error', error => ended(error.message))
    child.once('exit', (code, signal) => ended(signal ?? code ?? 'exit'))

    let hasEnded = false
    function ended(how: string | number): void {
      if (hasEnded) return
      hasEnded = true
      current = undefined
      if (isStopping) return
      const wasSteady = readyAt !== undefined && performance.now() - readyAt > steadyMs
      failures = wasSteady ? 1 : failures + 1
      if (!wasReady && (how === exitSetting || failures >= firstTriesMax)) {
        const why = lastWords.findLast(line => line.trim() !== '') ?? `it ended with ${how}`
        settle.reject(new StartError(`The ${name} did not start: ${why}`))
        return
      }
      options.onEnded()
      // The first restart is immediate: the pause that people see is what it takes.
      const delayMax = readyAt === undefined ? backoffMsMax : readyBackoffMsMax
      const delay = options.restartMs ?? (failures <= 1 ? 0 : Math.min(delayMax, 100 * 2 ** (failures - 1)))
      log.warn(`the ${name} ended and is started again`, { code: how, ms: delay })
      restart = setTimeout(start, delay)
    }
  }

  return {
    ready,
    pid: () => current?.pid,
    async stop(graceMs) {
      isStopping = true
      clearTimeout(restart)
      const child = current
      if (!child) return
      await new Promise<void>(resolve => {
        const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
        child.once('exit', () => {
          clearTimeout(timer)
          resolve()
        })
        child.kill('SIGTERM')
      })
    },
    kill() {
      isStopping = true
      clearTimeout(restart)
      current?.kill('SIGKILL')
    },
  }
}

function splitLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!.slice(-lineCharsMax)
    for (const line of lines) onLine(line)
  })
}

/** A line without an end must not grow in our memory. */
const lineCharsMax = 65_536
