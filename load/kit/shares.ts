/** Whether the shards of a cluster lie where they shall, for scripts that kill or ask to leave. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from './cluster.ts'

const shareMsMax = 60_000

/** Resolves when the four workers of both engines own their parts: what moves between living engines has moved. */
export async function fairShare(cluster: Cluster): Promise<void> {
  for (const until = performance.now() + shareMsMax; performance.now() < until; await sleep(200)) {
    const owned = await cluster.sql<{ n: number }>(
      `select count(*)::int as n from shard s join engine_node e on e.incarnation = s.owner and e.state = 'up'
       group by s.owner, s.worker`,
    )
    if (owned.length === 4 && owned.every(row => row.n > 38 && row.n < 90)) return
  }
  throw new Error('the shards were not shared out')
}
