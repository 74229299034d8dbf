/** engine/ops/clock.ts on the run's clock: each process sees its own wall clock, all share true monotonic time. */
import type { Clock } from '#engine/ops/clock.ts'
import { kernel } from '../globals.ts'

export type { Clock }

export const systemClock: Clock = {
  now: () => kernel().wall(),
  mono: () => kernel().now,
  id: () => kernel().id(),
  random: () => kernel().random.next(),
}
