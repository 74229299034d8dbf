/**
 * The load of the bench in a process of its own, over raw frames: open loop with intended start times, closed loop with one
 * send in flight a socket, and idle sockets. Told by IPC. Refuses to know what it measures, beyond its wire.
 */
import { WsClient } from '#load/kit/ws-client.ts'
import { type Sender, type WireName, wires } from './wires.ts'

export type ToGenerator =
  | { kind: 'open'; wire: WireName; url: string; senders: Sender[]; idle?: boolean }
  /** `senders`: only the first so many send; a burst is sent in one turn. */
  | {
      kind: 'step'
      rate: number
      burst: number
      senders: number
      /** Deliveries of each send that are waited for; none when not given. */
      fanOut?: number
      warmMs: number
      runMs: number
      drainMs: number
    }
  | { kind: 'closed'; senders: number; warmMs: number; runMs: number }
  | { kind: 'end' }

export interface Measured {
  kind: 'measured'
  /** Sends in the measured time, those acked, refused. */
  due: number
  acked: number
  refused: number
  ackMs: { p50: number; p99: number; max: number }
  /** Deliveries in the measured time and its drain, and the time that took. */
  delivered: number
  ms: number
  /** Of all sends of this order, warm-up included. */
  sends: number
  /** How late the generator itself was, 99th percentile. */
  lateMs: number
}
export type FromGenerator = { kind: 'open'; sockets: number } | Measured | { kind: 'broken'; why: string }

const sockets: WsClient[] = []
let wire = wires.parley as (typeof wires)[WireName]
let senders: Sender[] = []
let sent = new Float64Array(0)
let ackedAt = new Float64Array(0)
let base = 0
let next = 0
let refused = 0
let delivered = 0
let onAck: (n: number) => void = () => {}

async function open(order: Extract<ToGenerator, { kind: 'open' }>): Promise<number> {
  wire = wires[order.wire]
  senders = order.senders
  for (let i = 0; i < senders.length; i += 20) {
    await Promise.all(
      senders.slice(i, i + 20).map(async (sender, j) => {
        const ready = Promise.withResolvers<void>()
        let client: WsClient | undefined
        client = await WsClient.open(`${order.url}${wire.path}`, {
          onText(bytes) {
            const came = wire.read(client!, bytes, sender)
            if (typeof came === 'number') {
              const n = came - base
              if (n >= 0 && n < ackedAt.length) {
                ackedAt[n] = performance.now()
                onAck(n)
              }
            } else if (came === 'delivery') delivered++
            else if (came === 'refused') {
              refused++
              ready.reject(new Error(bytes.toString()))
            } else if (came === 'ready') ready.resolve()
          },
          onClose(code) {
            ready.reject(new Error(`closed ${code}`))
            if (!isEnding) say({ kind: 'broken', why: `a socket closed ${code}` })
          },
        })
        ready.promise.catch(() => {})
        wire.hello(client, sender)
        await ready.promise
        sockets[i + j] = client
      }),
    )
  }
  return sockets.length
}

function begin(count: number): void {
  base += sent.length
  sent = new Float64Array(count)
  ackedAt = new Float64Array(count)
  next = 0
  refused = 0
  delivered = 0
}

function sendOne(who: number, dueAt: number): void {
  sent[next] = dueAt
  sockets[who]!.send(wire.send(base + next, senders[who]!))
  next++
}

async function step(order: Extract<ToGenerator, { kind: 'step' }>): Promise<Measured> {
  const total = Math.floor((order.rate * (order.warmMs + order.runMs)) / 1000)
  begin(total)
  const late: number[] = []
  const startedAt = performance.now() + 20
  const dueOf = (n: number) => startedAt + Math.floor(n / order.burst) * ((1000 * order.burst) / order.rate)
  const first = Math.floor((order.rate * order.warmMs) / 1000)
  let measuredFrom = 0
  await new Promise<void>(resolve => {
    const tick = () => {
      const now = performance.now()
      if (next < total && dueOf(next) <= now) late.push(now - dueOf(next))
      while (next < total && dueOf(next) <= now) {
        if (next === first) {
          measuredFrom = now
          delivered = 0
        }
        sendOne(next % order.senders, dueOf(next))
      }
      if (next >= total) resolve()
      else setTimeout(tick, 1)
    }
    tick()
  })
  let from = first
  // Not over with the last ack: the last deliveries may still be on their way.
  const owed = (total - first) * (order.fanOut ?? 0)
  for (const until = performance.now() + order.drainMs; performance.now() < until; ) {
    while (from < total && ackedAt[from]! > 0) from++
    if (from >= total && delivered >= owed) break
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  return summary(first, total, performance.now() - measuredFrom, late)
}

async function closed(order: Extract<ToGenerator, { kind: 'closed' }>): Promise<Measured> {
  begin(2_000_000)
  const owner = new Int32Array(sent.length)
  let isOver = false
  const go = (who: number) => {
    if (isOver || next >= sent.length) return
    owner[next] = who
    sendOne(who, performance.now())
  }
  onAck = n => go(owner[n]!)
  for (let who = 0; who < order.senders; who++) go(who)
  await new Promise(resolve => setTimeout(resolve, order.warmMs))
  const first = next
  const from = performance.now()
  delivered = 0
  await new Promise(resolve => setTimeout(resolve, order.runMs))
  const end = next
  const ms = performance.now() - from
  isOver = true
  await new Promise(resolve => setTimeout(resolve, 500))
  onAck = () => {}
  const result = summary(first, end, ms, [])
  // Ids of this order stay taken.
  sent = new Float64Array(next)
  return result
}

function summary(first: number, end: number, ms: number, late: number[]): Measured {
  const spans: number[] = []
  for (let i = first; i < end; i++) if (ackedAt[i]! > 0) spans.push(ackedAt[i]! - sent[i]!)
  spans.sort((a, b) => a - b)
  late.sort((a, b) => a - b)
  // Nobody answered: it took at least all of this time.
  const at = (list: number[], q: number) => list[Math.min(list.length - 1, Math.floor(q * list.length))] ?? ms
  return {
    kind: 'measured',
    due: end - first,
    acked: spans.length,
    refused,
    ackMs: { p50: at(spans, 0.5), p99: at(spans, 0.99), max: at(spans, 1) },
    delivered,
    ms,
    sends: next,
    lateMs: late.length > 0 ? at(late, 0.99) : 0,
  }
}

let isEnding = false
const say = (message: FromGenerator) => process.send?.(message)

process.on('message', async (order: ToGenerator) => {
  try {
    switch (order.kind) {
      case 'open':
        say({ kind: 'open', sockets: await open(order) })
        break
      case 'step':
        say(await step(order))
        break
      case 'closed':
        say(await closed(order))
        break
      case 'end':
        isEnding = true
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
