/**
 * Every kind of envelope, once: what clients send, what servers send, and the commands that only a gateway may give an
 * engine. Types and validators both come from these tables; docs/protocol.md is checked against them.
 * Refuses to act: what a frame does is decided in engine/conversation and gateway/session.
 */
import { authReasons, type ErrorCode, errorCodes } from './errors.ts'
import {
  bad,
  bool,
  content,
  type Field,
  type Fields,
  id,
  int,
  json,
  list,
  nullable,
  object,
  oneOf,
  opt,
  type Shape,
  Strict,
  text,
} from './field.ts'
import {
  attachmentsMax,
  emojiCharsMax,
  frameBytesMax,
  jsonDepthMax,
  presenceWatchMax,
  requestIdCharsMax,
  titleCharsMax,
  traceIdCharsMax,
} from './limits.ts'

const seq = int(1)
const position = int(0)
const title = text(titleCharsMax)
const emoji: Field<string> = {
  doc: `text 1–${emojiCharsMax}, no white space or control`,
  check: v => (typeof v === 'string' && /[\s\p{Cc}]/u.test(v) ? text(0, 1).check('') : text(emojiCharsMax, 1).check(v)),
}

export const conversationKinds = ['dm', 'group', 'ai'] as const
export type ConversationKind = (typeof conversationKinds)[number]
export const memberRoles = ['owner', 'admin', 'member'] as const
export type MemberRole = (typeof memberRoles)[number]
export const toolPolicies = ['requester', 'admins', 'members'] as const
export type ToolPolicy = (typeof toolPolicies)[number]
export const finishes = ['stop', 'length', 'stopped', 'interrupted', 'failed', 'tool_limit', 'filtered'] as const
export type Finish = (typeof finishes)[number]

const kind = oneOf(...conversationKinds)
const memberRole = oneOf(...memberRoles)
const toolPolicy = oneOf(...toolPolicies)
const finish = oneOf(...finishes)

// --- client → server -----------------------------------------------------------------------------------------------

const clientShapes = {
  auth: { token: text(frameBytesMax) },
  'room.join': { conversationId: id, afterSeq: opt(position) },
  'room.leave': { conversationId: id },
  'message.send': {
    conversationId: id,
    clientMessageId: id,
    content,
    replyTo: opt(seq),
    attachments: opt(list(id, attachmentsMax)),
  },
  'message.edit': { conversationId: id, messageId: id, content },
  'message.delete': { conversationId: id, messageId: id },
  'reaction.add': { conversationId: id, messageId: id, emoji },
  'reaction.remove': { conversationId: id, messageId: id, emoji },
  'typing.start': { conversationId: id },
  'typing.stop': { conversationId: id },
  'receipt.read': { conversationId: id, seq: position },
  'chat.send': { conversationId: id, clientMessageId: id, content },
  'chat.stop': { conversationId: id, messageId: id },
  'tool.decide': { conversationId: id, callId: text(128, 1), decision: oneOf('approve', 'reject') },
  'message.status': { conversationId: id, clientMessageId: id },
  'presence.watch': { userIds: list(id, presenceWatchMax) },
  ping: {},
} satisfies Record<string, Shape>

const everyClientFrame = { requestId: opt(text(requestIdCharsMax)), traceId: opt(text(traceIdCharsMax)) }

export type ClientType = keyof typeof clientShapes
export type ClientFrame<T extends ClientType = ClientType> = {
  [K in T]: { type: K } & Fields<(typeof clientShapes)[K]> & Fields<typeof everyClientFrame>
}[T]

// --- gateway → engine only -------------------------------------------------------------------------------------------

const member = object({ userId: id, role: memberRole })

const internalShapes = {
  /** Idempotent by id. `members`: the creator first. A dm has exactly two, both `member`. */
  'conversation.create': { conversationId: id, kind, title: opt(title), members: list(member, 100_000) },
  'conversation.update': { conversationId: id, title: opt(title), toolPolicy: opt(toolPolicy) },
  'conversation.delete': { conversationId: id },
  'member.add': { conversationId: id, userId: id, role: memberRole },
  'member.remove': { conversationId: id, userId: id },
  'member.role': { conversationId: id, userId: id, role: memberRole },
  /** To the pair's dm actor, whether the dm exists or not: the principal blocks or unblocks `userId`. */
  'block.set': { conversationId: id, userId: id, blocked: bool },
  /** The highest seq written to one of the principal's sockets or returned by REST. */
  'receipt.delivered': { conversationId: id, seq: position },
} satisfies Record<string, Shape>

export type InternalType = keyof typeof internalShapes

/** What a conversation actor accepts: the client frames that concern a conversation, and the internal commands. */
export type CommandType = Exclude<ClientType, 'auth' | 'ping' | 'presence.watch' | 'room.leave'> | InternalType
type CommandShape<T extends CommandType> = T extends ClientType
  ? (typeof clientShapes)[T]
  : T extends InternalType
    ? (typeof internalShapes)[T]
    : never
