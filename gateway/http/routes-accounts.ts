/**
 * Routes of accounts: register, login, refresh, logout, oneself. Owns cookies and their Origin; what an account is, is
 * decided in gateway/auth.
 */
import { Type } from 'typebox'
import type { Accounts } from '#gateway/auth/accounts.ts'
import { expiredCookie, refreshCookie, tokenOfCookies } from '#gateway/auth/cookie.ts'
import { forbidden, limited, Refusal, unauthorized } from '#gateway/auth/failure.ts'
import type { OpenedSession, Sessions } from '#gateway/auth/refresh.ts'
import type { Tokens } from '#gateway/auth/tokens.ts'
import type { Limiter, LimitName } from './limiter.ts'
import type { LoginDelay } from './login-delay.ts'
import { addressKey, type Client } from './origin.ts'
import { type Answer, type Context, type RouteSpec, route, strict } from './route.ts'
import * as s from './schemas.ts'

export interface AccountRoutes {
  accounts: Accounts
  sessions: Sessions
  tokens: Tokens
  limiter: Limiter
  loginDelay: LoginDelay
  accessTtlS: number
  now: () => number
}

const exampleUser = {
  id: '018f3b1e-7c55-7a61-9d2c-6f1f0a4c2b11',
  username: 'ada',
  display_name: 'Ada',
  avatar_url: null,
  created_at: '2026-01-05T09:00:00.000Z',
  email: 'ada@example.org',
  role: 'user',
  is_guest: false,
}
const exampleSignedIn = { access_token: 'eyJ…', token_type: 'Bearer', expires_in: 900, user: exampleUser }

