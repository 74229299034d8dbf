/**
 * The generator of W1 in a process of its own: opens the sockets, then sends at a rate that nothing slows down (open loop)
 * and measures each ack from the moment its send was due. Told by IPC; refuses to know what it is measuring.
 */
import { WsClient } from '#load/kit/ws-client.ts'

export type ToGenerator =
  | { kind: 'open'; wsUrl: string; senders: { token: string; conversation: string }[] }
  | { kind: 'step'; rate: number; warmMs: number; runMs: number; drainMs: number }
  | { kind: 'end' }

export interface StepResult {
  kind: 'step'
  rate: number
  /** Sends due in the measured time, and what became of them. */
  due: number
  acked: number
  refused: number
  lost: number
  ackMs: { p50: number; p90: number; p99: number; max: number }
  /** Deliveries of message.new, the sender's own included, in the measured time and its drain. */
  delivered: number
  /** How late the generator itself was, 99th percentile: above a few ms it is what limits. */
  lateMs: number
}
export type FromGenerator = { kind: 'open'; sockets: number } | StepResult | { kind: 'broken'; why: string }

const ackHead = Buffer.from('{"type":"ack"')
const newHead = Buffer.from('{"type":"message.new"')
const idKey = Buffer.from('"clientMessageId":"')
const sockets: WsClient[] = []
let senders: { token: string; conversation: string }[] = []
let due = new Float64Array(0)
let acked = new Float64Array(0)
let sentCount = 0
let refused = 0
let delivered = 0

/** Version 7 with the running number in its last 48 bits, so that an ack needs no map. */
const idOf = (n: number) => {
  const time = Date.now().toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${n.toString(16).padStart(12, '0')}`
}
let base = 0

function onText(bytes: Buffer): void {
  if (bytes.subarray(0, newHead.length).equals(newHead)) {
    delivered++
    return
  }
  if (!bytes.subarray(0, ackHead.length).equals(ackHead)) {
    const frame = JSON.parse(bytes.toString()) as { type: string; code?: string }
    if (frame.type === 'ack') mark(bytes)
    else if (frame.type === 'message.new') delivered++
    else if (frame.type === 'error') refused++
    return
  }
  mark(bytes)
}

function mark(bytes: Buffer): void {
  const at = bytes.indexOf(idKey)
  if (at < 0) return
  const start = at + idKey.length + 24
  const n = Number.parseInt(bytes.toString('latin1', start, start + 12), 16) - base
  if (n >= 0 && n < acked.length) acked[n] = performance.now()
}

async function open(wsUrl: string): Promise<number> {
  for (let i = 0; i < senders.length; i += 20) {
    await Promise.all(
      senders.slice(i, i + 20).map(async ({ token }, j) => {
        const ready = Promise.withResolvers<void>()
        let isReady = false
        const client = await WsClient.open(`${wsUrl}/ws`, {
          onText(bytes) {
            if (isReady) return onText(bytes)
            const frame = JSON.parse(bytes.toString()) as { type: string }
            if (frame.type === 'error') ready.reject(new Error(bytes.toString()))
            if (frame.type === 'ready') {
              isReady = true
              ready.resolve()
            }
          },
          onClose(code) {
            ready.reject(new Error(`closed ${code}`))
            if (isReady) process.send?.({ kind: 'broken', why: `a socket closed ${code}` } satisfies FromGenerator)
          },
        })
        client.send(JSON.stringify({ type: 'auth', token }))
        await ready.promise
        sockets[i + j] = client
      }),
    )
  }
  return sockets.length
}

async function step(order: Extract<ToGenerator, { kind: 'step' }>): Promise<StepResult> {
  const total = Math.floor((order.rate * (order.warmMs + order.runMs)) / 1000)
  base += due.length
  due = new Float64Array(total)
  acked = new Float64Array(total)
  refused = 0
  delivered = 0
  sentCount = 0
  const late: number[] = []
  const gapMs = 1000 / order.rate
  const startedAt = performance.now() + 20
  for (let i = 0; i < total; i++) due[i] = startedAt + i * gapMs
  await new Promise<void>(resolve => {
    const tick = () => {
      const now = performance.now()
      if (sentCount < total && due[sentCount]! <= now) late.push(now - due[sentCount]!)
      while (sentCount < total && due[sentCount]! <= now) {
        const who = sentCount % senders.length
        const n = base + sentCount
        sockets[who]!.send(
          `{"type":"message.send","conversationId":"${senders[who]!.conversation}","clientMessageId":"${idOf(n)}","content":"message number ${n}: the quick brown fox jumps over the lazy dog"}`,
        )
        sentCount++
      }
      if (sentCount >= total) resolve()
      else setTimeout(tick, 1)
    }
    tick()
  })
  const first = Math.floor((order.rate * order.warmMs) / 1000)
  const isDone = () => {
    for (let i = first; i < total; i++) if (acked[i] === 0) return false
    return true
  }
  for (const until = performance.now() + order.drainMs; performance.now() < until && !isDone(); )
    await new Promise(resolve => setTimeout(resolve, 20))
  const spans: number[] = []
  for (let i = first; i < total; i++) if (acked[i]! > 0) spans.push(acked[i]! - due[i]!)
  spans.sort((a, b) => a - b)
  late.sort((a, b) => a - b)
  const at = (list: number[], q: number) => list[Math.min(list.length - 1, Math.floor(q * list.length))] ?? Number.NaN
  const failed = Math.min(refused, total - first - spans.length)
  return {
    kind: 'step',
    rate: order.rate,
    due: total - first,
    acked: spans.length,
    refused,
    lost: total - first - spans.length - failed,
    ackMs: { p50: at(spans, 0.5), p90: at(spans, 0.9), p99: at(spans, 0.99), max: at(spans, 1) },
    delivered,
    lateMs: at(late, 0.99),
  }
}

process.on('message', async (order: ToGenerator) => {
  const say = (message: FromGenerator) => process.send?.(message)
  try {
    switch (order.kind) {
      case 'open':
        senders = order.senders
        say({ kind: 'open', sockets: await open(order.wsUrl) })
        break
      case 'step':
        say(await step(order))
        break
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
