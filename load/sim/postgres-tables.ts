/** Rows of the modelled tables, and the tables as a reading statement sees them. Holds no behaviour. */

export type Row = Record<string, unknown>

export interface NodeRecord {
  incarnation: string
  nodeId: string
  addrs: string[]
  version: string
  state: 'up' | 'draining' | 'dead'
  beat: number
  expiresAt: number
}

export interface ShardRecord {
  shard: number
  epoch: number
  owner: string | null
  worker: number | null
}

export interface EventRecord {
  conversation: string
  seq: number
  messageId: string
  kind: string
  senderId: string
  clientId: string
  bodyHash: string
  body: string
  at: number
  epoch: number
}

export interface MemberRecord {
  userId: string
  role: string
  joinedSeq: number
  readSeq: number
  deliveredSeq: number
}

export interface ConversationRecord {
  id: string
  shard: number
  kind: string
  title: string | null
  toolPolicy: string
  createdBy: string
  deleted: boolean
  firstSeq: number
  members: Map<string, MemberRecord>
  events: Map<number, EventRecord>
  head: number
}

export interface RunRecord extends Row {
  id: string
  conversation: string
  shard: number
  requester: string
  status: string
}

export interface Tables {
  readonly nodes: ReadonlyMap<string, NodeRecord>
  readonly shards: readonly ShardRecord[]
  readonly conversations: ReadonlyMap<string, ConversationRecord>
  /** `${conversation}/${sender}/${client}` */
  readonly clients: ReadonlyMap<string, EventRecord>
  readonly runs: ReadonlyMap<string, RunRecord>
  /** Run → offset → text. */
  readonly segments: ReadonlyMap<string, ReadonlyMap<number, string>>
  readonly blocks: ReadonlySet<string>
}
