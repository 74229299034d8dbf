/**
 * Calls of other servers' tools in the ledger: the beginning is stored before a call is made, by whoever may make it, once for
 * all time; the first result that is stored is the result. Refuses to make a call.
 */
import type { ToolStatus } from '#engine/actor/ports.ts'
import type { Sql } from './tasks.ts'
import { canonicalHash } from './tools.ts'

export interface ForeignCall {
  runId: string
  callId: string
  requester: string
  name: string
  /** JSON. */
  arguments: string
  trace: string
}

export type Claim =
  /** Its beginning is stored now, and by nobody else: make it. */
  | { kind: 'ours' }
  /** Begun before, here or elsewhere, `ageMs` ago; no result is stored. */
  | { kind: 'begun'; ageMs: number }
  | { kind: 'stored'; status: ToolStatus; result: string }
  /** Not recorded, not allowed, or the turn is over. */
  | { kind: 'refused' }

export interface ForeignLedger {
  /**
   * `isWanted`: false only looks, for a call that cannot be made now; `why` is recorded of one that was not begun. `isAuto`: no
   * person need allow it. Throws when the database does; it may have been claimed then.
   */
  claim(call: ForeignCall, given: { isWanted: boolean; isAuto: boolean; why?: string | undefined }): Promise<Claim>
  /** Keeps a result unless there is one. Answers the one that holds. */
  keep(
    call: ForeignCall,
    outcome: { status: ToolStatus; result: string },
  ): Promise<{ status: ToolStatus; result: string }>
}

export function createForeignLedger(db: Sql): ForeignLedger {
  return {
    async claim(call, { isWanted, isAuto, why }) {
      const hash = canonicalHash(call.name, JSON.parse(call.arguments))
      const { rows } = await db.query<{
        age: number | null
        result: string | null
        is_allowed: boolean
        is_ours: boolean
      }>(
        `with found as (
           select c.run_id, c.call_id, c.started_at, c.result,
                  c.requester = $3 and r.requester = $3 and c.name = $4 and c.arguments_hash = $5 and r.status <> 'ended'
                  and (c.decision = 'approve' or (c.decision is null and c.approval = 'auto' and $6)) as is_allowed
             from tool_call c join ai_run r on r.id = c.run_id
            where c.run_id = $1 and c.call_id = $2 for update of c),
         begun as (
           update tool_call c set started_at = clock_timestamp() from found f
            where c.run_id = f.run_id and c.call_id = f.call_id and f.started_at is null and f.result is null
              and f.is_allowed and $7
           returning c.call_id),
         -- One record a call, with the chance of its effect: whatever happens afterwards, this stands.
         recorded as (
           insert into audit (actor_id, action, request_id, detail)
           select $3::uuid, 'tool.' || $4, $8,
                  jsonb_build_object('door', 'turn', 'run_id', $1::uuid, 'call_id', $2::text, 'arguments_hash', encode($5, 'hex'),
                                     'outcome', case when exists (select 1 from begun) then 'begun' else coalesce($9::text, 'Unauthorized') end)
             from found f where f.started_at is null and f.result is null and ($7 or $9::text is not null))
         select (extract(epoch from clock_timestamp() - started_at) * 1000)::float8 as age, result::text, is_allowed is true as is_allowed,
                exists (select 1 from begun) as is_ours
           from found`,
        [call.runId, call.callId, call.requester, call.name, hash, isAuto, isWanted, call.trace, why ?? null],
      )
      const row = rows[0]
      if (row?.result) return { kind: 'stored', ...storedOf(row.result) }
      if (row?.is_ours) return { kind: 'ours' }
      if (row && row.age !== null) return { kind: 'begun', ageMs: row.age }
      return { kind: 'refused' }
    },

    async keep(call, { status, result }) {
      const { rows } = await db.query<{ result: string }>(
        `update tool_call set result = coalesce(result, $3::jsonb) where run_id = $1 and call_id = $2
         returning result::text`,
        [call.runId, call.callId, result],
      )
      return rows[0] ? storedOf(rows[0].result) : { status, result }
    },
  }
}

/** A result says itself whether it is one of success. */
function storedOf(result: string): { status: ToolStatus; result: string } {
  return { status: (JSON.parse(result) as { success?: boolean }).success === true ? 'success' : 'error', result }
}
