/**
 * What a seed stands for, fully expanded: sizes, who does what when, which faults strike when and for how long. Pure: the
 * same seed gives the same plan, and a printed plan says all that there is to know about a run.
 */
import { Random } from './random.ts'

export type FaultKind =
  | 'engine.kill'
  | 'engine.pause'
  | 'engine.drain'
  | 'thread.kill'
  | 'gateway.kill'
  | 'gateway.pause'
  | 'gateway.drain'
  | 'cut'
  | 'slow'
  | 'postgres.crash'
  | 'postgres.killOne'
  | 'statement'
  | 'client.cut'
  | 'client.offline'
  | 'skew'

export interface Fault {
  at: number
  kind: FaultKind
  /** Index or path, by kind. */
  target: string
  ms: number
  /** Of a statement: what happens, to how many. */
  what?: string
  prefix?: string
  count?: number
}

export interface Act {
  at: number
  who: number
  what: 'send' | 'chat' | 'read' | 'type' | 'stop' | 'duplicate' | 'rest' | 'remove' | 'add'
  room: number
  /** Index of another person or gateway, where one is needed. */
  other: number
}

export interface Plan {
  seed: number
  engines: number
  threads: number
  gateways: number
  people: number
  rooms: { kind: 'group' | 'ai'; members: number[] }[]
  chaosMs: number
  acts: Act[]
  faults: Fault[]
}

const kinds: Record<FaultKind, number> = {
  'engine.kill': 3,
  'engine.pause': 3,
  'engine.drain': 1,
  'thread.kill': 3,
  'gateway.kill': 2,
  'gateway.pause': 1,
  'gateway.drain': 1,
  cut: 5,
  slow: 2,
  'postgres.crash': 1,
  'postgres.killOne': 3,
  statement: 12,
  'client.cut': 4,
  'client.offline': 3,
  skew: 1,
}

export function planOf(seed: number): Plan {
  const r = new Random(seed)
  const [engines, threads, gateways] = [3, r.whole(1, 2), 3]
  const people = r.whole(3, 5)
  const everyone = Array.from({ length: people }, (_, i) => i)
  const rooms: Plan['rooms'] = [{ kind: 'group', members: everyone }]
  const more = r.whole(1, 3)
  for (let i = 0; i < more; i++) {
    const members = everyone.filter(p => p === i % people || r.chance(0.7))
    members.sort((a, b) => Number(b === i % people) - Number(a === i % people))
    rooms.push({ kind: r.chance(0.3) ? 'ai' : 'group', members: members.length > 0 ? members : [0] })
  }
  for (const room of rooms) if (room.kind === 'ai') room.members = [room.members[0]!]
  const chaosMs = r.whole(8, 22) * 1000
  const whats = { send: 24, chat: 2, read: 3, type: 1, stop: 1, duplicate: 6, rest: 2, remove: 1, add: 2 } as const
  const count = r.whole(60, 140)
  const acts: Act[] = Array.from({ length: count }, () => {
    // Some come in bursts, so that batches fill while a statement is in flight.
    const at = r.chance(0.4) ? Math.floor(r.next() * 8) * (chaosMs / 8) + r.between(0, 20) : r.between(0, chaosMs)
    const room = r.whole(0, rooms.length - 1)
    const who = r.pick(rooms[room]!.members)
    return { at: Math.round(at * 100) / 100, who, what: r.weighted(whats), room, other: r.whole(0, 99) }
  })
  const faults = Array.from({ length: r.whole(2, 14) }, () =>
    faultOf(r, chaosMs, { engines, threads, gateways, people }),
  )
  return {
    ...{ seed, engines, threads, gateways, people, rooms, chaosMs },
    acts: acts.sort((a, b) => a.at - b.at),
    faults: faults.sort((a, b) => a.at - b.at),
  }
}

type Sizes = Pick<Plan, 'engines' | 'threads' | 'gateways' | 'people'>

function faultOf(r: Random, chaosMs: number, n: Sizes): Fault {
  const kind = r.weighted(kinds)
  const at = Math.round(r.between(0, chaosMs))
  const engine = String(r.whole(1, n.engines))
  const span = (low: number, high: number) => Math.round(r.between(low, high))
  switch (kind) {
    case 'engine.kill':
      return { at, kind, target: engine, ms: r.chance(0.5) ? span(50, 1500) : span(1500, 12_000) }
    case 'engine.pause':
      return { at, kind, target: engine, ms: r.chance(0.5) ? span(200, 3000) : span(3000, 15_000) }
    case 'engine.drain':
      return { at, kind, target: engine, ms: span(100, 3000) }
    case 'thread.kill':
      return { at, kind, target: `${engine}/${r.whole(0, n.threads - 1)}`, ms: span(20, 800) }
    case 'gateway.kill':
    case 'gateway.drain':
      return { at, kind, target: String(r.whole(1, n.gateways)), ms: span(100, 4000) }
    case 'gateway.pause':
      return { at, kind, target: String(r.whole(1, n.gateways)), ms: span(200, 15_000) }
    case 'cut':
    case 'slow': {
      const [g, e, c] = [`g${r.whole(1, n.gateways)}`, `e${engine}`, `c${r.whole(1, n.people)}`]
      const pairs = [
        [e, 'pg'],
        [g, e],
        [g, e],
        [c, g],
        [g, 'pg'],
      ]
      const [a, b] = r.pick(pairs) as [string, string]
      const target = r.chance(0.7) ? `${a}-${b}` : r.chance(0.5) ? `${a}>${b}` : `${b}>${a}`
      return { at, kind, target, ms: span(100, r.chance(0.3) ? 14_000 : 3000) }
    }
    case 'postgres.crash':
      return { at, kind, target: 'pg', ms: span(50, 4000) }
    case 'statement': {
      const what = r.weighted({
        before: 2,
        after: 4,
        held: 5,
        silent: 3,
        deadlock: 1,
        full: 1,
        cancelled: 1,
        warned: 1,
      })
      const prefix = r.weighted({ parley_commit_: 8, own_stamp: 2, own_claim: 1, own_renew: 1, log_: 1, dir_: 1 })
      return { at, kind, target: 'pg', ms: span(500, 6000), what, prefix, count: r.whole(1, 4) }
    }
    case 'postgres.killOne':
      return { at, kind, target: 'pg', ms: 0 }
    case 'client.cut':
      return { at, kind, target: String(r.whole(1, n.people)), ms: 0 }
    case 'client.offline':
      return { at, kind, target: String(r.whole(1, n.people)), ms: span(100, 8000) }
    case 'skew':
      return {
        at,
        kind,
        target: r.pick([`e${engine}`, `g${r.whole(1, n.gateways)}`, 'pg']),
        ms: span(-3_600_000, 3_600_000),
      }
    default:
      return kind satisfies never
  }
}