export function accountRoutes(deps: AccountRoutes): RouteSpec[] {
  const { accounts, sessions, tokens, limiter, loginDelay, accessTtlS, now } = deps

  function take(limit: LimitName, key: string): void {
    const waitMs = limiter.take(limit, key)
    if (waitMs > 0) throw limited(limit, waitMs)
  }

  /** Per address first: a guesser behind one address must not lock a person out with that person's own bucket alone. */
  function takeEntry(door: 'login' | 'register', client: Client, email: string): void {
    take(`${door}_address`, addressKey(client.address))
    take(`${door}_account`, email.toLowerCase())
  }

  async function signedIn(session: OpenedSession, user: object, client: Client, status: number): Promise<Answer> {
    const { token, expiresIn } = await tokens.sign(session, accessTtlS)
    const maxAgeS = (session.sessionExpiresAt - now()) / 1000
    return {
      status,
      body: { access_token: token, token_type: 'Bearer', expires_in: expiresIn, user },
      headers: { 'set-cookie': refreshCookie(session.refreshToken, maxAgeS, client.isHttps) },
    }
  }

  const asking = (c: Context) => ({ requestId: c.requestId, userAgent: c.raw.headers['user-agent'] })
  const cookieOf = (c: Context) => tokenOfCookies(c.raw.headers.cookie, c.client.isHttps)

  async function ownOf(userId: string) {
    const user = await accounts.own(userId)
    if (!user) throw unauthorized('This account is gone.', 'TOKEN_REVOKED')
    return user
  }

  return [
    route({
      method: 'POST',
      path: '/auth/register',
      auth: 'cookie',
      tag: 'accounts',
      summary: 'Makes an account and signs in.',
      body: strict({
        email: s.Email,
        password: s.Password,
        display_name: Type.Optional(s.DisplayName),
        username: Type.Optional(s.GivenUsername),
      }),
      bodyExample: { email: 'ada@example.org', password: 'correct horse battery', username: 'ada' },
      answers: {
        201: { schema: s.SignedIn, example: exampleSignedIn, doc: 'The account, an access token, the cookie.' },
      },
      refusals: [403, 409],
      async handle(c) {
        takeEntry('register', c.client, c.body.email)
        const { user, session } = await accounts.register(c.body, asking(c))
        return signedIn(session, user, c.client, 201)
      },
    }),
    route({
      method: 'POST',
      path: '/auth/login',
      auth: 'cookie',
      tag: 'accounts',
      summary: 'Signs in with e-mail and password.',
      body: strict({
        email: Type.String({ minLength: 1, maxLength: 254 }),
        password: Type.String({ minLength: 1, maxLength: 128 }),
      }),
      bodyExample: { email: 'ada@example.org', password: 'correct horse battery' },
      answers: { 200: { schema: s.SignedIn, example: exampleSignedIn, doc: 'An access token and the cookie.' } },
      refusals: [401, 403],
      async handle(c) {
        takeEntry('login', c.client, c.body.email)
        const account = c.body.email.toLowerCase()
        const { user, session } = await accounts.login(c.body, asking(c)).catch(async (error: unknown) => {
          if (error instanceof Refusal && error.status === 401) await loginDelay.failed(account)
          throw error
        })
        loginDelay.passed(account)
        return signedIn(session, user, c.client, 200)
      },
    }),
    route({
      method: 'POST',
      path: '/auth/guest',
      auth: 'cookie',
      tag: 'accounts',
      summary: 'Signs in as a guest; not offered by this server.',
      isBodyOptional: true,
      answers: {},
      refusals: [403],
      async handle() {
        throw forbidden('Guests are not admitted here.', 'GUESTS_DISABLED')
      },
    }),
    route({
      method: 'POST',
      path: '/auth/refresh',
      auth: 'cookie',
      tag: 'accounts',
      summary: 'Rotates the refresh token of the cookie and answers a fresh access token.',
      isBodyOptional: true,
      answers: { 200: { schema: s.SignedIn, example: exampleSignedIn, doc: 'An access token and the next cookie.' } },
      refusals: [401, 403],
      async handle(c) {
        const token = cookieOf(c)
        if (!token) throw unauthorized('There is no session cookie.', 'TOKEN_MISSING')
        const rotated = await sessions.rotate(token, sessionId => limiter.take('refresh', sessionId))
        if ('waitMs' in rotated) throw limited('refresh', rotated.waitMs)
        if ('reason' in rotated) throw unauthorized('This session has ended. Log in again.', rotated.reason)
        return signedIn(rotated, await ownOf(rotated.userId), c.client, 200)
      },
    }),
    route({
      method: 'POST',
      path: '/auth/logout',
      auth: 'cookie',
      tag: 'accounts',
      summary: 'Ends this session, or all of one’s sessions; open sockets close 4410.',
      body: strict({ all_devices: Type.Optional(Type.Boolean()) }),
      bodyExample: { all_devices: true },
      isBodyOptional: true,
      answers: {
        200: { schema: strict({ ok: Type.Boolean() }), example: { ok: true }, doc: 'The session has ended.' },
      },
      refusals: [401, 403],
      async handle(c) {
        const who = await whoLogsOut(c)
        await accounts.logout(who, c.body.all_devices ?? false, c.requestId)
        return { status: 200, body: { ok: true }, headers: { 'set-cookie': expiredCookie(c.client.isHttps) } }
      },
    }),
    route({
      method: 'GET',
      path: '/me',
      auth: 'bearer',
      tag: 'accounts',
      summary: 'One’s own account.',
      answers: { 200: { schema: s.OwnUser, example: exampleUser, doc: 'Oneself.' } },
      refusals: [],
      handle: async c => ({ status: 200, body: await ownOf(c.principal.userId) }),
    }),
    route({
      method: 'POST',
      path: '/users/me',
      auth: 'bearer',
      tag: 'accounts',
      summary: 'Changes display name or avatar; null removes the avatar.',
      body: strict({ display_name: Type.Optional(s.DisplayName), avatar_url: Type.Optional(s.AvatarUrl) }),
      bodyExample: { display_name: 'Ada Lovelace' },
      answers: { 200: { schema: s.OwnUser, example: exampleUser, doc: 'Oneself, changed.' } },
      refusals: [],
      handle: async c => ({ status: 200, body: await accounts.change(c.principal.userId, c.body) }),
    }),
    route({
      method: 'POST',
      path: '/users/me/username',
      auth: 'bearer',
      tag: 'accounts',
      summary: 'Claims a username.',
      body: strict({ username: s.GivenUsername }),
      bodyExample: { username: 'ada' },
      answers: { 200: { schema: s.OwnUser, example: exampleUser, doc: 'Oneself, under the new name.' } },
      refusals: [409],
      handle: async c => ({ status: 200, body: await accounts.claim(c.principal.userId, c.body.username) }),
    }),
  ]

  /** By access token if one is sent, else by the cookie; the cookie alone is what a browser has left after its token expired. */
  async function whoLogsOut(c: Context): Promise<{ userId: string; sessionId: string }> {
    const header = c.raw.headers.authorization
    const cookie = cookieOf(c)
    if (header !== undefined) {
      const access = await tokens.verifyAccess(/^Bearer (.+)$/i.exec(header)?.[1])
      if (!('reason' in access)) return access
      if (!cookie) throw unauthorized('This token is not valid.', access.reason)
    }
    if (!cookie) throw unauthorized('There is no session.', 'TOKEN_MISSING')
    const session = await sessions.identify(cookie)
    if ('reason' in session) throw unauthorized('This session has ended.', session.reason)
    return session
  }
}
