/**
 * What the hub and presence read from Postgres: account, memberships with heads in one statement, stretches of the log, the
 * text of an answer. Owns the statements; refuses to write and to keep anything.
 */
import type { DatabaseError } from 'pg'
import { frameOf } from '#engine/storage/frames.ts'
import type { Sql } from '#gateway/auth/db.ts'
import type { DurableType, FleetingFrame } from '#protos/catalogue.ts'
import { unreadMax } from '#protos/limits.ts'
import type { Positions } from './positions.ts'

export type ReadyConversation = FleetingFrame<'ready'>['conversations'][number]

type ReadyRow = Omit<ReadyConversation, 'title'> & { title: string | null }

export interface Membership {
  userId: string
  conversation: string
  joinedSeq: number
  type: ReadyConversation['type']
  title: string | null
}

/** An event of the log as it goes to clients. `leaver`: whom it removes. */
export interface LogFrame {
  seq: number
  kind: DurableType
  senderId: string
  leaver?: string
  json: string
}

/** Of one log, what follows `after`. */
export interface Stretch {
  conversation: string
  after: number
  events: number
  bytes: number
}

export interface Reads {
  /** Whether this account may use a socket: it exists, is neither disabled nor deleted, and has a username. */
  isUsable(userId: string): Promise<boolean>
  memberships(userIds: readonly string[]): Promise<Membership[]>
  /** The conversations of each user, ids only, a row a user. Who has none is left out. */
  conversationsOf(userIds: readonly string[]): Promise<Map<string, Set<string>>>
  /** Memberships and heads at one moment, latest activity first. */
  ready(userId: string): Promise<ReadyConversation[]>
  /** Of each stretch its events, in order, as many as its limits allow; the first always. */
  frames(stretches: readonly Stretch[]): Promise<LogFrame[][]>
  /** The stored text of an answer in progress or ended; undefined when there is none. */
  answerText(answerId: string): Promise<string | undefined>
  /** The position of the last event that removed this user. */
  lastLeft(conversation: string, userId: string): Promise<number | undefined>
  /** Which of `others` share a conversation with the user and have not blocked them. */
  sharing(userId: string, others: readonly string[]): Promise<Set<string>>
}

const readyText = `
select c.id, c.kind as type, c.title, h.seq::float8 as "headSeq", r.seq::float8 as "readSeq", u.count::int as unread
from conversation_member m
join conversation c on c.id = m.conversation_id and c.deleted_at is null
left join unnest($2::uuid[], $3::bigint[]) as p(conversation_id, seq) on p.conversation_id = m.conversation_id
cross join lateral (select greatest(m.last_read_seq, p.seq) as seq) r
cross join lateral (
  select e.seq, e.created_at from event e where e.conversation_id = c.id order by e.seq desc limit 1) h
cross join lateral (
  select count(*) from (
    select 1 from event e where e.conversation_id = c.id and e.kind = 'message.new' and e.seq > r.seq
      and e.sender_id <> m.user_id and not exists (
        select 1 from message_state d where d.conversation_id = c.id and d.seq = e.seq and d.deleted_at is not null)
    limit ${unreadMax}) x) u
where m.user_id = $1 order by h.created_at desc, c.id desc`

/** The running sum ends a stretch at the byte limit; the first event always comes. A limit may not vary by row: $5 is the largest. */
const framesText = `
select w.n::int as n, x.* from unnest($1::uuid[], $2::bigint[], $3::int[], $4::int[]) with ordinality
  as w(conversation, after, events, bytes, n)
cross join lateral (
  select e.kind, e.seq::float8 as seq, e.sender_id, e.body::text as body, round(extract(epoch from e.created_at) * 1000)::float8 as at,
    s.deleted_at is not null and e.kind = 'message.new' as deleted,
    sum(octet_length(e.body::text) + 200) over (order by e.seq) as total, row_number() over (order by e.seq) as nth
  from (select * from event where conversation_id = w.conversation and seq > w.after order by seq limit $5) e
  left join message_state s on s.conversation_id = e.conversation_id and s.seq = e.seq) x
where x.nth = 1 or (x.total <= w.bytes and x.nth <= w.events) order by w.n, x.seq`

