/**
 * The statements that decide who may write: leases of incarnations, claims and hand-overs of shards. Each is one
 * compare-and-set; none decides when to run, that is engine/cluster's. Several shard rows are always locked in order of id.
 */
import { leaseMs, suspectReportersMin, suspicionWindowMs } from '#protos/limits.ts'
import { type Queryable, rows, type Statement } from './query.ts'

export type NodeState = 'up' | 'draining' | 'dead'

export interface NodeRow {
  incarnation: string
  nodeId: string
  /** By worker index; '' for an index that is not serving. */
  addrs: string[]
  version: string
  state: NodeState
  beat: number
  /** By the database's clock. */
  expired: boolean
  /** Enough gateways cannot reach it. */
  suspected: boolean
}

export interface ShardRow {
  shard: number
  epoch: number
  owner: string | null
  worker: number | null
}

export interface ShardEpoch {
  shard: number
  epoch: number
}

const lease = `interval '${leaseMs} milliseconds'`
const isSuspected = (incarnation: string) =>
  `(select count(*) from engine_suspicion q where q.incarnation = ${incarnation}
      and q.at > clock_timestamp() - interval '${suspicionWindowMs} milliseconds') >= ${suspectReportersMin}`

const sql = {
  insertNode: {
    name: 'own_insert_node',
    text: `insert into engine_node (incarnation, node_id, addrs, version, expires_at)
           values ($1, $2, $3, $4, clock_timestamp() + ${lease})`,
  },
  renew: {
    name: 'own_renew',
    text: `update engine_node set beat = beat + 1, expires_at = clock_timestamp() + ${lease},
                  addrs = coalesce($2::text[], addrs)
            where incarnation = $1 and state <> 'dead' returning beat, state`,
  },
  readNodes: {
    name: 'own_read_nodes',
    text: `select incarnation, node_id as "nodeId", addrs, version, state, beat, expires_at < clock_timestamp() as expired,
                  ${isSuspected('engine_node.incarnation')} as suspected
             from engine_node where state <> 'dead' or started_at > clock_timestamp() - interval '1 hour'
            order by incarnation`,
  },
  bury: {
    name: 'own_bury',
    text: `update engine_node set state = 'dead'
            where incarnation = $1 and beat = $2 and state <> 'dead' and (expires_at < clock_timestamp() or $3::boolean)
           returning incarnation`,
  },
  burySuspect: {
    name: 'own_bury_suspect',
    text: `update engine_node set state = 'dead'
            where incarnation = $1 and state <> 'dead' and ${isSuspected('$1')}
           returning incarnation`,
  },
  buryKnown: {
    name: 'own_bury_known',
    text: `update engine_node set state = 'dead' where incarnation = $1 and state <> 'dead' returning incarnation`,
  },
  buryPredecessors: {
    name: 'own_bury_predecessors',
    text: `update engine_node set state = 'dead'
            where node_id = $1 and incarnation <> $2 and state <> 'dead' returning incarnation`,
  },
  markDraining: {
    name: 'own_draining',
    text: `update engine_node set state = 'draining' where incarnation = $1 and state = 'up' returning incarnation`,
  },
  readShards: {
    name: 'own_read_shards',
    text: 'select shard_id as shard, epoch, owner, worker from shard order by shard_id',
  },
  claim: {
    name: 'own_claim',
    text: `with want as materialized (
             select s.shard_id
               from shard s join unnest($1::int[], $2::bigint[]) as w(id, epoch) on s.shard_id = w.id and s.epoch = w.epoch
              where s.owner is null
                 or exists (select 1 from engine_node n where n.incarnation = s.owner and n.state = 'dead')
              order by s.shard_id for no key update of s)
           update shard s set owner = $3, worker = $4, epoch = nextval('owner_epoch'), changed_at = clock_timestamp()
             from want where s.shard_id = want.shard_id
           returning s.shard_id as shard, s.epoch`,
  },
  replace: {
    name: 'own_replace',
    text: `with mine as materialized (
             select shard_id from shard where owner = $1 and shard_id = any($2::int[])
              order by shard_id for no key update)
           update shard s set epoch = nextval('owner_epoch'), worker = $3, changed_at = clock_timestamp()
             from mine where s.shard_id = mine.shard_id
           returning s.shard_id as shard, s.epoch`,
  },
  handOver: {
    name: 'own_hand_over',
    text: `with mine as materialized (
             select s.shard_id
               from shard s join unnest($1::int[], $2::bigint[]) as w(id, epoch) on s.shard_id = w.id and s.epoch = w.epoch
              where s.owner = $3
                and exists (select 1 from engine_node n where n.incarnation = $4 and n.state = 'up')
              order by s.shard_id for no key update of s)
           update shard s set owner = $4, worker = $5, epoch = nextval('owner_epoch'), changed_at = clock_timestamp()
             from mine where s.shard_id = mine.shard_id
           returning s.shard_id as shard, s.epoch`,
  },
  release: {
    name: 'own_release',
    text: `with mine as materialized (
             select shard_id from shard where owner = $1 order by shard_id for no key update)
           update shard s set owner = null, worker = null, epoch = nextval('owner_epoch'), changed_at = clock_timestamp()
             from mine where s.shard_id = mine.shard_id
           returning s.shard_id as shard, s.epoch`,
  },
  // From me to me. The second arm covers a stamp of mine whose answer was lost: the row is still mine, under an epoch I
  // do not know. Nobody else's row can match it.
  stamp: {
    name: 'own_stamp',
    text: `with mine as materialized (
             select s.shard_id
               from shard s join unnest($1::int[], $2::bigint[]) as w(id, epoch) on s.shard_id = w.id
              where s.epoch = w.epoch or (s.owner = $3::uuid and s.worker = $4::int and s.epoch > w.epoch)
              order by s.shard_id for no key update of s)
           update shard s set epoch = nextval('owner_epoch'), changed_at = clock_timestamp()
             from mine where s.shard_id = mine.shard_id
           returning s.shard_id as shard, s.epoch`,
  },
  prune: {
    name: 'own_prune',
    text: `with nodes as (delete from engine_node n where n.state = 'dead' and n.expires_at < clock_timestamp() - interval '1 day'
                             and not exists (select 1 from shard s where s.owner = n.incarnation)),
           doubts as (delete from engine_suspicion where at < clock_timestamp() - interval '1 day')
           delete from shard_history where at < clock_timestamp() - interval '30 days'`,
  },
} as const satisfies Record<string, Statement>

