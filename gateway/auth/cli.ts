/**
 * `parley token` and `parley seed`: access tokens for operators, bots and tests. A child of engine/cli.ts; the database
 * comes by DATABASE_URL. Each token has a session of its own that ends with it, so it can be revoked.
 * Refuses to live longer than a day.
 */

import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { systemClock } from '#engine/ops/clock.ts'
import { ConfigError, readConfig } from '#engine/ops/config.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { whyUnwritable } from '#engine/ops/target-file.ts'
import { accessTokenTtlSMax } from '#protos/limits.ts'
import { createAccounts } from './accounts.ts'
import type { Sql } from './db.ts'
import { Refusal } from './failure.ts'
import { createPasswords } from './passwords.ts'
import { createSessions } from './refresh.ts'
import { createTokens, type Tokens } from './tokens.ts'

/** A sentence for the person at the keyboard. */
class Wrong extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}
/** A thousand users and their sessions are written by one statement. */
const seedQueryMsMax = 60_000
/** The file for the tokens cannot be written. */
const exitTarget = 2

const usage = `parley token <email> [--ttl 1h] [--create]      prints an access token, then the user's id
parley seed --users <n> --tokens <file> [--ttl 24h]   makes users and writes a token a line`

/** Seconds of `90`, `90s`, `15m`, `1h`, `1d`. */
export function parseTtl(text: string): number {
  const match = /^(\d{1,6})(s|m|h|d)?$/.exec(text)
  const unit = { s: 1, m: 60, h: 3600, d: 86_400 }[match?.[2] ?? 's']!
  const seconds = match ? Number(match[1]) * unit : 0
  if (seconds < 1 || seconds > accessTokenTtlSMax)
    throw new Wrong(`--ttl ${text}: between 1s and 24h, as in 90s, 15m, 1h.`)
  return seconds
}

async function sessionsFor(db: Sql, userIds: string[], ttlS: number, tokens: Tokens): Promise<string[]> {
  const { rows } = await db.query<{ id: string; user_id: string; ends: number }>(
    `with s as (
       insert into sessions (user_id, expires_at, idle_expires_at, user_agent)
       select u, clock_timestamp() + make_interval(secs => $2), clock_timestamp() + make_interval(secs => $2), 'parley cli'
       from unnest($1::uuid[]) u returning *
     ) select id, user_id, (extract(epoch from expires_at) * 1000)::float8 as ends from s`,
    [userIds, ttlS + 1],
  )
  const of = new Map(rows.map(r => [r.user_id, r]))
  return Promise.all(
    userIds.map(async userId => {
      const s = of.get(userId)!
      return (await tokens.sign({ userId, sessionId: s.id, sessionExpiresAt: s.ends }, ttlS)).token
    }),
  )
}

/** Users number 1…n of the seed; those that exist are used again. */
async function seedUsers(db: Sql, from: number, to: number): Promise<string[]> {
  const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i)
  await db.query(
    `insert into users (username, email, display_name)
     select 'seed_' || n, 'seed_' || n || '@parley.invalid', 'Seed ' || n from unnest($1::int[]) n on conflict do nothing`,
    [numbers],
  )
  const { rows } = await db.query<{ id: string }>(
    `select u.id from unnest($1::int[]) with ordinality w(n, i)
     join users u on lower(u.email) = 'seed_' || w.n || '@parley.invalid' order by w.i`,
    [numbers],
  )
  return rows.map(r => r.id)
}

const seedOptions = (args: string[]) =>
  parseArgs({
    args,
    options: { users: { type: 'string' }, tokens: { type: 'string' }, ttl: { type: 'string', default: '24h' } },
  }).values

async function main(args: string[]): Promise<void> {
  const [command, ...rest] = args
  const config = readConfig()
  if (config.DATABASE_URL === '') throw new Wrong('DATABASE_URL: no database. Start parley first, or set it.')
  const target = command === 'seed' ? seedOptions(rest).tokens : undefined
  const why = target && whyUnwritable('--tokens', target)
  if (why) throw new Wrong(why, exitTarget)
  const pool = new pg.Pool({
    connectionString: config.DATABASE_URL,
    max: 2,
    connectionTimeoutMillis: 5000,
    query_timeout: seedQueryMsMax,
  })
  pool.on('error', () => {})
  try {
    const tokens = await createTokens({ db: pool, clock: systemClock, signingKey: config.JWT_SIGNING_KEY })
    if (command === 'token') {
      const { values, positionals } = parseArgs({
        args: rest,
        allowPositionals: true,
        options: { ttl: { type: 'string', default: '1h' }, create: { type: 'boolean', default: false } },
      })
      const [email, ...more] = positionals
      if (!email || more.length > 0) throw new Wrong(usage)
      const ttlS = parseTtl(values.ttl)
      const sessions = createSessions({ db: pool, absoluteTtlS: ttlS, idleTtlS: ttlS, onEnded: () => {} })
      const passwords = createPasswords({ cost: config.BCRYPT_COST, metrics: openMetrics() })
      const accounts = createAccounts({ db: pool, clock: systemClock, config, passwords, sessions })
      const user = await accounts.byEmail(email, values.create)
      if (!user) throw new Wrong(`${email}: no such account. --create makes one.`)
      const [token] = await sessionsFor(pool, [user.id], ttlS, tokens)
      process.stdout.write(`${token}\n${user.id}\n`)
    } else if (command === 'seed') {
      const values = seedOptions(rest)
      const count = Number(values.users)
      if (!values.tokens || !Number.isInteger(count) || count < 1 || count > 1_000_000) throw new Wrong(usage)
      const ttlS = parseTtl(values.ttl)
      const out = createWriteStream(values.tokens, { mode: 0o600 })
      await once(out, 'open')
      for (let from = 1; from <= count; from += 1000) {
        const ids = await seedUsers(pool, from, Math.min(count, from + 999))
        const lines = await sessionsFor(pool, ids, ttlS, tokens)
        if (!out.write(`${lines.join('\n')}\n`)) await once(out, 'drain')
      }
      out.end()
      await once(out, 'finish')
      process.stdout.write(`${count} users, a token a line in ${values.tokens}\n`)
    } else throw new Wrong(usage)
  } finally {
    await pool.end()
  }
}

if (import.meta.main) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    const e = error as NodeJS.ErrnoException
    const isPlain = error instanceof Wrong || error instanceof ConfigError || error instanceof Refusal
    const isUsage = e.code?.startsWith('ERR_PARSE_ARGS')
    const sentence =
      isPlain || isUsage ? e.message : `${e.code ?? e.name}: ${e.message || 'the database cannot be reached'}`
    process.stderr.write(`${sentence}\n`)
    process.exitCode = error instanceof Wrong ? error.exitCode : 1
  })
}
