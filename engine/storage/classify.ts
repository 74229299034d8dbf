/**
 * What an error of a commit statement means for the rows in it. Pure: the one table from which the journal acts.
 * When in doubt it says unknown, which costs a stamp and a look-up; a wrong "not stored" would cost a lie.
 */
import type { CommitResult } from './log-store.ts'

export interface StatementError {
  code?: string
  severity?: string
  constraint?: string
}

/** `warned`: a warning 01000 came on the connection (the commit's standby could not be waited for). */
export function classify(error: StatementError, warned = false): Exclude<CommitResult, { kind: 'done' }> {
  const code = error.code ?? ''
  // Only the server's own errors carry a severity; a lost socket or a timer knows nothing of the outcome.
  if (warned || error.severity === undefined || code === '') return { kind: 'unknown' }
  if (/^(08|57P|58|XX)/.test(code) || code === '40003') return { kind: 'unknown' }
  // 57014: the server itself gave the statement up, so it left nothing.
  if (code === '40P01' || code === '40001' || code === '55P03' || code === '57014') return { kind: 'retry' }
  if (code === '23505') {
    if (error.constraint === 'event_client') return { kind: 'duplicate' }
    if (headConstraints.has(error.constraint ?? '')) return { kind: 'head' }
    return { kind: 'data', code }
  }
  if (/^2[23]/.test(code)) return { kind: 'data', code }
  // 53: no room, no memory, no connections. All else (a read-only server, a missing right): nothing was stored either, and
  // nothing about these rows would change it.
  return { kind: 'full' }
}

/** Keys whose order comes from an actor's memory: a conflict says that this memory is wrong. */
const headConstraints = new Set(['event_position', 'conversation_pkey', 'ai_segment_pkey'])
