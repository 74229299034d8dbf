/** Time, randomness and fresh ids, passed in everywhere so that tests and the simulation can drive them. */

import * as crypto from 'node:crypto'
import { randomUUID } from 'node:crypto'

export interface Clock {
  /** Wall clock, ms since 1970. Never used to decide ownership or expiry. */
  now(): number
  /** Monotonic ms, for every measured span and every timer decision. */
  mono(): number
  /** A fresh id, version 7, lower case. */
  id(): string
  /** Uniform in [0, 1). */
  random(): number
}

const uuidv7 = (crypto as unknown as { randomUUIDv7?: () => string }).randomUUIDv7 ?? randomUUID

export const systemClock: Clock = {
  now: () => Date.now(),
  mono: () => performance.now(),
  id: () => uuidv7(),
  random: () => Math.random(),
}
