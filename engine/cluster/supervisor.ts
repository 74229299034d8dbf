/**
 * Owns the worker threads: one piscina pool, one endless task per thread, a MessagePort and a shared counter each. A thread
 * that throws, exits, outgrows its heap or stops counting is replaced under the same index. Refuses to know what the
 * messages mean and who owns which shard.
 */
import { MessageChannel, type MessagePort, type Transferable } from 'node:worker_threads'
import { Piscina } from 'piscina'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { workerBeatMs, workerQuickDeathsMax, workerStallMs, workerStartMsMax } from '#protos/limits.ts'

export type EndCause = 'throw' | 'exit' | 'heap' | 'stall'

export interface SupervisorOptions<From> {
  /** Threads, indexed 0 … count − 1. */
  count: number
  /** URL of the module whose default export is the endless task. */
  module: string
  heapMb: number
  /** What the task is started with, beside `port`, `beat` and `worker`. Structured-cloned. */
  data: Record<string, unknown>
  clock: Clock
  log: Log
  metrics: Metrics
  onMessage(worker: number, message: From): void
  /** The thread ended unasked; the next one is on its way. */
  onEnded(worker: number, cause: EndCause): void
  /** Threads of this index end as soon as they start: the process should be started afresh. */
  onHopeless(worker: number): void
  /** Defaults to workerStallMs; tests shorten it. */
  stallMs?: number
}

export interface Supervisor<To> {
  /** False when no thread of this index runs. */
  post(worker: number, message: To, transfer?: readonly Transferable[]): boolean
  threads(): { index: number; startedAt: number; hasStarted: boolean }[]
  /** Ends all threads: waits `graceMs` for tasks that were told to stop, then terminates. */
  stop(graceMs: number): Promise<void>
}

interface Thread {
  port: MessagePort
  beat: Int32Array
  lastBeat: number
  /** It counted or said something: its modules are loaded. */
  hasStarted: boolean
  /** Monotonic ms of the last change of the counter, or of the start. */
  since: number
  /** Wall clock, ms. */
  startedAt: number
  startedMono: number
  abort: AbortController
  ended: Promise<void>
}

/** A thread that lived less than this died at its start. */
const quickDeathMs = 5000
const ownGapMsMax = 1000

export function superviseThreads<To, From>(options: SupervisorOptions<From>): Supervisor<To> {
  const { count, clock, log, metrics } = options
  const stallMs = options.stallMs ?? workerStallMs
  const pool = new Piscina({
    filename: new URL('./thread.ts', import.meta.url).href,
    // One more than there are tasks: its modules are loaded already when a thread must be replaced.
    minThreads: count + 1,
    maxThreads: count + 1,
    argv: [options.module],
    concurrentTasksPerWorker: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    // The default blocks a thread's event loop between tasks, timers and sockets with it.
    atomics: 'disabled',
    resourceLimits: { maxOldGenerationSizeMb: options.heapMb },
  })
  pool.on('error', error => log.error('a thread failed outside its task', { err: error }))
  const threads: (Thread | undefined)[] = []
  const quickDeaths = Array.from({ length: count }, () => 0)
  const restarts = new Set<NodeJS.Timeout>()
  let isStopping = false
  for (let i = 0; i < count; i++) start(i)

  let lastTick = clock.mono()
  const watch = setInterval(() => {
    const at = clock.mono()
    // A pause of this thread looks like a stall of all others.
    const wasPaused = at - lastTick > ownGapMsMax
    lastTick = at
    threads.forEach((thread, worker) => {
      if (!thread) return
      const beat = Atomics.load(thread.beat, 0)
      if (wasPaused || beat !== thread.lastBeat) {
        thread.hasStarted ||= beat > 0
        thread.lastBeat = beat
        thread.since = at
      } else if (at - thread.since > (thread.hasStarted ? stallMs : workerStartMsMax)) {
        log.error('a thread stands still', { worker, ms: Math.round(at - thread.since) })
        thread.since = at
        thread.abort.abort()
      }
    })
  }, workerBeatMs)

  function start(worker: number): void {
    const { port1, port2 } = new MessageChannel()
    const shared = new SharedArrayBuffer(4)
    const abort = new AbortController()
    port1.on('message', message => {
      thread.hasStarted = true
      options.onMessage(worker, message as From)
    })
    const task = pool.run(
      { ...options.data, module: options.module, worker, port: port2, beat: shared },
      { transferList: [port2], signal: abort.signal },
    )
    const at = clock.mono()
    const thread: Thread = {
      port: port1,
      beat: new Int32Array(shared),
      lastBeat: 0,
      hasStarted: false,
      since: at,
      startedAt: clock.now(),
      startedMono: at,
      abort,
      ended: task.then(
        () => ended(worker, undefined),
        error => ended(worker, error),
      ),
    }
    threads[worker] = thread
  }

  function ended(worker: number, error: unknown): void {
    const thread = threads[worker]!
    thread.port.close()
    threads[worker] = undefined
    if (isStopping) return
    const cause = causeOf(error)
    metrics.parley_worker_restarts_total.inc({ cause })
    log.error('a thread ended and is replaced', { worker, code: cause, err: error })
    quickDeaths[worker] = clock.mono() - thread.startedMono < quickDeathMs ? quickDeaths[worker]! + 1 : 0
    options.onEnded(worker, cause)
    if (quickDeaths[worker]! >= workerQuickDeathsMax) {
      options.onHopeless(worker)
      return
    }
    // The first replacement is immediate: a pause of half a second is the promise.
    const delay = quickDeaths[worker]! <= 1 ? 0 : Math.min(2000, 100 * 2 ** quickDeaths[worker]!)
    const timer = setTimeout(() => {
      restarts.delete(timer)
      if (!isStopping) start(worker)
    }, delay)
    restarts.add(timer)
  }

  return {
    post(worker, message, transfer) {
      const thread = threads[worker]
      thread?.port.postMessage(message, transfer)
      return thread !== undefined
    },
    threads: () =>
      threads.flatMap((t, index) => (t ? [{ index, startedAt: t.startedAt, hasStarted: t.hasStarted }] : [])),
    async stop(graceMs) {
      isStopping = true
      clearInterval(watch)
      for (const timer of restarts) clearTimeout(timer)
      const running = threads.filter(t => t !== undefined)
      const timer = setTimeout(() => {
        for (const thread of running) thread.abort.abort()
      }, graceMs)
      await Promise.all(running.map(t => t.ended))
      clearTimeout(timer)
      await pool.destroy()
    },
  }
}

function causeOf(error: unknown): EndCause {
  const { name, code, message } = (error ?? {}) as { name?: string; code?: string; message?: string }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return 'heap'
  if (name === 'AbortError') return 'stall'
  if (error === undefined || /exited with code|exit/.test(message ?? '')) return 'exit'
  return 'throw'
}
