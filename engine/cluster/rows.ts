/** What a membership asks of the database: rows as it reads them, statements as it needs them. Refuses to say how. */
import type { NodeRow, ShardRow } from './plan.ts'

export interface ClusterNode extends NodeRow {
  beat: number
  /** By the database clock, at the read. */
  expired: boolean
  /** Enough gateways cannot reach it. */
  suspected: boolean
}

/** The statements behind a membership; each is one statement and rejects when the database does not answer in time. */
export interface OwnershipStore {
  /** False: this incarnation was buried. */
  renew(me: string): Promise<boolean>
  read(): Promise<{ nodes: ClusterNode[]; shards: ShardRow[] }>
  bury(incarnation: string, beat: number, anyway: boolean): Promise<boolean>
  burySuspect(incarnation: string): Promise<boolean>
  setAddrs(me: string, addrs: readonly string[]): Promise<void>
  claim(me: string, worker: number, wanted: readonly { shard: number; epoch: number }[]): Promise<Granted[]>
  replace(me: string, worker: number, shards: readonly number[]): Promise<Granted[]>
  /** Without those that are not ours any more under that epoch; none when the target is not up. */
  handOver(me: string, held: readonly Granted[], to: { incarnation: string; worker: number }): Promise<Granted[]>
  markDraining(me: string): Promise<void>
  /** The end of this incarnation by its own hand: its shards are free for anyone at once. */
  leave(me: string): Promise<void>
}

export interface Granted {
  shard: number
  epoch: number
}

export interface Moved extends Granted {
  addr: string
}