export async function insertNode(
  at: Queryable,
  node: { incarnation: string; nodeId: string; addrs: readonly string[]; version: string },
): Promise<void> {
  await rows(at, sql.insertNode, [node.incarnation, node.nodeId, node.addrs, node.version])
}

/** Undefined: this incarnation was buried; stop serving and exit. `addrs`: also publish these, by worker index. */
export async function renew(
  at: Queryable,
  incarnation: string,
  addrs?: readonly string[],
): Promise<{ beat: number; state: NodeState } | undefined> {
  return (await rows<{ beat: number; state: NodeState }>(at, sql.renew, [incarnation, addrs ?? null]))[0]
}

/** Living nodes, and dead ones of the last hour. */
export function readNodes(at: Queryable): Promise<NodeRow[]> {
  return rows<NodeRow>(at, sql.readNodes, [])
}

/** Compare-and-set on the beat that was seen. `anyway`: unchanged for 8 s, whatever the clocks say. True: it is dead now. */
export async function bury(at: Queryable, incarnation: string, beat: number, anyway: boolean): Promise<boolean> {
  return (await rows(at, sql.bury, [incarnation, beat, anyway])).length > 0
}

/** Two gateways within 30 s could not reach it, whatever its beat says. True: it is dead now. */
export async function burySuspect(at: Queryable, incarnation: string): Promise<boolean> {
  return (await rows(at, sql.burySuspect, [incarnation])).length > 0
}

/** Only for one who knows that the process is gone: its parent after the exit. */
export async function buryKnown(at: Queryable, incarnation: string): Promise<boolean> {
  return (await rows(at, sql.buryKnown, [incarnation])).length > 0
}

/** Only under the proof that no other process of this node id runs. Answers whom it buried. */
export async function buryPredecessors(at: Queryable, nodeId: string, me: string): Promise<string[]> {
  return (await rows<{ incarnation: string }>(at, sql.buryPredecessors, [nodeId, me])).map(row => row.incarnation)
}

export async function markDraining(at: Queryable, incarnation: string): Promise<boolean> {
  return (await rows(at, sql.markDraining, [incarnation])).length > 0
}

export function readShards(at: Queryable): Promise<ShardRow[]> {
  return rows<ShardRow>(at, sql.readShards, [])
}

/** Takes those of the shards that still have the epoch seen and no living owner. Answers what was taken, with its epoch. */
export function claim(at: Queryable, seen: readonly ShardEpoch[], me: string, worker: number): Promise<ShardEpoch[]> {
  return rows<ShardEpoch>(at, sql.claim, [...split(seen), me, worker])
}

/** From me to me, for another worker index. */
export function replace(at: Queryable, me: string, shards: readonly number[], worker: number): Promise<ShardEpoch[]> {
  return rows<ShardEpoch>(at, sql.replace, [me, shards, worker])
}

/** From me to a living target: no ownerless gap. */
export function handOver(
  at: Queryable,
  held: readonly ShardEpoch[],
  me: string,
  target: string,
  worker: number,
): Promise<ShardEpoch[]> {
  return rows<ShardEpoch>(at, sql.handOver, [...split(held), me, target, worker])
}

/** Gives up every shard, for a node that stops and has nobody to hand over to. */
export function release(at: Queryable, me: string): Promise<ShardEpoch[]> {
  return rows<ShardEpoch>(at, sql.release, [me])
}

/**
 * After an unknown outcome: fresh epochs for shards that are still mine. Waits behind the old statement if that runs.
 * A shard that is missing in the answer is another's now.
 */
export function stamp(
  at: Queryable,
  held: readonly ShardEpoch[],
  me: { incarnation: string; worker: number },
  named = true,
): Promise<ShardEpoch[]> {
  return rows<ShardEpoch>(at, sql.stamp, [...split(held), me.incarnation, me.worker], named)
}

/** Forgets epochs older than 30 days and incarnations dead for a day. Any node, now and then. */
export async function prune(at: Queryable): Promise<void> {
  await rows(at, sql.prune, [])
}

function split(shards: readonly ShardEpoch[]): [number[], number[]] {
  return [shards.map(s => s.shard), shards.map(s => s.epoch)]
}
