/**
 * Which sessions have ended, in memory: the window of one token's longest life is loaded before the gateway is ready, then
 * the table is polled every 2 s. So a token is judged without a query and an open socket closes within 5 s.
 * Refuses to forget early: an id stays until no token of its session can still be valid.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { accessTokenTtlSMax, revocationPollMs } from '#protos/limits.ts'
import type { Sql } from './db.ts'

export interface Revocation {
  /** Loads the window and starts to poll. Rejects when the window cannot be read. */
  start(): Promise<void>
  readonly isLoaded: boolean
  isRevoked(sessionId: string): boolean
  /** Sessions ended by this process: known at once. */
  add(sessionIds: readonly string[]): void
  /** Called once per ended session, wherever it was ended. */
  onRevoked(listener: (sessionIds: readonly string[]) => void): void
  /** One round now; the timer does the same. */
  poll(): Promise<void>
  stop(): void
}

/** A revocation becomes visible when its statement commits, which may be after a later one: look back this far. */
const overlapS = 10

export function createRevocation(options: { db: Sql; clock: Clock; log: Log }): Revocation {
  const { db, clock, log } = options
  /** Session → monotonic ms at which it may be forgotten; in the order of insertion. */
  const revoked = new Map<string, number>()
  const listeners: ((sessionIds: readonly string[]) => void)[] = []
  /** The latest time seen, as the database writes it: no precision is lost. */
  let since: string | undefined
  let isLoaded = false
  let timer: NodeJS.Timeout | undefined
  let failures = 0

  function add(sessionIds: readonly string[]): void {
    const fresh = sessionIds.filter(id => !revoked.has(id))
    if (fresh.length === 0) return
    const forgetAt = clock.mono() + accessTokenTtlSMax * 1000
    for (const id of fresh) revoked.set(id, forgetAt)
    for (const listener of listeners) listener(fresh)
  }

  async function poll(): Promise<void> {
    const { rows } = await db.query<{ id: string; revoked_at: string }>(
      `select id, revoked_at::text as revoked_at from sessions
       where sessions.revoked_at > coalesce($1::timestamptz - make_interval(secs => $2), clock_timestamp() - make_interval(secs => $3))
       order by sessions.revoked_at`,
      [since ?? null, overlapS, accessTokenTtlSMax],
    )
    since = rows.at(-1)?.revoked_at ?? since
    add(rows.map(r => r.id))
    for (const [id, forgetAt] of revoked) {
      if (forgetAt > clock.mono()) break
      revoked.delete(id)
    }
  }

  function schedule(): void {
    timer = setTimeout(async () => {
      try {
        await poll()
        failures = 0
      } catch (error) {
        if (failures++ % 30 === 0) log.warn('revoked sessions cannot be read', { err: error })
      }
      if (timer) schedule()
    }, revocationPollMs)
    timer.unref()
  }

  return {
    async start() {
      await poll()
      isLoaded = true
      schedule()
    },
    get isLoaded() {
      return isLoaded
    },
    isRevoked: id => revoked.has(id),
    add,
    onRevoked: listener => void listeners.push(listener),
    poll,
    stop() {
      clearTimeout(timer)
      timer = undefined
    },
  }
}
