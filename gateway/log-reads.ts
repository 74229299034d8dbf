/**
 * Reads of the log for rooms and slow sockets: few at a time, so that `ready` always finds a connection, shared by all
 * sockets that stand at the same place, and gathered: after a takeover hundreds of conversations lack an event each.
 * Refuses to keep a stretch for longer than a moment.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { logReadsMax, logReadsSharedMax, logReadsSharedMs, logStretchesMax } from '#protos/limits.ts'
import { type Framed, frameText } from './framing.ts'
import type { Chunk } from './peer.ts'
import type { LogFrame, Reads, Stretch } from './reads.ts'

export interface FramedEvent extends LogFrame {
  frame: Framed
}

interface Shared {
  at: number
  events: Promise<FramedEvent[]>
}

interface Asked {
  stretch: Stretch
  done: PromiseWithResolvers<LogFrame[]>
}

export class LogReads {
  #deps: { reads: Pick<Reads, 'frames'>; clock: Pick<Clock, 'mono'> }
  #shared = new Map<string, Shared>()
  #running = 0
  #waiting: (() => void)[] = []
  #asked: Asked[] = []
  #isGathering = false

  constructor(deps: { reads: Pick<Reads, 'frames'>; clock: Pick<Clock, 'mono'> }) {
    this.#deps = deps
  }

  /** Events after `after` up to `to`, as many as the chunk allows; at least one if there is one. */
  async events(conversation: string, after: number, to: number, chunk: Chunk): Promise<FramedEvent[]> {
    const key = `${conversation} ${after} ${chunk.events}`
    const known = this.#shared.get(key)
    if (known && this.#deps.clock.mono() - known.at < logReadsSharedMs) {
      const events = upTo(await known.events, to)
      // It may be from before the event that is wanted was committed.
      if (events.length > 0) return events
    }
    const shared = { at: this.#deps.clock.mono(), events: this.#read(conversation, after, chunk) }
    this.#shared.delete(key)
    this.#shared.set(key, shared)
    if (this.#shared.size > logReadsSharedMax) this.#shared.delete(this.#shared.keys().next().value!)
    shared.events.catch(() => this.#shared.delete(key))
    return upTo(await shared.events, to)
  }

  /** Forgets what nobody will ask for again. */
  tick(): void {
    const now = this.#deps.clock.mono()
    for (const [key, { at }] of this.#shared) if (now - at >= logReadsSharedMs) this.#shared.delete(key)
  }

  /** Any read that may wait for a connection takes its turn here. */
  async turn<T>(read: () => Promise<T>): Promise<T> {
    if (this.#running >= logReadsMax) await new Promise<void>(resolve => this.#waiting.push(resolve))
    this.#running++
    try {
      return await read()
    } finally {
      this.#running--
      this.#waiting.shift()?.()
    }
  }

  async #read(conversation: string, after: number, { events, bytes }: Chunk): Promise<FramedEvent[]> {
    const done = Promise.withResolvers<LogFrame[]>()
    this.#asked.push({ stretch: { conversation, after, events, bytes }, done })
    if (!this.#isGathering) {
      this.#isGathering = true
      setImmediate(() => this.#gather())
    }
    const frames = await done.promise
    return frames.map(frame => ({ ...frame, frame: frameText(frame.json) }))
  }

  /** Turns for all that is asked; what is asked while they wait for theirs is taken along. */
  #gather(): void {
    this.#isGathering = false
    for (let asked = this.#asked.length; asked > 0; asked -= logStretchesMax) void this.turn(() => this.#readSome())
  }

  async #readSome(): Promise<void> {
    const some = this.#asked.splice(0, logStretchesMax)
    if (some.length === 0) return
    try {
      const found = await this.#deps.reads.frames(some.map(({ stretch }) => stretch))
      for (const [i, { done }] of some.entries()) done.resolve(found[i]!)
    } catch (error) {
      for (const { done } of some) done.reject(error)
    }
  }
}

function upTo(events: FramedEvent[], to: number): FramedEvent[] {
  return (events.at(-1)?.seq ?? 0) <= to ? events : events.filter(event => event.seq <= to)
}
