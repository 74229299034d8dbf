/**
 * Reads of REST: conversations, history, raw events, as the wire has them (snake_case, `null` for absent). Every read
 * carries the reader and sees only what a member sees. Refuses to write; the log is the engine's.
 */
import { frameOf } from '#engine/storage/frames.ts'
import type { Sql } from '#gateway/auth/db.ts'
import type { Positions } from '#gateway/positions.ts'
import { unreadMax } from '#protos/limits.ts'
import {
  type ConversationRow,
  type ConversationView,
  conversationView,
  type MemberView,
  type MessageRow,
  type MessageView,
  messageView,
} from './views.ts'

/** Where a page begins, exclusive: a position, a message, a time (ms since 1970). */
export type Mark = { seq: number } | { id: string } | { at: number }

export interface Reader {
  /** What the reader's membership says; undefined for a stranger, a removed member, a deleted conversation. */
  membership(conversation: string, reader: string): Promise<{ head_seq: number; first_seq: number } | undefined>
  conversation(id: string, reader: string): Promise<ConversationView | undefined>
  /** Latest activity first. `after` is the last one of the page before. */
  conversations(
    reader: string,
    after: { at: number; id: string } | undefined,
    limit: number,
  ): Promise<ConversationView[]>
  member(conversation: string, userId: string): Promise<MemberView | undefined>
  /** Oldest first. `hasMore`: there are more beyond the far end. Undefined when the mark names no message here. */
  history(
    conversation: string,
    reader: string,
    page: { direction: 'before' | 'after'; mark?: Mark; limit: number },
  ): Promise<{ items: MessageView[]; hasMore: boolean } | undefined>
  message(conversation: string, seq: number, reader: string): Promise<MessageView | undefined>
  /** Where a message lies, if the reader is a member there. */
  positionOf(messageId: string, reader: string): Promise<{ conversation_id: string; seq: number } | undefined>
  /** Whole frames as JSON texts, `seq` above `after`. */
  events(conversation: string, reader: string, after: number, limit: number): Promise<string[]>
}

const iso = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

const messageColumns = `e.message_id, e.conversation_id, e.seq::float8 as seq, e.sender_id, e.body::text as body,
  ${iso('e.created_at')} as created_at, s.edited_text, ${iso('s.edited_at')} as edited_at,
  ${iso('s.deleted_at')} as deleted_at, s.reactions::text as reactions`
const messageState = 'left join message_state s on s.conversation_id = e.conversation_id and s.seq = e.seq'
/** Statement after statement the same condition: $1 is the conversation, $2 the reader. */
const isMember = `exists (select 1 from conversation_member m join conversation c on c.id = m.conversation_id
  where m.conversation_id = $1 and m.user_id = $2 and c.deleted_at is null)`

/** $1 is the reader, $2 and $3 what is known of the reader's positions. The page is cut before anything dear is looked at: unread and last line of what is shown only. */
const conversationSelect = (filter: string, limit = '') => `
with page as materialized (
  select c.id, c.kind, c.title, c.tool_policy, c.created_by, c.created_at, c.first_seq, greatest(m.last_read_seq, p.seq) as last_read_seq, m.user_id,
    h.seq as head, h.created_at as active_at
  from conversation_member m
  join conversation c on c.id = m.conversation_id and c.deleted_at is null
  left join unnest($2::uuid[], $3::bigint[]) as p(conversation_id, seq) on p.conversation_id = m.conversation_id
  cross join lateral (
    select e.seq, e.created_at from event e where e.conversation_id = c.id order by e.seq desc limit 1) h
  where m.user_id = $1 and ${filter}
  order by h.created_at desc, c.id desc ${limit})
select c.id, c.kind as type, c.title, c.tool_policy, c.created_by, ${iso('c.created_at')} as created_at,
  ${iso('c.active_at')} as updated_at, c.head::float8 as head_seq, c.first_seq::float8 as first_seq,
  c.last_read_seq::float8 as read_seq, u.count::int as unread, l.*
from page c
cross join lateral (
  select count(*) from (
    select 1 from event e where e.conversation_id = c.id and e.kind = 'message.new' and e.seq > c.last_read_seq
      and e.sender_id <> c.user_id and not exists (
        select 1 from message_state d where d.conversation_id = c.id and d.seq = e.seq and d.deleted_at is not null)
    limit ${unreadMax}) x) u
left join lateral (
  select e.message_id as last_id, e.seq::float8 as last_seq, e.sender_id as last_sender, e.body::text as last_body,
    ${iso('e.created_at')} as last_at, s.edited_text as last_text, ${iso('s.edited_at')} as last_edited,
    ${iso('s.deleted_at')} as last_deleted, s.reactions::text as last_reactions
  from event e ${messageState}
  where e.conversation_id = c.id and e.kind = 'message.new' order by e.seq desc limit 1) l on true
order by c.active_at desc, c.id desc`

