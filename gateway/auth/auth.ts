/**
 * Puts accounts together for one gateway: keys, tokens, sessions, revocation, and the round that erases what is over.
 * Owns no rule of its own.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import { sessionSweepMs } from '#protos/limits.ts'
import type { Db } from './db.ts'
import { createSessions, type Sessions } from './refresh.ts'
import { createRevocation, type Revocation } from './revocation.ts'
import { createTokens, type Tokens } from './tokens.ts'

export interface Auth {
  tokens: Tokens
  sessions: Sessions
  revocation: Revocation
  stop(): void
}

/** Loads keys and the window of ended sessions; rejects when the database cannot be reached. */
export async function openAuth(options: { db: Db; clock: Clock; config: Config; log: Log }): Promise<Auth> {
  const { db, clock, config, log } = options
  const revocation = createRevocation({ db, clock, log })
  const tokens = await createTokens({
    db,
    clock,
    signingKey: config.JWT_SIGNING_KEY,
    isRevoked: id => revocation.isRevoked(id),
  })
  const sessions = createSessions({
    db,
    absoluteTtlS: config.REFRESH_TOKEN_TTL_S,
    idleTtlS: config.REFRESH_IDLE_TTL_S,
    onEnded: ids => revocation.add(ids),
  })
  await revocation.start()
  const timer = setInterval(() => {
    sessions.sweep().catch((error: unknown) => log.warn('old sessions could not be swept', { err: error }))
  }, sessionSweepMs)
  timer.unref()

  return {
    tokens,
    sessions,
    revocation,
    stop() {
      clearInterval(timer)
      revocation.stop()
    },
  }
}
