/**
 * When the next statement may start. Each has a fixed price, on both sides of the database, that does not depend on its rows:
 * on a fast disk a busy worker would spend most of its CPU on statements of three rows each. So one that came right after
 * another that already carried several sources waits for a few ms. Where sends come one at a time none waits, nor does a full batch.
 */
import { commitPaceMs, commitPaceSourcesMax, commitPaceSourcesMin } from '#protos/limits.ts'

/** The statement before. */
export interface LastStatement {
  /** Monotonic ms at which it started. */
  at: number
  sources: number
}

/** Ms that the next statement waits, for `waiting` sources; 0: none. */
export function paceMs(last: LastStatement, waiting: number, mono: number): number {
  if (last.sources < commitPaceSourcesMin || waiting >= commitPaceSourcesMax) return 0
  return Math.max(0, last.at + commitPaceMs - mono)
}
