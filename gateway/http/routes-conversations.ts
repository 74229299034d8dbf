/**
 * Routes of conversations and members. Ids are chosen and names resolved here; who may do what is decided by the
 * conversation's actor. A stranger is answered 404 before anything else is looked at.
 */
import { Type } from 'typebox'
import type { Clock } from '#engine/ops/clock.ts'
import { conflict, forbidden, invalid, limited, notFound, Refusal } from '#gateway/auth/failure.ts'
import type { Command } from '#protos/catalogue.ts'
import { dmId } from '#protos/ids.ts'
import { conversationsPageMax, conversationsPerUserMax, usernamesPerRequestMax } from '#protos/limits.ts'
import type { Commands } from './commands.ts'
import { exampleConversation, exampleMember } from './examples.ts'
import type { Limiter, LimitName } from './limiter.ts'
import type { FoundPerson, People } from './people.ts'
import type { Reader } from './reader.ts'
import { type RouteSpec, route, strict } from './route.ts'
import { pageSize, sha1 } from './routes-people.ts'
import * as s from './schemas.ts'

const conversationsPageDefault = 50
const titleDefault = 'New Conversation'

export function conversationRoutes(deps: {
  people: People
  reader: Reader
  commands: Commands
  clock: Clock
  groupMembersMax: number
  limiter: Limiter
}): RouteSpec[] {
  const { people, reader, commands, clock, groupMembersMax, limiter } = deps

  function take(limit: LimitName, userId: string): void {
    const waitMs = limiter.take(limit, userId)
    if (waitMs > 0) throw limited(limit, waitMs)
  }

  async function mustBeMember(conversation: string, userId: string): Promise<void> {
    if (!(await reader.membership(conversation, userId))) throw notFound('There is no such conversation.')
  }

  async function viewed(id: string, userId: string) {
    const view = await reader.conversation(id, userId)
    if (!view) throw notFound('There is no such conversation.')
    return view
  }

  /** The people of these names, each once, without the asker; all must exist, none may be the assistant. */
  async function resolve(usernames: readonly string[], self: string): Promise<FoundPerson[]> {
    const names = [...new Set(usernames.map(n => n.toLowerCase()))]
    const found = await people.byNames(names)
    const unknown = names.filter(n => !found.has(n))
    if (unknown.length > 0) {
      throw new Refusal(404, 'NOT_FOUND', 'Nobody has this name.', { usernames: unknown.slice(0, 20) })
    }
    const persons = names.map(n => found.get(n)!)
    if (persons.some(p => p.is_bot)) throw forbidden('The assistant takes part without being a member.')
    return persons.filter(p => p.id !== self)
  }

  async function mustHaveRoom(userIds: string[]): Promise<void> {
    if ((await people.crowded(userIds, conversationsPerUserMax)).length > 0) {
      throw conflict('Someone is in as many conversations as possible.', { limit: conversationsPerUserMax })
    }
  }

  type Asked = { type: 'dm' | 'group' | 'ai'; title?: string; usernames?: string[] }
  async function creation(asked: Asked, self: string): Promise<Command<'conversation.create'>> {
    const { type: kind, title, usernames = [] } = asked
    if (kind === 'dm') {
      if (title !== undefined) throw invalid('A direct conversation has no title.', 'title')
      if (usernames.length !== 1) throw invalid('A direct conversation is with one other person.', 'usernames')
      const [other] = await resolve(usernames, self)
      if (!other) throw invalid('A direct conversation is with somebody else.', 'usernames')
      const members = [self, other.id].map(userId => ({ userId, role: 'member' as const }))
      return { type: 'conversation.create', conversationId: dmId(self, other.id, sha1), kind, members }
    }
    if (kind === 'ai' && usernames.length > 0) throw invalid('Talking to the assistant is for one person.', 'usernames')
    const others = await resolve(usernames, self)
    if (others.length + 1 > groupMembersMax) {
      throw conflict(`A group has at most ${groupMembersMax} members.`, { limit: groupMembersMax })
    }
    const members = [
      { userId: self, role: 'owner' as const },
      ...others.map(p => ({ userId: p.id, role: 'member' as const })),
    ]
    return { type: 'conversation.create', conversationId: clock.id(), kind, title: title ?? titleDefault, members }
  }

  return [
    route({
      method: 'POST',
      path: '/conversations',
      auth: 'bearer',
      tag: 'conversations',
      summary: 'Makes a direct, group or assistant conversation; the same direct one again answers it.',
      body: strict({
        type: s.Kind,
        title: Type.Optional(s.Title),
        usernames: Type.Optional(Type.Array(s.GivenUsername, { maxItems: usernamesPerRequestMax })),
      }),
      bodyExample: { type: 'group', title: 'Engines', usernames: ['bob'] },
      answers: {
        200: { schema: s.Conversation, example: exampleConversation, doc: 'Was there already (direct).' },
        201: { schema: s.Conversation, example: exampleConversation, doc: 'Was made.' },
      },
      refusals: [403, 404, 409],
      async handle(c) {
        const self = c.principal.userId
        const command = await creation(c.body, self)
        const known = command.kind === 'dm' ? await reader.conversation(command.conversationId, self) : undefined
        if (known) return { status: 200, body: known }
        take('conversations', self)
        await mustHaveRoom(command.members.map(m => m.userId))
        const ack = await commands.ask(self, command, c.requestId)
        return { status: ack.duplicate ? 200 : 201, body: await viewed(command.conversationId, self) }
      },
    }),
    route({
      method: 'GET',
      path: '/conversations',
      auth: 'bearer',
      tag: 'conversations',
      summary: 'One’s conversations, latest activity first.',
      query: strict({
        limit: s.pageLimit(conversationsPageDefault, conversationsPageMax),
        after: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
      }),
      answers: {
        200: { schema: s.listOf(s.Conversation), example: { items: [exampleConversation] }, doc: 'A page of them.' },
      },
      refusals: [],
      async handle(c) {
        const limit = pageSize(c.query.limit, conversationsPageDefault, conversationsPageMax)
        const after = c.query.after === undefined ? undefined : parseCursor(c.query.after)
        const found = await reader.conversations(c.principal.userId, after, limit + 1)
        const items = found.slice(0, limit)
        const last = items.at(-1)
        const next = found.length > limit && last ? { next: `${Date.parse(last.updated_at)}.${last.id}` } : {}
        return { status: 200, body: { items, ...next } }
      },
    }),
    route({
      method: 'GET',
      path: '/conversations/:id',
      auth: 'bearer',
      tag: 'conversations',
      summary: 'One conversation with its members.',
      params: s.ConversationPath,
      answers: { 200: { schema: s.Conversation, example: exampleConversation, doc: 'The conversation.' } },
      refusals: [404],
      handle: async c => ({ status: 200, body: await viewed(c.params.id, c.principal.userId) }),
    }),
    route({
      method: 'PATCH',
      path: '/conversations/:id',
      auth: 'bearer',
      tag: 'conversations',
      summary: 'Changes title or tool policy.',
      params: s.ConversationPath,
      body: Type.Object(
        { title: Type.Optional(s.Title), tool_policy: Type.Optional(s.ToolPolicyWord) },
        { additionalProperties: false, minProperties: 1 },
      ),
      bodyExample: { title: 'Engines and looms' },
      answers: { 200: { schema: s.Conversation, example: exampleConversation, doc: 'The conversation, changed.' } },
      refusals: [403, 404],
      async handle(c) {
        const { title, tool_policy: toolPolicy } = c.body
        const conversationId = c.params.id
        await mustBeMember(conversationId, c.principal.userId)
        const changes = {
          ...(title === undefined ? {} : { title }),
          ...(toolPolicy === undefined ? {} : { toolPolicy }),
        }
        await commands.ask(c.principal.userId, { type: 'conversation.update', conversationId, ...changes }, c.requestId)
        return { status: 200, body: await viewed(conversationId, c.principal.userId) }
      },
    }),
    route({
      method: 'DELETE',
      path: '/conversations/:id',
      auth: 'bearer',
      tag: 'conversations',
      summary: 'Deletes a conversation for everybody; a direct one cannot be deleted.',
      params: s.ConversationPath,
      answers: { 204: { doc: 'It is gone.' } },
      refusals: [403, 404],
      async handle(c) {
        const conversationId = c.params.id
        await mustBeMember(conversationId, c.principal.userId)
        await commands.ask(c.principal.userId, { type: 'conversation.delete', conversationId }, c.requestId)
        return { status: 204 }
      },
    }),
    route({
      method: 'POST',
      path: '/conversations/:id/members',
      auth: 'bearer',
      tag: 'members',
      summary: 'Adds someone to a group.',
      params: s.ConversationPath,
      body: strict({ username: s.GivenUsername, role: Type.Optional(s.Role) }),
      bodyExample: { username: 'bob', role: 'member' },
      answers: {
        200: { schema: s.Member, example: exampleMember, doc: 'Was in already.' },
        201: { schema: s.Member, example: exampleMember, doc: 'Is in now.' },
      },
      refusals: [403, 404, 409],
      async handle(c) {
        const conversationId = c.params.id
        const self = c.principal.userId
        await mustBeMember(conversationId, self)
        const [person] = await resolve([c.body.username], '')
        take('members', self)
        const userId = person!.id
        if (!(await reader.member(conversationId, userId))) await mustHaveRoom([userId])
        const ack = await commands.ask(
          self,
          { type: 'member.add', conversationId, userId, role: c.body.role ?? 'member' },
          c.requestId,
        )
        return { status: ack.duplicate ? 200 : 201, body: await shown(conversationId, userId) }
      },
    }),
    route({
      method: 'DELETE',
      path: '/conversations/:id/members/:user_id',
      auth: 'bearer',
      tag: 'members',
      summary: 'Removes someone, or leaves.',
      params: s.MemberPath,
      answers: { 204: { doc: 'Is out.' } },
      refusals: [403, 404, 409],
      async handle(c) {
        const { id: conversationId, user_id: userId } = c.params
        await mustBeMember(conversationId, c.principal.userId)
        await commands.ask(c.principal.userId, { type: 'member.remove', conversationId, userId }, c.requestId)
        return { status: 204 }
      },
    }),
    route({
      method: 'PATCH',
      path: '/conversations/:id/members/:user_id',
      auth: 'bearer',
      tag: 'members',
      summary: 'Changes someone’s role.',
      params: s.MemberPath,
      body: strict({ role: s.Role }),
      bodyExample: { role: 'admin' },
      answers: { 200: { schema: s.Member, example: exampleMember, doc: 'The member.' } },
      refusals: [403, 404, 409],
      async handle(c) {
        const { id: conversationId, user_id: userId } = c.params
        await mustBeMember(conversationId, c.principal.userId)
        await commands.ask(
          c.principal.userId,
          { type: 'member.role', conversationId, userId, role: c.body.role },
          c.requestId,
        )
        return { status: 200, body: await shown(conversationId, userId) }
      },
    }),
  ]

  async function shown(conversation: string, userId: string) {
    const member = await reader.member(conversation, userId)
    if (!member) throw conflict('The member was removed meanwhile.')
    return member
  }
}

function parseCursor(text: string): { at: number; id: string } {
  const match = /^(\d{1,15})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(text)
  if (!match) throw invalid('This is not the end of a page.', 'after')
  return { at: Number(match[1]), id: match[2]! }
}
