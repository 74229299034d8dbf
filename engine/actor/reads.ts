/**
 * Reads of the actors, gathered: what is asked within one turn of the event loop becomes one statement per kind. A read
 * that fails is tried again with a growing pause until it succeeds: a caller waits, it never hears of a failure.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Activation, Directory, StoredSend } from './ports.ts'
import type { Timers } from './timers.ts'

const batchMax = 1000
const pauseMsMin = 50
const pauseMsMax = 1000

export interface Reads {
  /** Undefined: the conversation does not exist. */
  activation(id: string): Promise<Activation | undefined>
  head(id: string): Promise<{ head: number; firstSeq: number; epoch: number } | undefined>
  stored(key: { conversation: string; senderId: string; clientId: string }): Promise<StoredSend | undefined>
  message(key: { conversation: string; messageId: string }): Promise<StoredSend | undefined>
  /** Whose turn a call of a tool was in. */
  requester(key: { conversation: string; callId: string }): Promise<string | undefined>
  blocksBetween(a: string, b: string): Promise<string[]>
  /** Whether this event is a message that is not deleted. */
  isMessage(key: { conversation: string; seq: number }): Promise<boolean>
  /** No read is tried again after this; those under way never answer. */
  close(): void
}

interface Deps {
  directory: Directory
  timers: Timers
  clock: Clock
  log: Log
}

export function openReads(deps: Deps): Reads {
  const { directory } = deps
  const life = { isClosed: false }
  const activations = new Gathered<string, Activation>(
    deps,
    life,
    id => id,
    ids => directory.activate(ids),
  )
  const heads = new Gathered<string, { head: number; firstSeq: number; epoch: number }>(
    deps,
    life,
    id => id,
    ids => directory.heads(ids),
  )
  const stored = new Gathered<{ conversation: string; senderId: string; clientId: string }, StoredSend>(
    deps,
    life,
    k => k.conversation + k.senderId + k.clientId,
    async keys => new Map((await directory.lookup(keys)).map(s => [s.conversation + s.senderId + s.clientId, s])),
  )
  const messages = new Gathered<{ conversation: string; messageId: string }, StoredSend>(
    deps,
    life,
    k => k.conversation + k.messageId,
    async keys => new Map((await directory.messages(keys)).map(s => [s.conversation + s.messageId, s])),
  )
  const requesters = new Gathered<{ conversation: string; callId: string }, string>(
    deps,
    life,
    k => k.conversation + k.callId,
    async keys => new Map((await directory.requesters(keys)).map(r => [r.conversation + r.callId, r.requester])),
  )
  const blocks = new Gathered<string, string[]>(
    deps,
    life,
    key => key,
    async pairs => {
      const out = new Map<string, string[]>()
      for (const pair of pairs) out.set(pair, await directory.blocksBetween(pair.slice(0, 36), pair.slice(36)))
      return out
    },
  )
  const replied = new Gathered<{ conversation: string; seq: number }, boolean>(
    deps,
    life,
    k => k.conversation + k.seq,
    async keys => {
      const out = new Map<string, boolean>()
      for (const key of keys) out.set(key.conversation + key.seq, await isMessage(directory, key))
      return out
    },
  )
  return {
    activation: id => activations.ask(id),
    head: id => heads.ask(id),
    stored: key => stored.ask(key),
    message: key => messages.ask(key),
    requester: key => requesters.ask(key),
    blocksBetween: async (a, b) => (await blocks.ask(a + b)) ?? [],
    isMessage: async key => (await replied.ask(key)) ?? false,
    close() {
      life.isClosed = true
    },
  }
}

async function isMessage(directory: Directory, key: { conversation: string; seq: number }): Promise<boolean> {
  const { frames } = await directory.events(key.conversation, key.seq - 1, { events: 1, bytes: 1 })
  const frame = frames[0]?.seq === key.seq ? JSON.parse(frames[0].json) : undefined
  return frame?.type === 'message.new' && frame.deleted !== true
}

class Gathered<K, V> {
  #waiting: { key: K; done: (value: V | undefined) => void }[] = []
  #isBusy = false
  readonly #deps: Deps
  readonly #life: { isClosed: boolean }
  readonly #name: (key: K) => string
  readonly #read: (keys: K[]) => Promise<Map<string, V>>

  constructor(
    deps: Deps,
    life: { isClosed: boolean },
    name: (key: K) => string,
    read: (keys: K[]) => Promise<Map<string, V>>,
  ) {
    this.#deps = deps
    this.#life = life
    this.#name = name
    this.#read = read
  }

  ask(key: K): Promise<V | undefined> {
    return new Promise(done => {
      this.#waiting.push({ key, done })
      if (!this.#isBusy) this.#start()
    })
  }

  #start(): void {
    this.#isBusy = true
    setImmediate(() => void this.#drain())
  }

  async #drain(): Promise<void> {
    let pause = pauseMsMin
    while (this.#waiting.length > 0 && !this.#life.isClosed) {
      const batch = this.#waiting.splice(0, batchMax)
      try {
        const keys = new Map(batch.map(b => [this.#name(b.key), b.key]))
        const found = await this.#read([...keys.values()])
        for (const { key, done } of batch) done(found.get(this.#name(key)))
        pause = pauseMsMin
      } catch (error) {
        this.#waiting = [...batch, ...this.#waiting]
        this.#deps.log.warn('a read of the actors failed and is tried again', { count: batch.length, err: error })
        const ms = pause * (0.5 + this.#deps.clock.random())
        await new Promise<void>(go => void this.#deps.timers.after(ms, go))
        pause = Math.min(pauseMsMax, pause * 2)
      }
    }
    this.#isBusy = false
  }
}
