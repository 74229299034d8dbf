/**
 * Puts the timers, clocks and chance of Node under the run's clock while a run lasts, so that the shells of production run
 * unchanged. Outside a run everything is Node's own again. Refuses to run two worlds at once.
 */
import type { Kernel, Proc } from './kernel.ts'

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  now: performance.now.bind(performance),
  hrtime: process.hrtime.bigint,
  random: Math.random,
}

let running: Kernel | undefined

/** The world that runs now. */
export function kernel(): Kernel {
  if (!running) throw new Error('no simulation runs')
  return running
}

/** What setTimeout, setInterval and setImmediate answer. */
class Timer {
  #kernel: Kernel
  #proc: Proc
  #ms: number
  #every: boolean
  #run: () => void
  #cancel: (() => void) | undefined

  constructor(k: Kernel, ms: number, every: boolean, run: () => void) {
    this.#kernel = k
    this.#proc = k.current
    this.#ms = ms
    this.#every = every
    this.#run = run
    this.#arm()
  }

  #arm(): void {
    this.#cancel = this.#kernel.at(this.#proc, this.#ms, () => {
      this.#cancel = undefined
      if (this.#every) this.#arm()
      this.#run()
    })
  }

  clear(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#every = false
  }

  refresh(): this {
    this.#cancel?.()
    this.#arm()
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return true
  }
}

/** A turn of the event loop costs a little, so that no loop of immediates stands still in time. */
const turnMs = 0.01

type Run = (...args: unknown[]) => void
const timer =
  (every: boolean) =>
  (run: Run, ms = 1, ...args: unknown[]) =>
    new Timer(running!, Math.max(1, Math.trunc(ms) || 1), every, () => run(...args))
const clear = (t: unknown) => {
  if (t instanceof Timer) t.clear()
  else if (t !== undefined && t !== null) real.clearTimeout(t as never)
}

/** Runs the world until its clock stands at `until`, or until `stop` says so. Each event gets a turn of the real loop. */
export function run(k: Kernel, until: number, stop: () => boolean): Promise<void> {
  if (running && running !== k) throw new Error('another simulation runs')
  running = k
  Object.assign(globalThis, {
    setTimeout: timer(false),
    setInterval: timer(true),
    setImmediate: (then: Run, ...args: unknown[]) => new Timer(k, turnMs, false, () => then(...args)),
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: clear,
  })
  performance.now = () => k.now
  process.hrtime.bigint = () => BigInt(Math.round(k.now * 1e6))
  Math.random = () => k.random.next()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const step = () => {
    try {
      // All promises that the last event settled have run by now.
      if (stop() || !k.step(until)) {
        k.now = Math.max(k.now, stop() ? k.now : until)
        restore()
        resolve()
      } else real.setImmediate(step)
    } catch (error) {
      restore()
      reject(error as Error)
    }
  }
  real.setImmediate(step)
  return promise
}

function restore(): void {
  const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate } = real
  Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate })
  performance.now = real.now
  process.hrtime.bigint = real.hrtime
  Math.random = real.random
  running = undefined
}
