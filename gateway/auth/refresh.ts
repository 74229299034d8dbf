/**
 * Sessions and their refresh tokens: 256 random bits, only a hash stored, one use each. A session is the family of tokens
 * that came from one login. Rotation is one conditional update; the database's clock judges every time.
 * For 10 s after a rotation the old token answers the same successor (two tabs, a lost response); later it is theft, and the
 * family ends. Refuses to keep a token readable: the successor is sealed under a key that only the old token gives.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import type { AuthReason } from '#protos/errors.ts'
import { audit } from './audit.ts'
import type { Sql } from './db.ts'

export interface Session {
  sessionId: string
  userId: string
  /** ms since 1970. */
  sessionExpiresAt: number
}
export interface OpenedSession extends Session {
  refreshToken: string
}
export type Rotated = OpenedSession | { reason: AuthReason } | { waitMs: number }

export interface Sessions {
  open(userId: string, userAgent: string | undefined): Promise<OpenedSession>
  /** `admit` answers how long this session must wait before another refresh, 0 for now. */
  rotate(token: string, admit: (sessionId: string) => number): Promise<Rotated>
  /** Whose live session this token belongs to, without using it up: for the upgrade by cookie, and for logout. */
  identify(token: string): Promise<Session | { reason: AuthReason }>
  /** Ends one session, or all of the user's. Answers the ids ended now. */
  end(session: { userId: string; sessionId: string }, allDevices: boolean, reason: string): Promise<string[]>
  /** Erases sealed successors past their grace and forgets what is long over. */
  sweep(): Promise<void>
}

const tokenForm = /^[A-Za-z0-9_-]{43}$/
/** Grace after a rotation; the same number stands in the statements as `interval '10 s'`. */
export const graceMs = 10_000

interface TokenRow {
  family_id: string
  user_id: string
  /** ms since 1970 */
  session_ends: number
  used: boolean
  in_grace: boolean
  sealed: Buffer | null
  revoked: boolean
  expired: boolean
}

const readToken = `
select t.family_id, t.user_id, (extract(epoch from s.expires_at) * 1000)::float8 as session_ends,
  t.used_at is not null as used,
  coalesce(t.used_at >= clock_timestamp() - interval '10 s', false) as in_grace,
  t.sealed_successor as sealed,
  s.revoked_at is not null or u.disabled_at is not null or u.deleted_at is not null as revoked,
  least(s.expires_at, s.idle_expires_at) <= clock_timestamp() as expired
from refresh_token t join sessions s on s.id = t.family_id join users u on u.id = t.user_id
where t.token_hash = $1`

const useToken = `
with used as (
  update refresh_token t set used_at = clock_timestamp(), replaced_by = $2, sealed_successor = $3
  from sessions s
  where t.token_hash = $1 and t.used_at is null and s.id = t.family_id and s.revoked_at is null
    and s.expires_at > clock_timestamp() and s.idle_expires_at > clock_timestamp()
  returning t.family_id, t.user_id, s.expires_at
), successor as (
  insert into refresh_token (token_hash, family_id, user_id, expires_at)
  select $2, family_id, user_id, expires_at from used
), touched as (
  update sessions s set last_used_at = clock_timestamp(),
    idle_expires_at = least(s.expires_at, clock_timestamp() + make_interval(secs => $4))
  from used where s.id = used.family_id
), erased as (
  update refresh_token t set sealed_successor = null from used
  where t.family_id = used.family_id and t.token_hash <> $1 and t.sealed_successor is not null
    and t.used_at < clock_timestamp() - interval '10 s'
)
select family_id, user_id, (extract(epoch from expires_at) * 1000)::float8 as session_ends from used`

