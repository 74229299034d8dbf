/**
 * Owns where a shard belongs: a weighted rendezvous hash over the live workers, computed by each node for itself from the
 * same rows. Hashes the node's name, not its incarnation, so that a restarted node gets the same shards back.
 * Refuses to know who owns what now.
 */

export interface Seat {
  nodeId: string
  incarnation: string
  worker: number
  /** Relative share of the shards, > 0. */
  weight: number
}

/** The seat that a shard belongs to; undefined when there is none. The order of `seats` does not matter. */
export function placeShard(shard: number, seats: readonly Seat[]): Seat | undefined {
  let best: Seat | undefined
  let bestScore = Number.NEGATIVE_INFINITY
  for (const seat of seats) {
    const score = scoreOf(shard, seat)
    // Equal names in the moments before a predecessor is buried: incarnations are version 7 ids, the later one is larger.
    if (score > bestScore || (score === bestScore && best !== undefined && seat.incarnation > best.incarnation)) {
      best = seat
      bestScore = score
    }
  }
  return best
}

/** -w / ln(u) makes each seat's share exactly proportional to its weight (Schindelhauer and Schomaker, 2005). */
function scoreOf(shard: number, seat: Seat): number {
  const u = (hash32(`${seat.nodeId}/${seat.worker}/${shard}`) + 0.5) / 0x1_0000_0000
  return -seat.weight / Math.log(u)
}

/** FNV-1a with MurmurHash3's finaliser: alone, FNV leaves neighbouring shard numbers close together. */
export function hash32(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
