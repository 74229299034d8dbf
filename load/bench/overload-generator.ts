/**
 * More sends than anybody can take, in a process of its own: open loop, and a socket whose send was refused is silent for as long as
 * it was told, then sends what was refused again, in order, before anything new. Told by IPC; refuses to judge.
 */
import { WsClient } from '#load/kit/ws-client.ts'
import { type Sender, wires } from './wires.ts'

export type ToOverload =
  | { kind: 'open'; url: string; senders: Sender[] }
  /** Runs and answers; what is still refused at the end comes again until it is acked, `drainMs` at most. */
  | { kind: 'flood'; rate: number; runMs: number; drainMs: number }
  | { kind: 'end' }

/** Null: nothing was measured. */
interface Spans {
  p50: number | null
  p90: number | null
  p99: number | null
  max: number | null
}

export interface Flooded {
  kind: 'flooded'
  /** Attempts in all; each is acked, refused or unanswered. */
  attempts: number
  acked: number
  refused: number
  unanswered: number
  /** From the moment that an attempt was due. */
  ackMs: Spans
  refusedMs: Spans
  /** The same from the moment that it was written to the socket. */
  refusedFromWriteMs: Spans
  /** Of the refusals, those that were answered within 10 ms of the write. */
  quickShare: number
  codes: Record<string, number>
  /** Refusals that do not say when to come again. */
  withoutRetry: number
  /** Attempts that were a refused send coming again. */
  again: number
  /** Sends that were due and not begun, because their socket had been told to wait. */
  waited: number
  /** Acks in each second. */
  perSecond: number[]
  lateMs: Spans
  /** Sends refused once that were still not acked after the drain. */
  owed: number
}
export type FromOverload = { kind: 'open'; sockets: number } | Flooded | { kind: 'broken'; why: string }

const quickMs = 10
const wire = wires.parley
const clients: WsClient[] = []
let senders: Sender[] = []

/** What a socket has to send again, oldest first, and from when on. */
interface Outbox {
  refused: number[]
  at: number
}

class Flood {
  readonly #dueAt: Float64Array
  readonly #writtenAt: Float64Array
  readonly #owner: Int32Array
  readonly #outboxes = senders.map((): Outbox => ({ refused: [], at: 0 }))
  readonly #acks: number[] = []
  readonly #refusals: number[] = []
  readonly #refusalsFromWrite: number[] = []
  readonly #late: number[] = []
  readonly #perSecond: number[]
  readonly #codes: Record<string, number> = {}
  #startedAt = 0
  #next = 0
  #attempts = 0
  #acked = 0
  #refused = 0
  #withoutRetry = 0
  #again = 0
  #waited = 0
  readonly #base: number

  constructor(base: number, total: number, seconds: number) {
    this.#base = base
    this.#dueAt = new Float64Array(total)
    this.#writtenAt = new Float64Array(total)
    this.#owner = new Int32Array(total)
    this.#perSecond = Array.from({ length: seconds }, () => 0)
  }

  /** How many ids it used. */
  get used(): number {
    return this.#next
  }

