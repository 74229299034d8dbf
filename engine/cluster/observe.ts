/**
 * Owns the judgement that another node is dead: a pure machine over what this node's own rounds saw. It buries nobody for a
 * clock alone: a beat must stand still in front of this observer, over an unbroken row of its own successful rounds.
 * Refuses to read rows or clocks itself.
 */
import { observeAnyMs, observeExpiredMs, observeGapMsMax } from '#protos/limits.ts'

export interface Sighting {
  incarnation: string
  beat: number
  /** By the database clock, at the moment of the read. */
  expired: boolean
}

export interface Observations {
  /** End of the last successful round, monotonic ms; absent when the row is broken. */
  readonly lastRound: number | undefined
  readonly seen: ReadonlyMap<string, { beat: number; since: number }>
}

export type ObserveEvent =
  /** A renewal and a read both succeeded. `began` and `ended` bound the read, monotonic ms; `others` excludes this node and the dead. */
  { kind: 'round'; began: number; ended: number; others: readonly Sighting[] } | { kind: 'failed' }

/** Bury this incarnation if its beat is still this one; `anyway`: even if the database clock says that it has not expired. */
export interface Burial {
  incarnation: string
  beat: number
  anyway: boolean
}

export const nothingObserved: Observations = { lastRound: undefined, seen: new Map() }

export function observe(state: Observations, event: ObserveEvent): { state: Observations; burials: Burial[] } {
  if (event.kind === 'failed') return { state: nothingObserved, burials: [] }
  // When a database comes back, everybody's beat stood still for everybody: only rounds of our own without a gap count.
  const isUnbroken = state.lastRound !== undefined && event.ended - state.lastRound <= observeGapMsMax
  const seen = new Map<string, { beat: number; since: number }>()
  const burials: Burial[] = []
  for (const { incarnation, beat, expired } of event.others) {
    const before = isUnbroken ? state.seen.get(incarnation) : undefined
    // A new beat counts from the end of the read, an old one up to its beginning: the shorter span of the two.
    const since = before?.beat === beat ? before.since : event.ended
    seen.set(incarnation, { beat, since })
    const still = event.began - since
    if (still >= observeAnyMs) burials.push({ incarnation, beat, anyway: true })
    else if (still >= observeExpiredMs && expired) burials.push({ incarnation, beat, anyway: false })
  }
  return { state: { lastRound: event.ended, seen }, burials }
}
