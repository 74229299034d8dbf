/**
 * Thousands of people at one gateway, in a process of their own: they write to each other, read, type, ask the assistant, and some
 * lose their connection all the time. Told by IPC; what each has seen is put to the heads of the log at the end.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Place, Seat, Tally } from './soak-seat.ts'

export type ToSoak =
  | { kind: 'open'; url: string; places: Place[] }
  | { kind: 'begin'; rates: SoakRates }
  | { kind: 'look' }
  /** Stops sending, waits until nothing is owed, and answers. */
  | { kind: 'stop' }
  | { kind: 'audit'; heads: Record<string, number> }

/** Of each a second: sends to small conversations and to large ones, typing, turns of the assistant, lost connections. */
export interface SoakRates {
  small: number
  large: number
  typing: number
  turns: number
  cuts: number
  /** Of the messages that come, this share is read. */
  readShare: number
}

export interface Look {
  kind: 'look'
  sockets: number
  tally: Omit<Tally, 'ackMs'>
  ackMs: { p50: number; p99: number; max: number }
}
export type FromSoak =
  | { kind: 'open'; sockets: number }
  | { kind: 'begin' }
  | Look
  | { kind: 'stop'; owed: number }
  | { kind: 'audit'; behind: number; checked: number; example: string }
  | { kind: 'broken'; why: string }

const tickMs = 10
const openAtOnce = 50
const tally = new Tally()
let seats: Seat[] = []
let timer: NodeJS.Timeout | undefined
/** Those who are on their way back. */
const turning = new Set<Promise<void>>()

async function open(url: string, places: Place[]): Promise<number> {
  seats = places.map(place => new Seat(url, place, tally))
  for (let i = 0; i < seats.length; i += openAtOnce)
    await Promise.all(seats.slice(i, i + openAtOnce).map(seat => seat.open()))
  return seats.length
}

const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!

function begin(rates: SoakRates): void {
  // The assistant's conversation is the second one of those who have two.
  const asking = seats.filter(seat => seat.place.conversations.length > 1)
  const sizes = new Map<string, number>()
  for (const seat of seats) for (const id of seat.place.conversations) sizes.set(id, (sizes.get(id) ?? 0) + 1)
  const isLarge = (seat: Seat) => sizes.get(seat.place.conversations[0]!)! > 20
  const small = seats.filter(seat => !isLarge(seat))
  const large = seats.filter(isLarge)
  const owed = { small: 0, large: 0, typing: 0, turns: 0, cuts: 0, reads: 0 }
  let last = performance.now()
  let delivered = tally.deliveries
  const due = (what: keyof typeof owed, rate: number, seconds: number, run: () => void) => {
    owed[what] += rate * seconds
    for (; owed[what] >= 1; owed[what]--) run()
  }
  const write = (seat: Seat | undefined) => {
    if (seat?.isReady) seat.send('message.send', seat.place.conversations[0]!, `words of ${performance.now()}`)
  }
  timer = setInterval(() => {
    const now = performance.now()
    const seconds = (now - last) / 1000
    last = now
    due('small', rates.small, seconds, () => write(pick(small)))
    if (large.length > 0) due('large', rates.large, seconds, () => write(pick(large)))
    due('typing', rates.typing, seconds, () => {
      const seat = pick(seats)
      if (seat.isReady) seat.tell({ type: 'typing.start', conversationId: seat.place.conversations[0] })
    })
    if (asking.length > 0)
      due('turns', rates.turns, seconds, () => {
        const seat = pick(asking)
        if (seat.isReady && !seat.isAsking)
          seat.send('chat.send', seat.place.conversations[1]!, '#stream words=30 delay_ms=30')
      })
    due('reads', (rates.readShare * (tally.deliveries - delivered)) / Math.max(seconds, 0.001), seconds, () => {
      const seat = pick(seats)
      const conversationId = seat.place.conversations[0]!
      const seq = seat.seen.get(conversationId)?.upTo ?? 0
      if (!seat.isReady || seq === 0) return
      seat.tell({ type: 'receipt.read', conversationId, seq })
      tally.receipts++
    })
    delivered = tally.deliveries
    due('cuts', rates.cuts, seconds, () => {
      const seat = pick(seats)
      if (!seat.isReady) return
      seat.cut()
      bringBack(seat)
    })
  }, tickMs)
}

function bringBack(seat: Seat): void {
  const coming = comeBack(seat).finally(() => turning.delete(coming))
  turning.add(coming)
}

/** Away for up to two seconds. */
async function comeBack(seat: Seat): Promise<void> {
  await sleep(Math.random() * 2000)
  for (let tries = 0; tries < 20; tries++) {
    try {
      await seat.open()
      return
    } catch {
      await sleep(500)
    }
  }
}

/** A socket that was cut by somebody else comes back, too. */
const keeper = setInterval(() => {
  for (const seat of seats) if (seat.takeLost()) bringBack(seat)
}, 1000)

async function stop(): Promise<number> {
  clearInterval(timer)
  await Promise.all(turning)
  const owed = () => seats.reduce((n, seat) => n + seat.owed + (seat.isAsking ? 1 : 0), 0)
  for (const until = performance.now() + 30_000; owed() > 0 && performance.now() < until; ) await sleep(100)
  // What was committed last is still on its way to the others.
  await sleep(3000)
  clearInterval(keeper)
  return owed()
}

function look(): Look {
  const { ackMs, ...rest } = tally
  const sorted = Float64Array.from(ackMs).sort()
  ackMs.length = 0
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0
  const sockets = seats.filter(seat => seat.isReady).length
  return { kind: 'look', sockets, tally: rest, ackMs: { p50: at(0.5), p99: at(0.99), max: at(1) } }
}

function audit(heads: Record<string, number>): Extract<FromSoak, { kind: 'audit' }> {
  let behind = 0
  let checked = 0
  let example = ''
  for (const seat of seats) {
    for (const id of seat.place.conversations) {
      const seen = seat.seen.get(id)
      checked++
      if (seen && seen.upTo === heads[id] && seen.above.size === 0) continue
      behind++
      example ||= `${id}: seen up to ${seen?.upTo}, the log ends at ${heads[id]}`
    }
  }
  return { kind: 'audit', behind, checked, example }
}

const say = (message: FromSoak) => process.send?.(message)

process.on('message', async (order: ToSoak) => {
  try {
    switch (order.kind) {
      case 'open':
        say({ kind: 'open', sockets: await open(order.url, order.places) })
        break
      case 'begin':
        begin(order.rates)
        say({ kind: 'begin' })
        break
      case 'look':
        say(look())
        break
      case 'stop':
        say({ kind: 'stop', owed: await stop() })
        break
      case 'audit':
        say(audit(order.heads))
        break
      default:
        order satisfies never
    }
  } catch (error) {
    say({ kind: 'broken', why: String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
