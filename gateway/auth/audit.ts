/** Appends to the audit trail: who did what to which session or person. Owns one insert; refuses bodies and addresses. */
import type { Sql } from './db.ts'

export interface AuditEntry {
  action: string
  actorId?: string
  sessionId?: string
  requestId?: string
  targetType?: string
  targetId?: string
}

export async function audit(db: Sql, entry: AuditEntry): Promise<void> {
  await db.query(
    `insert into audit (actor_id, action, target_type, target_id, session_id, request_id) values ($1, $2, $3, $4, $5, $6)`,
    [
      entry.actorId ?? null,
      entry.action,
      entry.targetType ?? null,
      entry.targetId ?? null,
      entry.sessionId ?? null,
      entry.requestId ?? null,
    ],
  )
}