export type Command<T extends CommandType = CommandType> = {
  [K in T]: { type: K } & Fields<CommandShape<K>> & Fields<typeof everyClientFrame>
}[T]

// --- server → client ---------------------------------------------------------------------------------------------------

const tokens = object({ input: position, output: position, total: position })
const toolCall = object({
  callId: text(128),
  name: text(128),
  status: oneOf('success', 'error', 'pending'),
  result: opt(json),
})
const time = text(24, 24)
const attachment = object({
  id,
  name: text(255),
  type: text(127),
  bytes: position,
  width: opt(position),
  height: opt(position),
})
const conversationHead = { id, type: kind, title: opt(title), headSeq: position }
const anyContent = text(1_000_000)

const messageShape = {
  messageId: id,
  senderId: id,
  role: oneOf('user', 'assistant'),
  content: anyContent,
  replyTo: opt(seq),
  attachments: opt(list(attachment, attachmentsMax)),
  clientMessageId: opt(id),
  deleted: opt(bool),
  toolCalls: opt(list(toolCall, 100)),
  tokens: opt(tokens),
  finish: opt(finish),
  inReplyTo: opt(seq),
}
const membershipShape = {
  userId: opt(id),
  role: opt(memberRole),
  title: opt(title),
  toolPolicy: opt(toolPolicy),
  by: opt(id),
}
const toolShape = {
  callId: text(128),
  messageId: id,
  name: opt(text(128)),
  arguments: opt(json),
  approval: opt(oneOf('auto', 'required')),
  decision: opt(oneOf('approve', 'reject')),
  by: opt(id),
  status: opt(oneOf('success', 'error', 'pending')),
  result: opt(json),
}

/** Facts with a `seq`: these, and only these, are in the log. */
const durableShapes = {
  'message.new': messageShape,
  'message.edited': { messageId: id, senderId: id, content: anyContent },
  'message.deleted': { messageId: id, senderId: id },
  'reaction.updated': { messageId: id, emoji, userId: id, added: bool },
  'room.member_joined': membershipShape,
  'room.member_left': membershipShape,
  'room.member_role': membershipShape,
  'room.updated': membershipShape,
  'chat.started': { messageId: id, inReplyTo: seq, requestedBy: id, model: text(256) },
  'tool.called': toolShape,
  'tool.decided': toolShape,
  'tool.returned': toolShape,
} satisfies Record<string, Shape>

const fleetingShapes = {
  ready: {
    userId: id,
    sessionId: id,
    serverTime: time,
    heartbeatMs: position,
    conversations: list(object({ ...conversationHead, readSeq: position, unread: position }), 200),
    others: list(object({ id, headSeq: position }), 2000),
  },
  ack: {
    conversationId: opt(id),
    clientMessageId: opt(id),
    messageId: opt(id),
    seq: opt(seq),
    duplicate: opt(bool),
  },
  'room.joined': {
    conversationId: id,
    headSeq: position,
    firstSeq: position,
    stream: opt(object({ messageId: id, offset: position, content: anyContent })),
  },
  'chat.queued': { conversationId: id, clientMessageId: id, position: seq },
  'chat.stream': { conversationId: id, messageId: id, offset: position, content: anyContent },
  'chat.done': {
    conversationId: id,
    messageId: id,
    seq,
    finish,
    tokens,
    bytes: position,
    sha256: text(64, 64),
  },
  typing: { conversationId: id, userId: id, on: bool },
  'receipt.updated': {
    conversationId: id,
    userId: opt(id),
    readSeq: opt(position),
    deliveredSeq: opt(position),
    views: opt(list(object({ seq, count: position }), 1000)),
  },
  presence: { userId: id, status: oneOf('online', 'offline', 'unknown'), lastSeen: opt(nullable(time)) },
  'conversation.added': { conversationId: id, conversation: object(conversationHead) },
  'conversation.removed': { conversationId: id },
  resync_required: {
    conversationId: id,
    reason: oneOf('too_far', 'ahead', 'gone'),
    firstSeq: position,
    headSeq: position,
  },
  'server.draining': { reconnectInMs: position },
  error: {
    conversationId: opt(id),
    code: oneOf(...(Object.keys(errorCodes) as ErrorCode[])),
    reason: opt(text(64)),
    message: text(1000),
    retryable: bool,
    retryAfterMs: opt(position),
    field: opt(text(65_536)),
    messageId: opt(id),
  },
  pong: {},
} satisfies Record<string, Shape>

const everyServerFrame = { ts: time, requestId: opt(text(requestIdCharsMax)), traceId: opt(text(256)) }
const everyDurableFrame = { conversationId: id, seq }

