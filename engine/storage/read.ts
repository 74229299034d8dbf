/**
 * What a gateway reads for its sockets: memberships with heads, gaps of the log, who shares a room with whom. Plain reads
 * under parley_gateway, which may not write the log. History and lists of REST are gateway/http's own.
 */
import type { Pool } from 'pg'
import type { ConversationKind } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { readyConversationsMax, unreadMax } from '#protos/limits.ts'
import { type FramePage, readFrames } from './frames.ts'
import { rows, type Statement } from './query.ts'

export interface ReadyConversation {
  id: string
  kind: ConversationKind
  title: string | null
  head: number
  firstSeq: number
  readSeq: number
  /** 0–100; only of the first 200, else 0. */
  unread: number
}

export interface ConversationHead {
  id: string
  kind: ConversationKind
  title: string | null
  head: number
  firstSeq: number
}

export interface ReadSide {
  /** Every conversation of the user, latest activity first: one statement, one snapshot. */
  readyFor(userId: string): Promise<ReadyConversation[]>
  /** The same without unread, for several users at once. */
  membershipsOf(userIds: readonly string[]): Promise<Map<string, ConversationHead[]>>
  /** Kind, title and head of living conversations, membership not looked at. */
  conversations(ids: readonly string[]): Promise<Map<string, ConversationHead>>
  heads(ids: readonly string[]): Promise<Map<string, { head: number; firstSeq: number }>>
  /** Whole frames above `after`, in order. Membership is not looked at. */
  frames(conversation: string, after: number, limits: { events: number; bytes: number }): Promise<FramePage>
  /** Of a conversation that exists and is not deleted. */
  isMember(conversation: string, userId: string): Promise<boolean>
  membersOf(conversations: readonly string[]): Promise<Map<string, string[]>>
  /** Which of the others share a living conversation with the user. The assistant shares one with everybody in an `ai` or a group. */
  sharesConversation(userId: string, others: readonly string[]): Promise<Set<string>>
}

const head = (of: string) =>
  `coalesce((select e.seq from event e where e.conversation_id = ${of}.id order by e.seq desc limit 1), ${of}.first_seq - 1)`

const sql = {
  ready: {
    name: 'read_ready',
    text: `
with mine as materialized (
  select c.id, c.kind, c.title, c.first_seq, m.last_read_seq, m.user_id, l.seq as head,
         row_number() over (order by l.created_at desc nulls last, c.id desc) as place
    from conversation_member m
    join conversation c on c.id = m.conversation_id and c.deleted_at is null
    left join lateral (
      select e.seq, e.created_at from event e where e.conversation_id = c.id order by e.seq desc limit 1) l on true
   where m.user_id = $1)
select id, kind, title, first_seq as "firstSeq", coalesce(head, first_seq - 1) as head, last_read_seq as "readSeq",
       case when place > ${readyConversationsMax} then 0 else (
         select count(*) from (
           select 1 from event e
            where e.conversation_id = mine.id and e.kind = 'message.new' and e.seq > mine.last_read_seq
              and e.sender_id <> mine.user_id
              and not exists (select 1 from message_state s
                               where s.conversation_id = e.conversation_id and s.seq = e.seq and s.deleted_at is not null)
            limit ${unreadMax}) x) end as unread
  from mine order by place`,
  },
  memberships: {
    name: 'read_memberships',
    text: `select m.user_id as "userId", c.id, c.kind, c.title, c.first_seq as "firstSeq", ${head('c')} as head
             from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
            where m.user_id = any($1::uuid[])`,
  },
  conversations: {
    name: 'read_conversations',
    text: `select c.id, c.kind, c.title, c.first_seq as "firstSeq", ${head('c')} as head
             from conversation c where c.id = any($1::uuid[]) and c.deleted_at is null`,
  },
  isMember: {
    name: 'read_is_member',
    text: `select 1 from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
            where m.conversation_id = $1 and m.user_id = $2`,
  },
  members: {
    name: 'read_members',
    text: `select conversation_id as conversation, user_id as "userId" from conversation_member
            where conversation_id = any($1::uuid[]) order by joined_seq, user_id`,
  },
  shares: {
    name: 'read_shares',
    text: `select o.id from unnest($2::uuid[]) as o(id)
            where exists (
              select 1 from conversation_member m join conversation c on c.id = m.conversation_id and c.deleted_at is null
               where m.user_id = $1 and (
                 (o.id = '${assistantId}' and c.kind in ('ai', 'group')) or
                 exists (select 1 from conversation_member x where x.conversation_id = m.conversation_id and x.user_id = o.id)))`,
  },
} as const satisfies Record<string, Statement>

/** `named` false: behind a pooler that hands each transaction another connection. */
export function createReadSide({ pool, named = true }: { pool: Pool; named?: boolean }): ReadSide {
  const conversations = async (ids: readonly string[]) =>
    new Map((await rows<ConversationHead>(pool, sql.conversations, [ids], named)).map(row => [row.id, row]))
  return {
    readyFor: userId => rows<ReadyConversation>(pool, sql.ready, [userId], named),

    async membershipsOf(userIds) {
      const found = await rows<ConversationHead & { userId: string }>(pool, sql.memberships, [userIds], named)
      const byUser = new Map<string, ConversationHead[]>(userIds.map(id => [id, []]))
      for (const { userId, ...conversation } of found) byUser.get(userId)?.push(conversation)
      return byUser
    },

    conversations,

    heads: conversations,

    frames: (conversation, after, limits) => readFrames(pool, conversation, after, limits, named),

    async isMember(conversation, userId) {
      return (await rows(pool, sql.isMember, [conversation, userId], named)).length > 0
    },

    async membersOf(ids) {
      const found = await rows<{ conversation: string; userId: string }>(pool, sql.members, [ids], named)
      const members = new Map<string, string[]>(ids.map(id => [id, []]))
      for (const { conversation, userId } of found) members.get(conversation)?.push(userId)
      return members
    },

    async sharesConversation(userId, others) {
      if (others.length === 0) return new Set()
      const found = await rows<{ id: string }>(pool, sql.shares, [userId, others], named)
      return new Set(found.map(row => row.id))
    },
  }
}
