/**
 * What actors read on the primary: conversations as the log has them, heads, stored sends; and the few writes that need no
 * fence because they commute (receipt positions, slots, purges). Never writes the log.
 */
import type { Pool } from 'pg'
import type { Activation, Directory, MemberRow, StoredSend } from '#engine/actor/ports.ts'
import { segmentsKeptMs, segmentsPurgedMax } from '#protos/limits.ts'
import { readFrames } from './frames.ts'
import { rows, type Statement } from './query.ts'

const sql = {
  // One statement, one snapshot: members, runs and head of the same moment.
  activate: {
    name: 'dir_activate',
    text: `
select c.id, c.kind, c.title, c.tool_policy as "toolPolicy", c.created_by as "createdBy", c.deleted_at is not null as deleted,
       c.first_seq as "firstSeq",
       coalesce((select e.seq from event e where e.conversation_id = c.id order by e.seq desc limit 1), c.first_seq - 1) as head,
       (select json_agg(json_build_object('userId', m.user_id, 'role', m.role, 'joinedSeq', m.joined_seq,
               'readSeq', m.last_read_seq, 'deliveredSeq', m.last_delivered_seq) order by m.joined_seq, m.user_id)
          from conversation_member m where m.conversation_id = c.id) as members,
       (select json_agg(json_build_object('id', a.id, 'requester', a.requester, 'questionId', a.question_id,
               'questionSeq', a.question_seq, 'clientMessageId', a.client_message_id, 'answerId', a.answer_id,
               'status', a.status, 'trace', a.trace, 'createdAt', round(extract(epoch from a.created_at) * 1000),
               'startedAt', round(extract(epoch from a.started_at) * 1000),
               'prefix', coalesce((select string_agg(g.text, '' order by g."offset") from ai_segment g where g.run_id = a.id), ''),
               'calls', coalesce((select json_agg(json_build_object('callId', t.call_id, 'round', t.round, 'ordinal', t.ordinal,
                        'name', t.name, 'arguments', t.arguments, 'hash', encode(t.arguments_hash, 'hex'), 'approval', t.approval,
                        'expiresAt', round(extract(epoch from t.expires_at) * 1000), 'atBytes', t.at_bytes,
                        'decision', t.decision, 'status', t.status,
                        'result', case when t.status <> 'pending' then t.result::text end) order by t.round, t.ordinal)
                   from tool_call t where t.run_id = a.id), '[]'::json))
               order by a.question_seq)
          from ai_run a where c.kind <> 'dm' and a.conversation_id = c.id and a.status <> 'ended') as runs,
       case when c.kind = 'dm' then (
         select json_agg(b.blocker_id || '>' || b.blocked_id)
           from conversation_member x join conversation_member y on y.conversation_id = x.conversation_id
           join blocks b on b.blocker_id = x.user_id and b.blocked_id = y.user_id
          where x.conversation_id = c.id) end as blocks
  from conversation c where c.id = any($1::uuid[])`,
  },
  blocksBetween: {
    name: 'dir_blocks',
    text: `select blocker_id || '>' || blocked_id as pair from blocks
            where (blocker_id = $1 and blocked_id = $2) or (blocker_id = $2 and blocked_id = $1)`,
  },
  lookup: {
    name: 'dir_lookup',
    text: `select e.conversation_id as conversation, e.sender_id as "senderId", e.client_id as "clientId", e.seq,
                  e.message_id as "messageId", e.kind, encode(e.body_hash, 'hex') as "bodyHash"
             from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as w(conversation, sender, client)
             join event e on e.sender_id = w.sender and e.conversation_id = w.conversation and e.client_id = w.client`,
  },
  messages: {
    name: 'dir_messages',
    text: `select e.conversation_id as conversation, e.sender_id as "senderId", e.client_id as "clientId", e.seq,
                  e.message_id as "messageId", e.kind, encode(e.body_hash, 'hex') as "bodyHash"
             from unnest($1::uuid[], $2::uuid[]) as w(conversation, message)
             join event e on e.message_id = w.message and e.conversation_id = w.conversation and e.kind = 'message.new'`,
  },
  requesters: {
    name: 'dir_requesters',
    text: `select distinct t.conversation_id as conversation, t.call_id as "callId", t.requester
             from unnest($1::uuid[], $2::text[]) as w(conversation, call)
             join tool_call t on t.conversation_id = w.conversation and t.call_id = w.call`,
  },
  heads: {
    name: 'dir_heads',
    text: `select c.id, c.first_seq as "firstSeq", s.epoch,
                  coalesce((select e.seq from event e where e.conversation_id = c.id order by e.seq desc limit 1), c.first_seq - 1) as head
             from conversation c join shard s on s.shard_id = c.shard_id
            where c.id = any($1::uuid[])`,
  },
  // Rows are locked in order of their key, so that two flushes never wait for each other in a circle.
  flushReceipts: {
    name: 'dir_receipts',
    text: `
with input as (
  select conversation_id, user_id, max(read_seq) as r, greatest(max(delivered_seq), max(read_seq)) as d, max(at) as at, bool_or(mark) as mark
    from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
         as i(conversation_id, user_id, read_seq, delivered_seq, at, mark)
   group by 1, 2),
old as materialized (
  select i.*, to_timestamp(i.at / 1000.0) as moment, m.last_read_seq as old_r, m.last_delivered_seq as old_d
    from input i join conversation_member m using (conversation_id, user_id)
   order by conversation_id, user_id for update of m),
moved as (
  update conversation_member m
     set last_read_seq = greatest(m.last_read_seq, o.r), last_delivered_seq = greatest(m.last_delivered_seq, o.d)
    from old o
   where m.conversation_id = o.conversation_id and m.user_id = o.user_id and (o.r > o.old_r or o.d > o.old_d))
insert into receipt_mark (conversation_id, user_id, seq, delivered_at, read_at)
select conversation_id, user_id, seq, max(delivered_at), max(read_at)
  from (select conversation_id, user_id, d as seq, moment as delivered_at, null::timestamptz as read_at from old where mark and d > old_d
        union all
        select conversation_id, user_id, r, null, moment from old where mark and r > old_r) x
 group by 1, 2, 3
    on conflict (conversation_id, user_id, seq)
    do update set delivered_at = coalesce(receipt_mark.delivered_at, excluded.delivered_at),
                  read_at = coalesce(receipt_mark.read_at, excluded.read_at)`,
  },
  openRuns: {
    name: 'dir_open_runs',
    text: `select distinct conversation_id as id from ai_run where shard_id = any($1::int[]) and status <> 'ended'`,
  },
  // A run that holds one already, or finds the first taken, changes nothing; so at most one row comes of it.
  takeSlot: {
    name: 'dir_take_slot',
    text: `with put as (
             insert into ai_slot (user_id, n, run_id) select $1, n, $2 from generate_series(1, 2) as n
             on conflict do nothing returning 1)
           select exists (select 1 from put) or exists (select 1 from ai_slot where run_id = $2) as held`,
  },
  freeSlots: {
    name: 'dir_free_slots',
    text: `delete from ai_slot s using ai_run a where s.user_id = $1 and a.id = s.run_id and a.status = 'ended'`,
  },
  names: {
    name: 'dir_names',
    text: `select id, username, display_name as "displayName" from users where id = any($1::uuid[])`,
  },
  blockedBy: {
    name: 'dir_blocked',
    text: `select blocked_id as id from blocks where blocker_id = $1 and blocked_id = any($2::uuid[])`,
  },
  noteContext: {
    name: 'dir_context',
    // The count makes the new row wait until the one of an earlier request for the same round is gone.
    text: `with gone as (delete from ai_context where run_id = $1 and round = $2 returning 1)
           insert into ai_context (run_id, round, conversation_id, seqs) select $1, $2, $3, $4 from (select count(*) from gone) g`,
  },
  purgeSegments: {
    name: 'dir_purge_segments',
    text: `delete from ai_segment g using ai_run a where g.run_id = any($1::uuid[]) and a.id = g.run_id and a.status = 'ended'`,
  },
  purgeLeftSegments: {
    name: 'dir_purge_left_segments',
    text: `with old as materialized (
             select g.run_id, g."offset" from ai_segment g join ai_run a on a.id = g.run_id
              where a.shard_id = any($1::int[]) and a.status = 'ended'
                and a.ended_at < clock_timestamp() - interval '${segmentsKeptMs} milliseconds'
              limit ${segmentsPurgedMax}),
           gone as (delete from ai_segment g using old where g.run_id = old.run_id and g."offset" = old."offset" returning 1)
           select count(*)::int as count from gone`,
  },
} as const satisfies Record<string, Statement>