  acked(id: number): void {
    const n = id - this.#base
    if (!(n >= 0 && n < this.#next)) return
    const now = performance.now()
    this.#acked++
    this.#acks.push(now - this.#dueAt[n]!)
    const second = Math.floor((now - this.#startedAt) / 1000)
    if (second < this.#perSecond.length) this.#perSecond[second]!++
  }

  refused(bytes: Buffer): void {
    const now = performance.now()
    const { code, requestId, retryAfterMs } = JSON.parse(bytes.toString()) as Record<string, unknown>
    const n = Number(requestId) - this.#base
    if (!(n >= 0 && n < this.#next)) return
    this.#refused++
    this.#codes[String(code)] = (this.#codes[String(code)] ?? 0) + 1
    if (typeof retryAfterMs !== 'number') this.#withoutRetry++
    this.#refusals.push(now - this.#dueAt[n]!)
    this.#refusalsFromWrite.push(now - this.#writtenAt[n]!)
    const outbox = this.#outboxes[this.#owner[n]!]!
    outbox.at = Math.max(outbox.at, now + (typeof retryAfterMs === 'number' ? retryAfterMs : 500))
    let place = outbox.refused.length
    while (place > 0 && outbox.refused[place - 1]! > n) place--
    outbox.refused.splice(place, 0, n)
  }

  async run(rate: number, runMs: number, drainMs: number): Promise<Flooded> {
    const total = Math.floor((rate * runMs) / 1000)
    this.#startedAt = performance.now() + 20
    let slot = 0
    await new Promise<void>(resolve => {
      const tick = () => {
        const now = performance.now()
        const dueOf = (i: number) => this.#startedAt + (i * 1000) / rate
        if (slot < total && dueOf(slot) <= now) this.#late.push(now - dueOf(slot))
        while (slot < total && dueOf(slot) <= now) this.#turn(slot++ % senders.length, now, dueOf(slot - 1))
        if (slot >= total) resolve()
        else setTimeout(tick, 1)
      }
      tick()
    })
    await this.#drain(drainMs)
    return {
      kind: 'flooded',
      attempts: this.#attempts,
      acked: this.#acked,
      refused: this.#refused,
      unanswered: this.#attempts - this.#acked - this.#refused,
      ackMs: spansOf(this.#acks),
      refusedMs: spansOf(this.#refusals),
      refusedFromWriteMs: spansOf(this.#refusalsFromWrite),
      quickShare: this.#refusalsFromWrite.filter(ms => ms <= quickMs).length / Math.max(1, this.#refused),
      codes: this.#codes,
      withoutRetry: this.#withoutRetry,
      again: this.#again,
      perSecond: this.#perSecond,
      lateMs: spansOf(this.#late),
      waited: this.#waited,
      owed: this.#owed(),
    }
  }

  #owed(): number {
    return this.#outboxes.reduce((count, { refused }) => count + refused.length, 0)
  }

  /** A socket's turn: what was refused first, something new if there is none, nothing while it has to wait. */
  #turn(who: number, now: number, due: number): void {
    const { at, refused } = this.#outboxes[who]!
    if (at > now) this.#waited++
    else this.#send(who, refused.shift(), now, due)
  }

  #send(who: number, refused: number | undefined, now: number, due: number): void {
    if (refused !== undefined) this.#again++
    const n = refused ?? this.#next++
    this.#attempts++
    this.#dueAt[n] = due
    this.#writtenAt[n] = now
    this.#owner[n] = who
    const id = this.#base + n
    clients[who]!.send(`{"requestId":"${id}",${wire.send(id, senders[who]!).slice(1)}`)
  }

  async #drain(drainMs: number): Promise<void> {
    for (const until = performance.now() + drainMs; performance.now() < until; ) {
      const now = performance.now()
      for (const [who, { at, refused }] of this.#outboxes.entries())
        if (refused.length > 0 && at <= now) this.#send(who, refused.shift(), now, now)
      if (this.#attempts === this.#acked + this.#refused && this.#owed() === 0) return
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

function spansOf(list: number[]): Spans {
  const sorted = Float64Array.from(list).sort()
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? null
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}

let flood = new Flood(0, 0, 0)

async function open(url: string): Promise<number> {
  const sit = async (sender: Sender, who: number) => {
    const ready = Promise.withResolvers<void>()
    let isReady = false
    const client = await WsClient.open(`${url}${wire.path}`, {
      onText(bytes) {
        const came = wire.read(clients[who]!, bytes, sender)
        if (typeof came === 'number') flood.acked(came)
        else if (came === 'refused' && isReady) flood.refused(bytes)
        else if (came === 'refused') ready.reject(new Error(bytes.toString()))
        else if (came === 'ready') {
          isReady = true
          ready.resolve()
        }
      },
      onClose(code) {
        ready.reject(new Error(`closed ${code}`))
        say({ kind: 'broken', why: `a socket closed ${code}` })
      },
    })
    clients[who] = client
    wire.hello(client, sender)
    await ready.promise
  }
  for (let i = 0; i < senders.length; i += 20)
    await Promise.all(senders.slice(i, i + 20).map((sender, j) => sit(sender, i + j)))
  return clients.length
}

let used = 0
const say = (message: FromOverload) => process.send?.(message)

process.on('message', async (order: ToOverload) => {
  try {
    switch (order.kind) {
      case 'open':
        senders = order.senders
        say({ kind: 'open', sockets: await open(order.url) })
        break
      case 'flood': {
        const { rate, runMs, drainMs } = order
        flood = new Flood(used, Math.ceil((rate * runMs) / 1000) + 1, Math.ceil(runMs / 1000))
        const result = await flood.run(rate, runMs, drainMs)
        used += flood.used
        say(result)
        break
      }
      case 'end':
        process.exit(0)
        break
      default:
        order satisfies never
    }
  } catch (error) {
    say({ kind: 'broken', why: String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
