/** Routes about other people: search, profile, blocks. A block is a command to the pair's dm actor, so it is ordered with sends. */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { forbidden, invalid, notFound } from '#gateway/auth/failure.ts'
import { dmId } from '#protos/ids.ts'
import { blocksPageMax, searchCharsMax, searchCharsMin, searchPageMax, usernameCharsMax } from '#protos/limits.ts'
import type { Commands } from './commands.ts'
import type { People } from './people.ts'
import { type Context, type RouteSpec, route, strict } from './route.ts'
import * as s from './schemas.ts'

const exampleUser = {
  id: '018f3b1e-7c55-7a61-9d2c-6f1f0a4c2b12',
  username: 'grace',
  display_name: 'Grace',
  avatar_url: null,
  created_at: '2026-01-05T09:00:00.000Z',
}
const searchPageDefault = 20

export const sha1 = (bytes: Uint8Array): Uint8Array => createHash('sha1').update(bytes).digest()

export function peopleRoutes(deps: { people: People; commands: Commands }): RouteSpec[] {
  const { people, commands } = deps

  async function personToBlock(c: Context<{ username: string }>) {
    const name = c.params.username.toLowerCase()
    const person = (await people.byNames([name])).get(name)
    if (!person) throw notFound('Nobody has this name.')
    if (person.id === c.principal.userId) throw invalid('You cannot block yourself.', 'username')
    if (person.is_bot) throw forbidden('The assistant cannot be blocked.')
    return person
  }

  function setBlock(c: Context, userId: string, blocked: boolean) {
    const conversationId = dmId(c.principal.userId, userId, sha1)
    return commands.ask(c.principal.userId, { type: 'block.set', conversationId, userId, blocked }, c.requestId)
  }

  return [
    route({
      method: 'GET',
      path: '/users/search',
      auth: 'bearer',
      tag: 'people',
      summary: 'People whose username begins with `q`, in the order of usernames.',
      query: strict({
        q: Type.String({ minLength: searchCharsMin, maxLength: searchCharsMax }),
        limit: s.pageLimit(searchPageDefault, searchPageMax),
        after: Type.Optional(Type.String({ minLength: 1, maxLength: usernameCharsMax })),
      }),
      limit: 'search',
      answers: { 200: { schema: s.listOf(s.PublicUser), example: { items: [exampleUser] }, doc: 'Who was found.' } },
      refusals: [],
      async handle(c) {
        const limit = pageSize(c.query.limit, searchPageDefault, searchPageMax)
        const found = await people.search(c.principal.userId, c.query.q.toLowerCase(), c.query.after, limit + 1)
        return { status: 200, body: page(found, limit) }
      },
    }),
    route({
      method: 'GET',
      path: '/users/:username',
      auth: 'bearer',
      tag: 'people',
      summary: 'A public profile.',
      params: s.UsernamePath,
      answers: { 200: { schema: s.PublicUser, example: exampleUser, doc: 'The person.' } },
      refusals: [404],
      async handle(c) {
        const person = await people.profile(c.principal.userId, c.params.username.toLowerCase())
        if (!person) throw notFound('Nobody has this name.')
        return { status: 200, body: person }
      },
    }),
    route({
      method: 'GET',
      path: '/blocks',
      auth: 'bearer',
      tag: 'people',
      summary: 'Whom one has blocked.',
      query: strict({
        limit: s.pageLimit(blocksPageMax, blocksPageMax),
        after: Type.Optional(Type.String({ minLength: 1, maxLength: usernameCharsMax })),
      }),
      answers: { 200: { schema: s.listOf(s.PublicUser), example: { items: [exampleUser] }, doc: 'Blocked people.' } },
      refusals: [],
      async handle(c) {
        const limit = pageSize(c.query.limit, blocksPageMax, blocksPageMax)
        return { status: 200, body: page(await people.blockedBy(c.principal.userId, c.query.after, limit + 1), limit) }
      },
    }),
    route({
      method: 'POST',
      path: '/blocks/:username',
      auth: 'bearer',
      tag: 'people',
      summary: 'Blocks someone.',
      params: s.UsernamePath,
      isBodyOptional: true,
      answers: {
        200: { schema: s.PublicUser, example: exampleUser, doc: 'Was blocked already.' },
        201: { schema: s.PublicUser, example: exampleUser, doc: 'Is blocked now.' },
      },
      refusals: [403, 404],
      async handle(c) {
        const { is_bot: _, ...person } = await personToBlock(c)
        const ack = await setBlock(c, person.id, true)
        return { status: ack.duplicate ? 200 : 201, body: person }
      },
    }),
    route({
      method: 'DELETE',
      path: '/blocks/:username',
      auth: 'bearer',
      tag: 'people',
      summary: 'Ends a block.',
      params: s.UsernamePath,
      answers: { 204: { doc: 'Is not blocked now.' } },
      refusals: [403, 404],
      async handle(c) {
        await setBlock(c, (await personToBlock(c)).id, false)
        return { status: 204 }
      },
    }),
  ]
}

/** A page size of a query, 1 to `max`. */
export function pageSize(given: string | undefined, fallback: number, max: number): number {
  if (given === undefined) return fallback
  const size = Number(given)
  if (!Number.isSafeInteger(size) || size < 1 || size > max) throw invalid(`limit is 1 to ${max}.`, 'limit')
  return size
}

function page<T extends { username: string | null }>(found: T[], limit: number): { items: T[]; next?: string } {
  const items = found.slice(0, limit)
  const last = items.at(-1)?.username
  return found.length > limit && last ? { items, next: last } : { items }
}