type ActivationRow = Omit<Activation, 'members' | 'runs' | 'blocks'> & {
  members: string | null
  runs: string | null
  blocks: string | null
}

/** `named` false: behind a pooler that hands each transaction another connection. */
export function createDirectory({ pool, named = true }: { pool: Pool; named?: boolean }): Directory {
  return {
    async activate(ids) {
      const found = await rows<ActivationRow>(pool, sql.activate, [ids], named)
      return new Map(
        found.map(row => [
          row.id,
          {
            ...row,
            members: parse<MemberRow>(row.members),
            runs: parse<Activation['runs'][number]>(row.runs),
            blocks: parse<string>(row.blocks),
          },
        ]),
      )
    },

    async blocksBetween(a, b) {
      return (await rows<{ pair: string }>(pool, sql.blocksBetween, [a, b], named)).map(row => row.pair)
    },

    async lookup(keys) {
      if (keys.length === 0) return []
      const values = [keys.map(k => k.conversation), keys.map(k => k.senderId), keys.map(k => k.clientId)]
      return rows<StoredSend>(pool, sql.lookup, values, named)
    },

    async messages(keys) {
      if (keys.length === 0) return []
      const values = [keys.map(k => k.conversation), keys.map(k => k.messageId)]
      return rows<StoredSend>(pool, sql.messages, values, named)
    },

    async requesters(keys) {
      const values = [keys.map(k => k.conversation), keys.map(k => k.callId)]
      return rows<{ conversation: string; callId: string; requester: string }>(pool, sql.requesters, values, named)
    },

    async heads(ids) {
      const found = await rows<{ id: string; head: number; firstSeq: number; epoch: number }>(
        pool,
        sql.heads,
        [ids],
        named,
      )
      return new Map(found.map(({ id, ...rest }) => [id, rest]))
    },

    events: (conversation, after, limits) => readFrames(pool, conversation, after, limits, named),

    async flushReceipts(receipts) {
      if (receipts.length === 0) return
      const values = [
        receipts.map(r => r.conversation),
        receipts.map(r => r.userId),
        receipts.map(r => r.readSeq),
        receipts.map(r => r.deliveredSeq),
        receipts.map(r => Math.round(r.at)),
        receipts.map(r => r.mark),
      ]
      await rows(pool, sql.flushReceipts, values, named)
    },

    async openRuns(shards) {
      return (await rows<{ id: string }>(pool, sql.openRuns, [shards], named)).map(row => row.id)
    },

    async takeSlot(requester, runId) {
      const take = async () => (await rows<{ held: boolean }>(pool, sql.takeSlot, [requester, runId], named))[0]!.held
      if (await take()) return true
      await rows(pool, sql.freeSlots, [requester], named)
      return take()
    },

    async names(userIds) {
      const found = await rows<{ id: string; username: string | null; displayName: string | null }>(
        pool,
        sql.names,
        [userIds],
        named,
      )
      return new Map(found.map(({ id, ...names }) => [id, names]))
    },

    async blockedBy(userId, others) {
      if (others.length === 0) return []
      return (await rows<{ id: string }>(pool, sql.blockedBy, [userId, others], named)).map(row => row.id)
    },

    async noteContext({ runId, round, conversation, seqs }) {
      await rows(pool, sql.noteContext, [runId, round, conversation, seqs], named)
    },

    async purgeSegments(runIds) {
      if (runIds.length > 0) await rows(pool, sql.purgeSegments, [runIds], named)
    },

    async purgeLeftSegments(shards) {
      const [found] = await rows<{ count: number }>(pool, sql.purgeLeftSegments, [shards], named)
      return { isAll: found!.count < segmentsPurgedMax }
    },
  }
}

function parse<T>(json: string | null): T[] {
  return json === null ? [] : (JSON.parse(json) as T[])
}
