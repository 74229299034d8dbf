/**
 * Owns the decision what this node should claim and hand over, given the rows of one round. Pure: it remembers since when a
 * shard is ownerless and since when the membership is stable, by this node's monotonic time. Refuses to write anything.
 */
import { claimStrangerMs, handOverShardsMax, membershipStableMs } from '#protos/limits.ts'
import { placeShard, type Seat } from './placement.ts'

export interface NodeRow {
  incarnation: string
  nodeId: string
  /** By worker index; '' where no worker listens. */
  addrs: readonly string[]
  state: 'up' | 'draining' | 'dead'
}

export interface ShardRow {
  shard: number
  epoch: number
  owner: string | null
  worker: number | null
}

export interface PlanMemory {
  readonly ownerlessSince: ReadonlyMap<number, number>
  readonly members: string
  readonly membersSince: number
}

export interface Plan {
  /** One statement per worker, shards in order of id. */
  claims: { worker: number; shards: { shard: number; epoch: number }[] }[]
  moves: { shard: number; epoch: number; from: number; to: Seat }[]
  memory: PlanMemory
}

export const noMemory: PlanMemory = { ownerlessSince: new Map(), members: '', membersSince: Number.NEGATIVE_INFINITY }

/** `at`: monotonic ms of the round. `isBusy`: a shard that is better moved later. */
export function plan(
  memory: PlanMemory,
  me: string,
  nodes: readonly NodeRow[],
  shards: readonly ShardRow[],
  at: number,
  isBusy: (shard: number) => boolean = () => false,
): Plan {
  const seats = seatsOf(nodes)
  const mine = seats.filter(seat => seat.incarnation === me)
  // An owner that is not among the rows died long ago; a claim against one that just came finds no row.
  const alive = new Set(nodes.filter(n => n.state !== 'dead').map(n => n.incarnation))
  const isDraining = nodes.some(n => n.incarnation === me && n.state === 'draining')
  const members = seats
    .map(s => `${s.incarnation}/${s.worker}`)
    .sort()
    .join()
  const membersSince = members === memory.members ? memory.membersSince : at
  const isStable = at - membersSince >= membershipStableMs

  const ownerlessSince = new Map<number, number>()
  const claims = new Map<number, { shard: number; epoch: number }[]>()
  const moves: Plan['moves'] = []
  for (const row of [...shards].sort((a, b) => a.shard - b.shard)) {
    const seat = placeShard(row.shard, seats)
    if (row.owner === null || !alive.has(row.owner)) {
      const since = memory.ownerlessSince.get(row.shard) ?? at
      ownerlessSince.set(row.shard, since)
      if (mine.length === 0) continue
      // The computed owner may itself be dying, not yet buried: after a while anyone may take the shard.
      const target =
        seat?.incarnation === me ? seat : at - since >= claimStrangerMs ? placeShard(row.shard, mine) : undefined
      if (target) listOf(claims, target.worker).push({ shard: row.shard, epoch: row.epoch })
    } else if (row.owner === me && seat && moves.length < handOverShardsMax) {
      const isElsewhere = seat.incarnation !== me || seat.worker !== row.worker
      if (isElsewhere && (isDraining || isStable) && !isBusy(row.shard))
        moves.push({ shard: row.shard, epoch: row.epoch, from: row.worker ?? -1, to: seat })
    }
  }
  return {
    claims: [...claims].sort((a, b) => a[0] - b[0]).map(([worker, wanted]) => ({ worker, shards: wanted })),
    moves,
    memory: { ownerlessSince, members, membersSince },
  }
}

/** Every listening worker of every node that is up. */
export function seatsOf(nodes: readonly NodeRow[]): Seat[] {
  const seats: Seat[] = []
  for (const node of nodes) {
    if (node.state !== 'up') continue
    node.addrs.forEach((addr, worker) => {
      if (addr !== '') seats.push({ nodeId: node.nodeId, incarnation: node.incarnation, worker, weight: 1 })
    })
  }
  return seats
}

function listOf<K, V>(map: Map<K, V[]>, key: K): V[] {
  let list = map.get(key)
  if (!list) map.set(key, (list = []))
  return list
}
