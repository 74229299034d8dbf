/**
 * The shapes of REST, once: what paths, queries and bodies may hold and what answers look like. snake_case, `null` for
 * absent values, strict. Limits come from protos/limits.ts.
 */
import { type TSchema, Type } from 'typebox'
import { conversationKinds, memberRoles, toolPolicies } from '#protos/catalogue.ts'
import * as limits from '#protos/limits.ts'
import { strict } from './route.ts'

const uuid = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
export const Id = Type.String({ pattern: uuid, description: 'A UUID.' })
const orNull = <T extends 'string' | 'integer' | 'object'>(type: T) =>
  Type.Unsafe<T extends 'string' ? string | null : T extends 'integer' ? number | null : object | null>({
    type: [type, 'null'],
  })
const words = <const T extends readonly string[]>(of: T) => Type.Unsafe<T[number]>({ type: 'string', enum: [...of] })
const Time = Type.String({ description: 'ISO 8601, UTC, milliseconds.' })
const Count = Type.Integer({ minimum: 0 })

// --- what clients send ----------------------------------------------------------------------------------------------------
export const Email = Type.String({ minLength: 3, maxLength: limits.emailCharsMax })
export const Password = Type.String({ minLength: limits.passwordCharsMin, maxLength: limits.passwordCharsMax })
/** Wider than a username may be: reserved names answer 409 before their length is looked at. */
export const GivenUsername = Type.String({ minLength: 1, maxLength: 64 })
export const DisplayName = Type.String({ minLength: 1, maxLength: limits.displayNameCharsMax })
export const AvatarUrl = Type.Unsafe<string | null>({ type: ['string', 'null'], maxLength: limits.avatarUrlCharsMax })
export const Title = Type.String({ maxLength: limits.titleCharsMax })
export const Kind = words(conversationKinds)
export const Role = words(memberRoles)
export const ToolPolicyWord = words(toolPolicies)
export const Content = Type.String({ minLength: 1, maxLength: limits.contentCharsMax })
/** Parameters of a query are text; their numbers are parsed by hand, so that nothing is coerced. */
export const Digits = Type.String({ pattern: '^[0-9]{1,16}$' })
/** How the document shows a parameter that is checked as text. */
export const shownAs = new WeakMap<object, TSchema>()
/** The size of a page: its bounds are the document's, the route parses it. */
export function pageLimit(usual: number, max: number) {
  const field = Type.Optional(Type.String({ pattern: '^[0-9]{1,16}$' }))
  shownAs.set(field, Type.Integer({ minimum: 1, maximum: max, default: usual }))
  return field
}

export const ConversationPath = strict({ id: Id })
export const MemberPath = strict({ id: Id, user_id: Id })
export const MessagePath = strict({ id: Id })
export const TaskPath = strict({ id: Id })
export const UsernamePath = strict({ username: Type.String({ minLength: 1, maxLength: 64 }) })

// --- what the server answers ------------------------------------------------------------------------------------------------
export const PublicUser = strict({
  id: Type.String(),
  username: orNull('string'),
  display_name: orNull('string'),
  avatar_url: orNull('string'),
  created_at: Time,
})
export const OwnUser = strict({
  id: Type.String(),
  username: orNull('string'),
  display_name: orNull('string'),
  avatar_url: orNull('string'),
  created_at: Time,
  email: orNull('string'),
  role: Type.String(),
  is_guest: Type.Boolean(),
})
export const SignedIn = strict({
  access_token: Type.String(),
  token_type: Type.String(),
  expires_in: Type.Integer(),
  user: OwnUser,
})
export const Member = strict({
  user_id: Type.String(),
  username: orNull('string'),
  display_name: orNull('string'),
  avatar_url: orNull('string'),
  role: Role,
  joined_at: Time,
})
export const Message = strict({
  id: Type.String(),
  conversation_id: Type.String(),
  seq: Count,
  sender_id: Type.String(),
  role: words(['user', 'assistant']),
  content: Type.String(),
  client_message_id: orNull('string'),
  reply_to: orNull('integer'),
  attachments: Type.Array(Type.Unknown()),
  reactions: Type.Array(strict({ emoji: Type.String(), count: Count, mine: Type.Boolean() })),
  edited_at: orNull('string'),
  deleted_at: orNull('string'),
  tool_calls: Type.Array(Type.Unknown()),
  tokens: Type.Unsafe<{ input: number; output: number; total: number } | null>({
    type: ['object', 'null'],
    properties: { input: { type: 'integer' }, output: { type: 'integer' }, total: { type: 'integer' } },
  }),
  finish: orNull('string'),
  created_at: Time,
})
export const Conversation = strict({
  id: Type.String(),
  type: Kind,
  title: orNull('string'),
  tool_policy: ToolPolicyWord,
  created_by: Type.String(),
  created_at: Time,
  updated_at: Time,
  head_seq: Count,
  first_seq: Count,
  read_seq: Count,
  unread: Count,
  last_message: Type.Unsafe<unknown>({ anyOf: [Message, { type: 'null' }] }),
  members: Type.Array(Member),
})
export const Task = strict({
  id: Type.String(),
  title: Type.String(),
  description: orNull('string'),
  completed: Type.Boolean(),
  created_at: Time,
  updated_at: Time,
  completed_at: orNull('string'),
})
export const Decision = words(['approve', 'reject'])
export const Decided = strict({
  conversation_id: Type.String(),
  call_id: Type.String(),
  decision: Decision,
  seq: Count,
  duplicate: Type.Boolean(),
})
export const Usage = strict({
  day: Type.String({ description: 'The day in UTC, YYYY-MM-DD.' }),
  resets_at: Time,
  tokens: strict({
    limit: orNull('integer'),
    used: Count,
    reserved: Count,
    left: orNull('integer'),
    is_estimated: Type.Boolean(),
  }),
})
export const Shown = strict({
  round: Type.Integer({ description: 'The request of the turn: 0, then one more after each round of tools.' }),
  seqs: Type.Array(Type.Integer(), { description: 'Messages, and the edits whose words they had.' }),
  at: Time,
})
export const Chat = strict({
  conversation_id: Type.String(),
  message_id: Type.String(),
  response: Type.String(),
  tool_calls: Type.Array(
    strict({
      tool_name: Type.String(),
      tool_id: Type.String(),
      status: words(['success', 'error', 'pending']),
      result: Type.Unknown(),
    }),
  ),
  tokens: strict({ input: Count, output: Count, total: Count }),
})
export const listOf = (item: TSchema) => strict({ items: Type.Array(item), next: Type.Optional(Type.String()) })
export const ErrorBodySchema = strict({
  error: Type.String(),
  error_code: Type.String(),
  request_id: Type.String(),
  details: Type.Optional(Type.Unsafe<Record<string, unknown>>({ type: 'object' })),
})
