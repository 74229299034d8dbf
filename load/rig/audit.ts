/**
 * Reads what a run left behind, by SQL and by REST, and puts all checkers to the history. Answers sentences; prints nothing.
 */
import { checkEpochs, checkLog, checkOrder, type History, type Row } from '#load/kit/checkers.ts'
import { checkOwnership, type EpochRecord } from '#load/kit/checkers-ownership.ts'
import { checkPresence } from '#load/kit/checkers-presence.ts'
import { checkReceipts } from '#load/kit/checkers-receipts.ts'
import { checkReconnects, checkRecovery, type Recovery } from '#load/kit/checkers-recovery.ts'
import { checkLogs, checkResources, type Resources } from '#load/kit/checkers-resources.ts'
import { checkStreams } from '#load/kit/checkers-resume.ts'
import { rssBytes } from '#load/kit/proc.ts'
import { shardOf } from '#protos/shard.ts'
import type { Folded } from './history.ts'
import type { Traffic } from './traffic.ts'
import type { World } from './world.ts'

export interface Audit {
  /** Checker → what it found. */
  found: Record<string, string[]>
  recoveries: Recovery[]
  rows: number
}

export async function auditRun(options: {
  world: World
  traffic: Traffic
  folded: Folded
  /** × the limits of the faults. */
  factor: number
  resources: { before: Resources; after: Resources }
  reconnectMs: readonly { code: string; ms: number }[]
}): Promise<Audit> {
  const { world, traffic, folded, factor, resources } = options
  const ids = traffic.conversations.map(c => c.id)
  const rows = await readRows(world, ids)
  const restRows: History['restRows'] = []
  for (const { id, members } of traffic.conversations) {
    restRows.push(...(await readRest(world, id, traffic.tokens[members[0]!]!)))
  }
  const { attempts, deliveries, reads, streams } = folded
  const history: History = { attempts, deliveries, joins: [], rows, restRows, reads }
  const acked = attempts.flatMap(a =>
    a.outcome.kind === 'ok' ? [{ ...a, seq: a.outcome.seq, at: a.completedAt! }] : [],
  )
  const epochs = await world.query<EpochRecord>(
    'select shard_id as shard, epoch::float8 as epoch, owner, worker from shard_history',
  )
  const { problems, recoveries } = checkRecovery(attempts, folded.faults, factor)
  const heads: Record<string, number> = {}
  for (const row of rows) heads[row.conversation] = Math.max(heads[row.conversation] ?? 0, row.seq)
  return {
    recoveries,
    rows: rows.length,
    found: {
      'C1 every ack at its place in SQL and REST, no gap, no duplicate, no refused send stored': checkLog(history),
      'C2 one order: agreement, real time, each connection, reads, durable before shown': checkOrder(history),
      'C3 raw streams dense, replays exact, nothing missed over a life': checkStreams(streams, {
        rows,
        acks: acked,
        complete: new Set(traffic.devices.filter(d => !d.isLost).map(d => d.name)),
      }),
      'C5 sends and connections back within the limits': [
        ...problems,
        ...options.reconnectMs.flatMap(({ code, ms }) =>
          folded.faults.filter(f => f.code === code).flatMap(fault => checkReconnects(folded.gaps, fault, ms * factor)),
        ),
      ],
      'C6 read positions only forward, and stored as announced': checkReceipts({
        announced: [
          ...folded.announced,
          ...acked.map(a => ({ user: a.sender, conversation: a.conversation, seq: a.seq })),
        ],
        possible: rows
          .filter(row => row.kind === 'message.new')
          .map(({ senderId, conversation, seq }) => ({ user: senderId, conversation, seq })),
        observed: folded.observed,
        final: await world.query(
          `select user_id as user, conversation_id as conversation, last_read_seq::float8 as "readSeq"
             from conversation_member where conversation_id = any($1)`,
          [ids],
        ),
        heads,
      }),
      'C7 every epoch was given to that shard, and none goes back': [
        ...checkOwnership(rows, shardOf, epochs),
        ...checkEpochs(history),
      ],
      'C8 presence within its bounds': checkPresence(folded.presenceTruth, folded.presenceSeen),
      'C12 nothing left behind, no failure that nobody handled': [
        ...checkResources('at the end', resources.before, resources.after),
        ...checkLogs(world.logs()),
      ],
    },
  }
}

async function readRows(world: World, conversations: readonly string[]): Promise<Row[]> {
  const rows = await world.query<Row>(
    `select conversation_id as conversation, seq::float8 as seq, kind, sender_id as "senderId", client_id as "clientId",
            message_id as "messageId", body->>'content' as content, epoch::float8 as epoch
       from event where conversation_id = any($1) order by conversation_id, seq`,
    [conversations],
  )
  return rows.map(row => ({ ...row, content: row.content ?? undefined }))
}

interface RestEvent {
  type: string
  seq: number
  messageId?: string
  senderId?: string
  content?: string
}

async function readRest(world: World, conversation: string, token: string): Promise<History['restRows']> {
  const out: History['restRows'] = []
  for (let after = 0; ; after = out.at(-1)!.seq) {
    const response = await fetch(`${world.restUrl()}/conversations/${conversation}/events?after=${after}&limit=1000`, {
      headers: { authorization: `Bearer ${token}` },
    })
    if (!response.ok) throw new Error(`the log of ${conversation} could not be read: ${response.status}`)
    const page = (await response.json()) as { items: RestEvent[]; head_seq: number }
    for (const { seq, type: kind, messageId = '', senderId = '', content } of page.items)
      out.push({ conversation, seq, kind, messageId, senderId, content })
    if (page.items.length === 0 || out.at(-1)!.seq >= page.head_seq) return out
  }
}

/** What must be the same before and after. Everybody is connected and nothing is under way at both times. */
export async function countResources(world: World, devices: number): Promise<Resources> {
  const out: Resources = {}
  const sum = async (nodes: World['gateways'], name: string) => {
    let total = 0
    for (const node of nodes) total += (await node.metrics()).get(name) ?? 0
    return total
  }
  out['sockets beyond the devices'] = (await sum(world.gateways, 'parley_sockets')) - devices
  out['sends pending'] = await sum(world.gateways, 'parley_sends_pending')
  out['letters in mailboxes'] = await sum(world.engines, 'parley_mailbox_letters')
  out['positions taken twice'] = await sum(world.engines, 'parley_head_conflict_total')
  out['shards owned'] = await sum(world.engines, 'parley_shards_owned')
  for (const node of [...world.gateways, ...world.engines]) {
    const pid = node.pid()
    if (pid) out[`${node.name} rss`] = rssBytes(pid)
  }
  return out
}