const memberSelect = `
select m.conversation_id, m.user_id, u.username, u.display_name, u.avatar_url, m.role, ${iso('m.joined_at')} as joined_at
from conversation_member m join users u on u.id = m.user_id`

export function createReader(db: Sql, positions: Positions): Reader {
  const known = (reader: string) => {
    const { conversations, seqs } = positions.of(reader)
    return [reader, conversations, seqs]
  }

  async function withMembers(rows: ConversationRow[], reader: string): Promise<ConversationView[]> {
    if (rows.length === 0) return []
    const found = await db.query<MemberView & { conversation_id: string }>(
      `${memberSelect} where m.conversation_id = any($1) order by m.joined_seq, m.user_id`,
      [rows.map(r => r.id)],
    )
    const members = new Map<string, MemberView[]>(rows.map(r => [r.id, []]))
    for (const { conversation_id, ...member } of found.rows) members.get(conversation_id)!.push(member)
    return rows.map(r => conversationView(r, reader, members.get(r.id)!))
  }

  return {
    async membership(conversation, reader) {
      const { rows } = await db.query<{ head_seq: number; first_seq: number }>(
        `select c.first_seq::float8 as first_seq, coalesce((
           select e.seq from event e where e.conversation_id = c.id order by e.seq desc limit 1), 0)::float8 as head_seq
         from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
         where m.conversation_id = $1 and m.user_id = $2`,
        [conversation, reader],
      )
      return rows[0]
    },

    async conversation(id, reader) {
      const { rows } = await db.query<ConversationRow>(conversationSelect('m.conversation_id = $4'), [
        ...known(reader),
        id,
      ])
      return (await withMembers(rows, reader))[0]
    },

    async conversations(reader, after, limit) {
      const { rows } = await db.query<ConversationRow>(
        conversationSelect(
          '($4::float8 is null or (h.created_at, c.id) < (to_timestamp($4 / 1000), $5::uuid))',
          'limit $6',
        ),
        [...known(reader), after?.at ?? null, after?.id ?? null, limit],
      )
      return withMembers(rows, reader)
    },

    async member(conversation, userId) {
      const { rows } = await db.query<MemberView & { conversation_id: string }>(
        `${memberSelect} where m.conversation_id = $1 and m.user_id = $2`,
        [conversation, userId],
      )
      if (!rows[0]) return undefined
      const { conversation_id: _, ...member } = rows[0]
      return member
    },

    async history(conversation, reader, { direction, mark, limit }) {
      let seq: number | null = null
      let at: number | null = null
      if (mark && 'seq' in mark) seq = mark.seq
      else if (mark && 'at' in mark) at = mark.at
      else if (mark) {
        const { rows } = await db.query<{ seq: number }>(
          `select seq::float8 as seq from event where message_id = $1 and conversation_id = $2 and kind = 'message.new'`,
          [mark.id, conversation],
        )
        if (!rows[0]) return undefined
        seq = rows[0].seq
      }
      const isBackward = direction === 'before'
      const { rows } = await db.query<MessageRow>(
        `select ${messageColumns} from event e ${messageState}
         where e.conversation_id = $1 and ${isMember} and e.kind = 'message.new'
           and ($3::bigint is null or e.seq ${isBackward ? '<' : '>'} $3)
           and ($4::float8 is null or e.created_at ${isBackward ? '<' : '>'} to_timestamp($4 / 1000))
         order by e.seq ${isBackward ? 'desc' : 'asc'} limit $5`,
        [conversation, reader, seq, at, limit + 1],
      )
      const items = rows.slice(0, limit).map(r => messageView(r, reader))
      if (isBackward) items.reverse()
      return { items, hasMore: rows.length > limit }
    },

    async message(conversation, seq, reader) {
      const { rows } = await db.query<MessageRow>(
        `select ${messageColumns} from event e ${messageState}
         where e.conversation_id = $1 and ${isMember} and e.seq = $3 and e.kind = 'message.new'`,
        [conversation, reader, seq],
      )
      return rows[0] && messageView(rows[0], reader)
    },

    async positionOf(messageId, reader) {
      const { rows } = await db.query<{ conversation_id: string; seq: number }>(
        `select e.conversation_id, e.seq::float8 as seq from event e
         join conversation_member m on m.conversation_id = e.conversation_id and m.user_id = $2
         join conversation c on c.id = e.conversation_id and c.deleted_at is null
         where e.message_id = $1 and e.kind = 'message.new'`,
        [messageId, reader],
      )
      return rows[0]
    },

    async events(conversation, reader, after, limit) {
      const { rows } = await db.query<{ kind: string; seq: number; body: string; at: number; deleted: boolean }>(
        `select e.kind, e.seq::float8 as seq, e.body::text as body,
           round(extract(epoch from e.created_at) * 1000)::float8 as at, s.deleted_at is not null as deleted
         from event e ${messageState}
         where e.conversation_id = $1 and ${isMember} and e.seq > $3 order by e.seq limit $4`,
        [conversation, reader, after, limit],
      )
      return rows.map(row => frameOf(conversation, row))
    },
  }
}