export function createSessions(options: {
  db: Sql
  absoluteTtlS: number
  idleTtlS: number
  /** Told at once of what this process ended; other gateways find it by polling. */
  onEnded: (sessionIds: string[]) => void
}): Sessions {
  const { db, absoluteTtlS, idleTtlS, onEnded } = options

  async function find(hash: Buffer): Promise<TokenRow | undefined> {
    return (await db.query<TokenRow>(readToken, [hash])).rows[0]
  }

  /** What is to be said of a row that cannot be rotated, or undefined when it is fresh. */
  async function judge(row: TokenRow | undefined, token: string): Promise<Rotated | undefined> {
    if (!row) return { reason: 'TOKEN_INVALID' }
    if (row.revoked) return { reason: 'TOKEN_REVOKED' }
    if (row.expired) return { reason: 'TOKEN_EXPIRED' }
    if (!row.used) return undefined
    const successor = row.in_grace && row.sealed ? unseal(token, row.sealed) : undefined
    if (successor) return { ...sessionOf(row), refreshToken: successor }
    const ended = await endSessions(db, row.user_id, row.family_id, 'reuse')
    await audit(db, { action: 'session.reuse', actorId: row.user_id, sessionId: row.family_id })
    onEnded(ended)
    return { reason: 'TOKEN_REVOKED' }
  }

  return {
    async open(userId, userAgent) {
      const refreshToken = randomBytes(32).toString('base64url')
      const { rows } = await db.query<{ id: string; ends: number }>(
        `with s as (
           insert into sessions (user_id, expires_at, idle_expires_at, user_agent)
           values ($1, clock_timestamp() + make_interval(secs => $2),
             clock_timestamp() + make_interval(secs => least($2, $3)), $4)
           returning id, user_id, expires_at
         ), t as (
           insert into refresh_token (token_hash, family_id, user_id, expires_at) select $5, id, user_id, expires_at from s
         )
         select id, (extract(epoch from expires_at) * 1000)::float8 as ends from s`,
        [userId, absoluteTtlS, idleTtlS, userAgent?.slice(0, 200) ?? null, hashOf(refreshToken)],
      )
      const s = rows[0]!
      return { sessionId: s.id, userId, sessionExpiresAt: s.ends, refreshToken }
    },

    async rotate(token, admit) {
      if (!tokenForm.test(token)) return { reason: 'TOKEN_INVALID' }
      const hash = hashOf(token)
      const row = await find(hash)
      const judged = row && !row.used ? undefined : await judge(row, token)
      if (row) {
        const waitMs = admit(row.family_id)
        if (waitMs > 0) return { waitMs }
      }
      if (judged) return judged
      const successor = randomBytes(32).toString('base64url')
      const { rows } = await db.query<TokenRow>(useToken, [hash, hashOf(successor), seal(token, successor), idleTtlS])
      if (rows[0]) return { ...sessionOf(rows[0]), refreshToken: successor }
      // Another call rotated it in between, or the session ended: the row says which.
      return (await judge(await find(hash), token)) ?? { reason: 'TOKEN_REVOKED' }
    },

    async identify(token) {
      if (!tokenForm.test(token)) return { reason: 'TOKEN_INVALID' }
      const row = await find(hashOf(token))
      if (!row) return { reason: 'TOKEN_INVALID' }
      if (row.revoked || (row.used && !row.in_grace)) return { reason: 'TOKEN_REVOKED' }
      if (row.expired) return { reason: 'TOKEN_EXPIRED' }
      return sessionOf(row)
    },

    async end(session, allDevices, reason) {
      const ended = await endSessions(db, session.userId, allDevices ? undefined : session.sessionId, reason)
      onEnded(ended)
      return ended
    },

    async sweep() {
      await db.query(
        `update refresh_token set sealed_successor = null
         where sealed_successor is not null and used_at < clock_timestamp() - interval '10 s'`,
      )
      await db.query(`delete from sessions where expires_at < clock_timestamp() - interval '7 days'`)
    },
  }
}

async function endSessions(db: Sql, userId: string, only: string | undefined, reason: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `update sessions set revoked_at = clock_timestamp(), revoked_reason = $3
     where user_id = $1 and ($2::uuid is null or id = $2) and revoked_at is null returning id`,
    [userId, only ?? null, reason],
  )
  return rows.map(r => r.id)
}

function sessionOf(row: TokenRow): Session {
  return { sessionId: row.family_id, userId: row.user_id, sessionExpiresAt: row.session_ends }
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token, 'ascii').digest()
}

function sealingKey(token: string): Buffer {
  return Buffer.from(hkdfSync('sha256', Buffer.from(token, 'base64url'), '', 'parley refresh successor', 32))
}

function seal(oldToken: string, successor: string): Buffer {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(oldToken), iv)
  const text = Buffer.concat([cipher.update(successor, 'ascii'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), text])
}

function unseal(oldToken: string, sealed: Buffer): string | undefined {
  try {
    const cipher = createDecipheriv('aes-256-gcm', sealingKey(oldToken), sealed.subarray(0, 12))
    cipher.setAuthTag(sealed.subarray(12, 28))
    return Buffer.concat([cipher.update(sealed.subarray(28)), cipher.final()]).toString('ascii')
  } catch {
    return undefined
  }
}