export type DurableType = keyof typeof durableShapes
export type FleetingType = keyof typeof fleetingShapes
export type ServerType = DurableType | FleetingType
export type DurableFrame<T extends DurableType = DurableType> = {
  [K in T]: { type: K } & Fields<(typeof durableShapes)[K]> &
    Fields<typeof everyDurableFrame> &
    Fields<typeof everyServerFrame>
}[T]
export type FleetingFrame<T extends FleetingType = FleetingType> = {
  [K in T]: { type: K } & Fields<(typeof fleetingShapes)[K]> & Fields<typeof everyServerFrame>
}[T]
export type ServerFrame = DurableFrame | FleetingFrame

/** The tables themselves, for the docs and for tests that go through all of them. */
export const catalogue = {
  client: clientShapes,
  internal: internalShapes,
  durable: durableShapes,
  fleeting: fleetingShapes,
} as const
export const clientTypes = Object.keys(clientShapes) as ClientType[]
export const durableTypes = Object.keys(durableShapes) as DurableType[]
export const reasonsOfUnauthorized = authReasons

// --- validators -----------------------------------------------------------------------------------------------------------

export type Parsed<F> = { frame: F } | { field?: string; why: string }

const strictClient = new Map<string, Strict>()
const strictCommand = new Map<string, Strict>()
const strictServer = new Map<string, Strict>()
const typeOnly: Field<string> = { doc: 'type', check: v => v as string }
for (const [type, shape] of Object.entries(clientShapes)) {
  const strict = new Strict({ type: typeOnly, ...shape, ...everyClientFrame })
  strictClient.set(type, strict)
  if (!['auth', 'ping', 'presence.watch', 'room.leave'].includes(type)) strictCommand.set(type, strict)
}
for (const [type, shape] of Object.entries(internalShapes)) {
  strictCommand.set(type, new Strict({ type: typeOnly, ...shape, ...everyClientFrame }))
}
for (const [type, shape] of Object.entries(durableShapes)) {
  strictServer.set(type, new Strict({ type: typeOnly, ...shape, ...everyDurableFrame, ...everyServerFrame }))
}
for (const [type, shape] of Object.entries(fleetingShapes)) {
  strictServer.set(type, new Strict({ type: typeOnly, ...shape, ...everyServerFrame }))
}

/** A client's text frame, validated and normalised, or the field at fault (none when it is no JSON object at all). */
export function parseClientFrame(source: string): Parsed<ClientFrame> {
  return parseAs<ClientFrame>(strictClient, source)
}

/** The body of a command letter, by the same tables: the engine trusts no gateway's word for it. */
export function parseCommand(source: string): Parsed<Command> {
  return parseAs<Command>(strictCommand, source)
}

/** Checks a frame that a server made, and leaves it as it is; for tests, the rig and the web app's development mode. */
export function checkServerFrame(value: unknown): Parsed<ServerFrame> {
  return checkAs<ServerFrame>(strictServer, value)
}

function parseAs<F>(shapes: Map<string, Strict>, source: string): Parsed<F> {
  if (isTooDeep(source)) return { why: `nested deeper than ${jsonDepthMax}` }
  let value: unknown
  try {
    value = JSON.parse(source)
  } catch {
    return { why: 'not JSON' }
  }
  return checkAs<F>(shapes, value)
}

function checkAs<F>(shapes: Map<string, Strict>, value: unknown): Parsed<F> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { why: 'not an object' }
  const type = (value as { type?: unknown }).type
  const strict = typeof type === 'string' ? shapes.get(type) : undefined
  if (!strict) return { field: 'type', why: 'unknown type' }
  const checked = strict.check(value)
  if (checked !== bad) return { frame: checked as F }
  const field = strict.fault(value)
  return { ...(field === undefined ? {} : { field }), why: `bad field` }
}

/** Whether brackets outside strings nest deeper than the limit, seen before any walk over the value. */
function isTooDeep(source: string): boolean {
  // Hardly a frame has so many brackets at all, and a search for the next one is far quicker than a look at each character.
  if (opened(source, '{') + opened(source, '[') <= jsonDepthMax) return false
  let depth = 0
  let inString = false
  for (let i = 0; i < source.length; i++) {
    const c = source.charCodeAt(i)
    if (inString) {
      if (c === 92) i++
      else if (c === 34) inString = false
    } else if (c === 34) inString = true
    else if (c === 91 || c === 123) {
      if (++depth > jsonDepthMax) return true
    } else if (c === 93 || c === 125) depth--
  }
  return false
}

/** How many of this bracket there are, in strings or not; one more than the limit stands for any more. */
function opened(source: string, bracket: string): number {
  let count = 0
  for (let at = source.indexOf(bracket); at >= 0 && count <= jsonDepthMax; at = source.indexOf(bracket, at + 1)) count++
  return count
}