interface FrameRow {
  /** Which stretch, from 1. */
  n: number
  kind: DurableType
  seq: number
  sender_id: string
  body: string
  at: number
  deleted: boolean
}

export function createReads(db: Sql, positions: Positions): Reads {
  return {
    async isUsable(userId) {
      const { rows } = await db.query<{ ok: boolean }>(
        `select disabled_at is null and deleted_at is null and username is not null as ok from users where id = $1`,
        [userId],
      )
      return rows[0]?.ok === true
    },

    async memberships(userIds) {
      const { rows } = await db.query<{
        user_id: string
        conversation_id: string
        joined_seq: number
        kind: Membership['type']
        title: string | null
      }>(
        `select m.user_id, m.conversation_id, m.joined_seq::float8 as joined_seq, c.kind, c.title
         from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
         where m.user_id = any($1::uuid[])`,
        [userIds],
      )
      return rows.map(r => ({
        userId: r.user_id,
        conversation: r.conversation_id,
        joinedSeq: r.joined_seq,
        type: r.kind,
        title: r.title,
      }))
    },

    async conversationsOf(userIds) {
      const { rows } = await db.query<{ user_id: string; ids: string }>(
        `select m.user_id, string_agg(m.conversation_id::text, ',') as ids
         from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
         where m.user_id = any($1::uuid[]) group by m.user_id`,
        [userIds],
      )
      return new Map(rows.map(r => [r.user_id, new Set(r.ids.split(','))]))
    },

    async ready(userId) {
      const { conversations, seqs } = positions.of(userId)
      const { rows } = await db.query<ReadyRow>(readyText, [userId, conversations, seqs])
      return rows.map(({ title, ...row }) => (title === null ? row : { ...row, title }))
    },

    async frames(stretches) {
      const { rows } = await db.query<FrameRow>(framesText, [
        stretches.map(s => s.conversation),
        stretches.map(s => s.after),
        stretches.map(s => s.events),
        stretches.map(s => s.bytes),
        Math.max(...stretches.map(s => s.events)),
      ])
      const found: LogFrame[][] = stretches.map(() => [])
      for (const row of rows) found[row.n - 1]!.push(logFrame(stretches[row.n - 1]!.conversation, row))
      return found
    },

    async answerText(answerId) {
      const ended = await db.query<{ content: string }>(
        `select body ->> 'content' as content from event where message_id = $1 and kind = 'message.new'`,
        [answerId],
      )
      if (ended.rows[0]) return ended.rows[0].content
      const { rows } = await db.query<{ text: string }>(
        `select s.text from ai_run r join ai_segment s on s.run_id = r.id where r.answer_id = $1 order by s."offset"`,
        [answerId],
      )
      return rows.length === 0 ? undefined : rows.map(r => r.text).join('')
    },

    async lastLeft(conversation, userId) {
      const { rows } = await db.query<{ seq: number }>(
        `select seq::float8 as seq from event where conversation_id = $1 and kind = 'room.member_left'
           and body ->> 'userId' = $2 order by seq desc limit 1`,
        [conversation, userId],
      )
      return rows[0]?.seq
    },

    async sharing(userId, others) {
      const { rows } = await db.query<{ user_id: string }>(
        `select distinct o.user_id from conversation_member o
           join conversation_member m on m.conversation_id = o.conversation_id and m.user_id = $1
           join conversation c on c.id = o.conversation_id and c.deleted_at is null
         where o.user_id = any($2::uuid[])
           and not exists (select 1 from blocks b where b.blocker_id = o.user_id and b.blocked_id = $1)`,
        [userId, others],
      )
      return new Set(rows.map(r => r.user_id))
    },
  }
}

function logFrame(conversation: string, row: FrameRow): LogFrame {
  return {
    seq: row.seq,
    kind: row.kind,
    senderId: row.sender_id,
    ...(row.kind === 'room.member_left' ? { leaver: JSON.parse(row.body).userId as string } : {}),
    json: frameOf(conversation, row),
  }
}

/** For logs: the code of what the database said, never its words about values. */
export function codeOf(error: unknown): string {
  return (error as Partial<DatabaseError>).code ?? 'unknown'
}
