/**
 * The world's time: one queue of events in virtual order, and the processes that they belong to. A process can be paused
 * (its events wait, as behind SIGSTOP) or killed (they never run). Everything that runs is started from here.
 * Refuses to know what any event does.
 */
import { Random } from './random.ts'

interface Event {
  at: number
  order: number
  proc: Proc
  run: (() => void) | undefined
}

/** One process or worker thread of the simulated machines. */
export class Proc {
  readonly name: string
  /** The machine that it runs on: what the network can cut off. */
  readonly host: string
  isDead = false
  isPaused = false
  /** Wall clock minus true time, ms. */
  skewMs = 0
  /** What became due while it stood still, in order. */
  parked: Event[] = []
  /** Called when it dies: its sockets close as a kernel would close them. */
  readonly onDeath: (() => void)[] = []

  constructor(name: string, host = name) {
    this.name = name
    this.host = host
  }
}

/** Wall time at which every run begins. */
const startedAt = Date.UTC(2026, 0, 1)
const traceLinesMax = 4000
/** Times are whole parts of this, so that sums of them are exact and a due time is never missed by a rounding. */
const grain = 1024
/** Far more than any run needs: a loop without end is a finding. */
const turnsMax = 400_000

export class Kernel {
  now = 0
  /** Messages that arrived, statements that ran, acts and faults. */
  events = 0
  /** Everything that ran, timers and turns of event loops included. */
  turns = 0
  readonly random: Random
  /** The process whose event runs now. */
  current: Proc
  /** The world itself: network, database, faults. Never paused. */
  readonly world = new Proc('world')
  readonly trace: string[] = []
  /** Broken promises that were seen while it ran. */
  readonly problems: string[] = []
  #heap: Event[] = []
  #order = 0
  #ids = 0

  constructor(seed: number) {
    this.random = new Random(seed)
    this.current = this.world
  }

  /** Runs once, `ms` from now, as `proc`. The answer cancels it. */
  at(proc: Proc, ms: number, run: () => void): () => void {
    const at = Math.ceil((this.now + Math.max(0, ms)) * grain) / grain
    const event: Event = { at, order: this.#order++, proc, run }
    this.#push(event)
    return () => {
      event.run = undefined
    }
  }

  /** Runs the next event that is due before `until`; false when there is none. */
  step(until: number): boolean {
    for (;;) {
      const event = this.#heap[0]
      if (!event || event.at > until) return false
      this.#pop()
      const { proc, run } = event
      if (!run || proc.isDead) continue
      if (proc.isPaused) {
        proc.parked.push(event)
        continue
      }
      if (event.at > this.now) this.now = event.at
      if (++this.turns === turnsMax) this.broken(`${proc.name} runs without end`)
      this.current = proc
      run()
      return true
    }
  }

  pause(proc: Proc): void {
    proc.isPaused = true
  }

  resume(proc: Proc): void {
    proc.isPaused = false
    const parked = proc.parked
    proc.parked = []
    for (const event of parked) {
      event.at = this.now
      event.order = this.#order++
      this.#push(event)
    }
  }

  kill(proc: Proc): void {
    if (proc.isDead) return
    proc.isDead = true
    proc.parked = []
    for (const close of proc.onDeath.splice(0)) close()
  }

  /** A version 7 id of the current process's wall clock. */
  id(): string {
    const ms = Math.round(startedAt + this.now + this.current.skewMs)
      .toString(16)
      .padStart(12, '0')
    const count = (this.#ids++ & 0xfff).toString(16).padStart(3, '0')
    return `${ms.slice(0, 8)}-${ms.slice(8)}-7${count}-8${this.random.hex(3)}-${this.random.hex(12)}`
  }

  wall(): number {
    return Math.round(startedAt + this.now + this.current.skewMs)
  }

  note(text: string): void {
    this.trace.push(`${this.now.toFixed(2).padStart(10)} ${text}`)
    if (this.trace.length > traceLinesMax * 2) this.trace.splice(0, traceLinesMax)
  }

  broken(text: string): void {
    this.problems.push(text)
    this.note(`!! ${text}`)
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!isBefore(event, heap[up]!)) break
      heap[at] = heap[up]!
      at = up
    }
    heap[at] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let down = 2 * at + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && isBefore(heap[down + 1]!, heap[down]!)) down++
      if (!isBefore(heap[down]!, last)) break
      heap[at] = heap[down]!
      at = down
    }
    heap[at] = last
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
