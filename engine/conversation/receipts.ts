/**
 * Positions: how far each member has read, and how far was delivered to them. A position is a maximum, so receipts may
 * come late, twice or out of order. Rules P1–P7 of SPEC.md. Refuses to store: the shell flushes what is dirty.
 */

import type { Command } from '#protos/catalogue.ts'
import { deliveredEveryMs, receiptMembersMax } from '#protos/limits.ts'
import type { Draft } from './effects.ts'
import type { CommandEvent } from './events.ts'
import { isBlocked, isMember, type Position, type State } from './state.ts'
import type { Step } from './step.ts'

const nowhere: Position = {
  read: 0,
  delivered: 0,
  sentAt: Number.NEGATIVE_INFINITY,
  isOwed: false,
  isDirty: false,
}

export function receiptRead(step: Step, { command, from }: CommandEvent<Command<'receipt.read'>>): void {
  if (!isMember(step.state, from.principal)) return step.notFound(from)
  const before = step.state.positions.get(from.principal) ?? nowhere
  const read = Math.min(command.seq, step.state.head)
  if (read <= before.read) return
  const delivered = Math.max(before.delivered, read)
  place(step, from.principal, { ...before, read, delivered, sentAt: step.mono, isOwed: false, isDirty: true })
  tell(step, from.principal, read)
}

export function receiptDelivered(step: Step, { command, from }: CommandEvent<Command<'receipt.delivered'>>): void {
  if (!isMember(step.state, from.principal)) return
  const before = step.state.positions.get(from.principal) ?? nowhere
  const delivered = Math.min(command.seq, step.state.head)
  if (delivered <= before.delivered) return
  const isDue = step.mono - before.sentAt >= deliveredEveryMs
  const sentAt = isDue ? step.mono : before.sentAt
  place(step, from.principal, { ...before, delivered, sentAt, isOwed: !isDue, isDirty: true })
  if (isDue) tell(step, from.principal, 0)
}

/** One's own send moves one's own position; nobody is told, the message says it (P5). `sends`: of one commit, in order. */
export function receiptsOfSends(step: Step, sends: readonly { senderId: string; seq: number }[]): void {
  let positions: Map<string, Position> | undefined
  for (const { senderId, seq } of sends) {
    const before = (positions ?? step.state.positions).get(senderId) ?? nowhere
    if (seq <= before.read) continue
    positions ??= new Map(step.state.positions)
    positions.set(senderId, { ...before, read: seq, delivered: Math.max(before.delivered, seq), isDirty: true })
  }
  if (positions) step.set({ positions })
}

export function receiptTick(step: Step): void {
  for (const [userId, position] of step.state.positions) {
    if (!position.isOwed || step.mono - position.sentAt < deliveredEveryMs) continue
    place(step, userId, { ...position, isOwed: false, sentAt: step.mono })
    tell(step, userId, 0)
  }
}

export function countDirty(state: State): number {
  let count = 0
  for (const [userId, p] of state.positions) if (p.isDirty && state.members.has(userId)) count++
  return count
}

/** Positions that the store does not have yet. */
export function dirtyPositions(state: State): { userId: string; readSeq: number; deliveredSeq: number }[] {
  const out = []
  for (const [userId, p] of state.positions) {
    if (p.isDirty && state.members.has(userId)) out.push({ userId, readSeq: p.read, deliveredSeq: p.delivered })
  }
  return out
}

/** The same state with these users' positions marked flushed, or, after a failed flush, dirty again. */
export function markPositions(state: State, userIds: Iterable<string>, isDirty: boolean): State {
  const positions = new Map(state.positions)
  for (const userId of userIds) {
    const p = positions.get(userId)
    if (p) positions.set(userId, { ...p, isDirty })
  }
  return { ...state, positions }
}

function place(step: Step, userId: string, position: Position): void {
  step.set({ positions: new Map(step.state.positions).set(userId, position) })
}

function tell(step: Step, userId: string, movedRead: number): void {
  if (step.state.members.size > receiptMembersMax) return
  const { read, delivered } = step.state.positions.get(userId)!
  const frame: Draft<'receipt.updated'> = {
    type: 'receipt.updated',
    conversationId: step.state.id,
    userId,
    readSeq: read,
    deliveredSeq: delivered,
  }
  // In a blocked dm one's own devices still agree; the other learns nothing (P6).
  if (isBlocked(step.state)) step.push({ kind: 'user', userId, frame })
  else step.push({ kind: 'receipt', userId, readSeq: movedRead, frame })
}
