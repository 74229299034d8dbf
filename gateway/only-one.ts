/**
 * Without Redis there is exactly one gateway: a session lock in Postgres, held on a connection of its own and taken again
 * when the database was away. Refuses to share.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import type { Log } from '#engine/ops/log.ts'

/** Any number that no other lock of ours uses: not that of the migrations, which `parley token` takes too. */
const lockKey = 0x70_61_72_67
/** A predecessor that was killed may keep its connection for a moment. */
const firstWaitMs = 3000
const retryMs = 250

export interface OnlyOne {
  release(): Promise<void>
}

/** Undefined when another gateway holds the lock. `lost`: after an absence of the database another one took it. */
export async function holdOnlyOne(
  connect: () => Promise<Client>,
  log: Log,
  lost: () => void,
): Promise<OnlyOne | undefined> {
  let client: Client | undefined
  let isReleased = false

  async function take(): Promise<boolean> {
    const next = await connect()
    const { rows } = await next.query<{ ok: boolean }>('select pg_try_advisory_lock($1) as ok', [lockKey])
    if (!rows[0]?.ok) {
      await next.end()
      return false
    }
    client = next
    next.once('end', () => {
      if (!isReleased) void again()
    })
    return true
  }

  async function again(): Promise<void> {
    client = undefined
    for (let refusals = 0; !isReleased; await sleep(retryMs)) {
      try {
        if (await take()) return
        if (++refusals * retryMs >= firstWaitMs) return lost()
      } catch (error) {
        log.debug('the lock of the only gateway waits for the database', { err: error })
      }
    }
  }

  for (const until = performance.now() + firstWaitMs; ; await sleep(retryMs)) {
    if (await take()) break
    if (performance.now() > until) return undefined
  }
  return {
    async release() {
      isReleased = true
      await client?.end().catch(() => {})
    },
  }
}
