/**
 * Where every shard lives, as gateways read it, and the notice that this changed. Who owns what is decided in
 * ownership.ts; a gateway adds only whom it cannot reach.
 */
import type { Client } from 'pg'
import type { Log } from '#engine/ops/log.ts'
import { mapPollMs } from '#protos/limits.ts'
import type { Queryable, Statement } from './query.ts'
import { rows } from './query.ts'

export interface ShardAddress {
  shard: number
  epoch: number
  /** Of the owning worker; null while no living one owns the shard or it does not listen yet. */
  addr: string | null
}

/** One row, which is cheaper to take apart than 256: each gateway asked seventeen times in the two seconds of a takeover. */
const routes: Statement = {
  name: 'routes',
  text: `
select string_agg(s.shard_id || ' ' || s.epoch || ' ' || coalesce(n.addrs[s.worker + 1], ''), ',') as map
from shard s left join engine_node n on n.incarnation = s.owner and n.state <> 'dead'`,
}

/** All shards. */
export async function readRoutes(at: Queryable, named = true): Promise<ShardAddress[]> {
  const [found] = await rows<{ map: string | null }>(at, routes, [], named)
  if (!found?.map) return []
  return found.map.split(',').map(text => {
    const [shard, epoch, addr] = text.split(' ')
    return { shard: Number(shard), epoch: Number(epoch), addr: addr || null }
  })
}

const suspicion: Statement = {
  name: 'routes_suspect',
  text: `
insert into engine_suspicion (incarnation, reporter)
select incarnation, $2 from engine_node where state <> 'dead' and $1 = any(addrs)
    on conflict (incarnation, reporter) do update set at = clock_timestamp()`,
}

/** Writes down that `reporter` does not reach the engine at this address. */
export async function suspectAddress(at: Queryable, addr: string, reporter: string, named = true): Promise<void> {
  await rows(at, suspicion, [addr, reporter], named)
}

const known: Statement = {
  name: 'routes_known',
  text: `select 1 as one from engine_node where state <> 'dead' and $1 = any(addrs)`,
}

/** Whether a living engine listens at this address. */
export async function isEngineAddress(at: Queryable, addr: string, isNamed = true): Promise<boolean> {
  return (await rows(at, known, [addr], isNamed)).length > 0
}

/** Tells everybody who listens that rows of nodes or shards changed. */
export async function noticeRouteMap(at: Queryable): Promise<void> {
  await at.query({ text: "select pg_notify('parley_map', '')" })
}

/**
 * Calls back when an epoch changed, by LISTEN on a connection of its own, which is made again when it is lost. Only a hint:
 * behind some poolers it never comes, so whoever uses it polls as well. Answers how to stop.
 */
export function watchRouteMap(connect: () => Promise<Client>, log: Log, changed: () => void): () => void {
  let client: Client | undefined
  let timer: NodeJS.Timeout | undefined
  let isStopped = false

  async function open(): Promise<void> {
    let next: Client | undefined
    try {
      next = await connect()
      if (isStopped) return await next.end()
      client = next
      next.on('error', () => again(next))
      next.on('end', () => again(next))
      next.on('notification', changed)
      await next.query('listen parley_map')
      // What changed before we listened was told to nobody.
      changed()
    } catch (error) {
      log.debug('notices about the route map are not to be had', { err: error })
      again(next)
    }
  }

  function again(lost: Client | undefined): void {
    if (isStopped || client !== lost) return
    client = undefined
    lost?.end().catch(() => {})
    clearTimeout(timer)
    timer = setTimeout(() => void open(), mapPollMs)
  }

  void open()
  return () => {
    isStopped = true
    clearTimeout(timer)
    client?.end().catch(() => {})
  }
}
