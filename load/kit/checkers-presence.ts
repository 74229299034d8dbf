/**
 * C8: what observers were told about presence, against what was true. Pure: intervals of live connections and observations go
 * in. `unknown` is always allowed here: who may say it and for how long is judged by the fault that was played.
 */
import { group, Problems } from './checkers.ts'

export interface PresenceTruth {
  user: string
  /** Monotonic ms from `ready` to the end of one connection. */
  from: number
  to: number
  /** clean: a close frame. lost: cut, crashed gateway, dead network. */
  ended: 'clean' | 'lost' | 'open'
}

export interface PresenceSeen {
  observer: string
  user: string
  status: 'online' | 'offline' | 'unknown'
  at: number
}

export interface PresenceBounds {
  onlineMs: number
  cleanMs: number
  lostMs: number
  /** For what the way to the observer takes. */
  slackMs: number
}

export const presenceBounds: PresenceBounds = { onlineMs: 2000, cleanMs: 3000, lostMs: 45_000, slackMs: 500 }

export function checkPresence(
  truth: readonly PresenceTruth[],
  seen: readonly PresenceSeen[],
  bounds: PresenceBounds = presenceBounds,
): string[] {
  const problems = new Problems('C8')
  const lives = group(truth, t => t.user)
  for (const { observer, user, status, at } of seen) {
    const list = lives.get(user) ?? []
    if (status === 'online') {
      const isAllowed = list.some(t => {
        // A gateway tells of an arrival before the one who came reads its `ready`.
        if (t.from - bounds.slackMs > at) return false
        const grace = t.ended === 'clean' ? bounds.cleanMs : t.ended === 'lost' ? bounds.lostMs : 0
        return at <= t.to + grace + bounds.slackMs
      })
      if (!isAllowed) problems.add(`${observer} was told online of ${user} at ${at.toFixed(0)}, who was gone`)
    }
    if (status === 'offline' && isAlwaysThere(list, at - bounds.onlineMs - bounds.slackMs, at)) {
      problems.add(`${observer} was told offline of ${user} at ${at.toFixed(0)}, who had been there all the time`)
    }
  }
  return problems.list
}

/** At least one connection at every moment of the span. */
function isAlwaysThere(list: readonly PresenceTruth[], from: number, to: number): boolean {
  let reached = from
  for (const t of list.toSorted((a, b) => a.from - b.from)) {
    if (t.from <= reached && t.to > reached) reached = t.to
    if (reached >= to) return true
  }
  return false
}
