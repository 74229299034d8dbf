/**
 * What REST shows of conversations and messages, and how rows become it: snake_case, `null` for absent, the latest text of
 * an edited message, nothing of a deleted one. Pure.
 */

export interface ConversationView {
  id: string
  type: 'dm' | 'group' | 'ai'
  title: string | null
  tool_policy: string
  created_by: string
  created_at: string
  updated_at: string
  head_seq: number
  first_seq: number
  read_seq: number
  unread: number
  last_message: MessageView | null
  members: MemberView[]
}
export interface MemberView {
  user_id: string
  username: string | null
  display_name: string | null
  avatar_url: string | null
  role: string
  joined_at: string
}
export interface MessageView {
  id: string
  conversation_id: string
  seq: number
  sender_id: string
  role: string
  content: string
  client_message_id: string | null
  reply_to: number | null
  attachments: unknown[]
  reactions: { emoji: string; count: number; mine: boolean }[]
  edited_at: string | null
  deleted_at: string | null
  tool_calls: unknown[]
  tokens: unknown
  finish: string | null
  created_at: string
}

export interface MessageRow {
  message_id: string
  conversation_id: string
  seq: number
  sender_id: string
  body: string
  created_at: string
  edited_text: string | null
  edited_at: string | null
  deleted_at: string | null
  reactions: string | null
}

export type ConversationRow = Omit<ConversationView, 'last_message' | 'members'> & {
  last_id: string | null
  last_seq: number
  last_sender: string
  last_body: string
  last_at: string
  last_text: string | null
  last_edited: string | null
  last_deleted: string | null
  last_reactions: string | null
}

export function conversationView(row: ConversationRow, reader: string, members: MemberView[]): ConversationView {
  const { last_id, last_seq, last_sender, last_body, last_at, last_text, last_edited, last_deleted, last_reactions } =
    row
  const last: MessageRow | null = last_id
    ? {
        message_id: last_id,
        conversation_id: row.id,
        seq: last_seq,
        sender_id: last_sender,
        body: last_body,
        created_at: last_at,
        edited_text: last_text,
        edited_at: last_edited,
        deleted_at: last_deleted,
        reactions: last_reactions,
      }
    : null
  return {
    id: row.id,
    type: row.type,
    title: row.title,
    tool_policy: row.tool_policy,
    created_by: row.created_by,
    created_at: row.created_at,
    updated_at: row.updated_at,
    head_seq: row.head_seq,
    first_seq: row.first_seq,
    read_seq: row.read_seq,
    unread: row.unread,
    last_message: last && messageView(last, reader),
    members,
  }
}

/** What the log says of a message and what changed since: history shows the latest. */
export function messageView(row: MessageRow, reader: string): MessageView {
  const body = JSON.parse(row.body) as Record<string, unknown>
  const isDeleted = row.deleted_at !== null
  return {
    id: row.message_id,
    conversation_id: row.conversation_id,
    seq: row.seq,
    sender_id: row.sender_id,
    role: body['role'] as string,
    content: isDeleted ? '' : (row.edited_text ?? (body['content'] as string)),
    client_message_id: (body['clientMessageId'] as string | undefined) ?? null,
    reply_to: (body['replyTo'] as number | undefined) ?? null,
    attachments: isDeleted ? [] : ((body['attachments'] as unknown[] | undefined) ?? []),
    reactions: isDeleted ? [] : reactionsOf(row.reactions, reader),
    edited_at: isDeleted ? null : row.edited_at,
    deleted_at: row.deleted_at,
    tool_calls: (body['toolCalls'] as unknown[] | undefined) ?? [],
    tokens: body['tokens'] ?? null,
    finish: (body['finish'] as string | undefined) ?? null,
    created_at: row.created_at,
  }
}

/** Kept as emoji → user ids. */
function reactionsOf(text: string | null, reader: string): MessageView['reactions'] {
  const users = JSON.parse(text ?? '{}') as Record<string, string[]>
  return Object.entries(users)
    .filter(([, ids]) => ids.length > 0)
    .map(([emoji, ids]) => ({ emoji, count: ids.length, mine: ids.includes(reader) }))
}
