/**
 * What the journal needs from a store: one statement at a time, and the questions that settle a doubtful one. Postgres and
 * the in-memory twin implement it. Decides nothing: retries, splits and order are the journal's.
 */
import type { Contribution } from '#engine/actor/ports.ts'
import type { ShardEpoch } from './ownership.ts'

export type CommitResult =
  /** Committed, for these shards; contributions of others met a fence and left nothing. */
  | { kind: 'done'; shards: ReadonlySet<number> }
  /** It may have been stored. The connection is gone. */
  | { kind: 'unknown' }
  /** Not stored, by bad luck: the same statement may be sent again. */
  | { kind: 'retry' }
  /** Not stored: some row of it can never be. */
  | { kind: 'data'; code: string }
  /** Not stored: a client id is in the log already. */
  | { kind: 'duplicate' }
  /** Not stored: a position is taken, so a head was wrong. */
  | { kind: 'head' }
  /** Not stored: the database has no room. */
  | { kind: 'full' }

export interface ClientKey {
  conversation: string
  senderId: string
  clientId: string
}

export interface LogStore {
  readonly connected: boolean
  /** Called each time the connection is lost or given up. */
  onLost: () => void
  /** A fresh connection, unless there is one. `doubtful`: for stamp and look-up, whose waits the server itself must end. */
  connect(doubtful: boolean): Promise<void>
  /** Gives the connection up. */
  discard(): void
  /** One statement; never rejects. */
  commit(contributions: readonly Contribution[]): Promise<CommitResult>
  /** Fresh epochs for the shards that are still ours; rejects when there is no answer. */
  stamp(held: readonly ShardEpoch[]): Promise<ShardEpoch[]>
  /** After a stamp: which of these contributions are in the log, by position and the epoch they were sent with. */
  areStored(contributions: readonly Contribution[]): Promise<boolean[]>
  /** Which of these ids are in the log. */
  findClients(keys: readonly ClientKey[]): Promise<ClientKey[]>
  close(): Promise<void>
}
