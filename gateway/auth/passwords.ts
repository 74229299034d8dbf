/**
 * Passwords: bcrypt over base64(SHA-256(NFKC)), so that no byte beyond bcrypt's 72 is lost and forms of one text are one
 * password. Two hashes at a time, because each holds a thread of libuv's pool; what waits is bounded.
 * Refuses to answer faster for a user who does not exist: that comparison is made against a hash of nothing.
 */
import { createHash, randomBytes } from 'node:crypto'
import { hash, verify } from '@node-rs/bcrypt'
import type { Metrics } from '#engine/ops/metrics.ts'
import { passwordsRunningMax, passwordsWaitingMax } from '#protos/limits.ts'
import { unavailable } from './failure.ts'

export interface Passwords {
  hash(password: string): Promise<string>
  /** `stored` undefined: nobody has this name; the same work is done and the answer is false. */
  matches(password: string, stored: string | null | undefined): Promise<boolean>
}

/** The bytes that bcrypt sees. */
export function digestOf(password: string): string {
  return createHash('sha256').update(password.normalize('NFKC'), 'utf8').digest('base64')
}

export function createPasswords(options: { cost: number; metrics: Metrics }): Passwords {
  const { cost, metrics } = options
  let running = 0
  const waiting: (() => void)[] = []
  // Made at once, so that the first unknown user does not take longer than the second.
  const nobody = hash(randomBytes(33).toString('base64'), cost)
  nobody.catch(() => {})

  async function run<T>(work: () => Promise<T>): Promise<T> {
    if (running >= passwordsRunningMax) {
      if (waiting.length >= passwordsWaitingMax) throw unavailable('Too many people are logging in. Try again shortly.')
      await new Promise<void>(resolve => waiting.push(resolve))
    } else running++
    try {
      metrics.parley_password_hashes_total.inc()
      return await work()
    } finally {
      // A waiter takes over the place, so that nobody slips in between.
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }

  return {
    hash: password => run(() => hash(digestOf(password), cost)),
    async matches(password, stored) {
      const against = stored ?? (await nobody)
      const isEqual = await run(() => verify(digestOf(password), against))
      return isEqual && stored != null
    },
  }
}
