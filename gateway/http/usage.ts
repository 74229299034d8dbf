/**
 * What a person's turns have cost today and what is left, read from the rows that the engine keeps. Refuses to decide about a
 * turn: the reservation does, this only tells.
 */
import type { BudgetLimits } from '#engine/storage/budget.ts'
import type { Db } from '#gateway/auth/db.ts'
import { Refusal } from '#gateway/auth/failure.ts'
import { outputTokensMax } from '#protos/limits.ts'

export interface UsageView {
  day: string
  resets_at: string
  tokens: {
    limit: number | null
    /** Input and output together, settled. */
    used: number
    reserved: number
    left: number | null
    is_estimated: boolean
  }
}

export interface Usage {
  of(userId: string): Promise<UsageView>
  /** Throws 429 when no turn could be answered with what is left. */
  mustHave(userId: string): Promise<void>
  /** The refusal of a turn that found too little left; undefined: it did not. */
  refusalOf(userId: string, answerId: string): Promise<Refusal | undefined>
}

const sql = `
  select to_char(t.day, 'YYYY-MM-DD') as day, to_char(t.day + 1, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as resets_at,
         extract(epoch from (t.day + 1)::timestamp - t.at)::float8 * 1000 as resets_in_ms,
         coalesce((select used from ai_budget where user_id = $1 and day = t.day), 0)::float8 as counted,
         coalesce((select used from ai_budget where user_id = '00000000-0000-0000-0000-000000000000' and day = t.day), 0)::float8 as counted_all,
         coalesce(s.used, 0)::float8 as used, coalesce(s.reserved, 0)::float8 as reserved, coalesce(s.is_estimated, false) as is_estimated
    from (select (n.at)::date as day, n.at from (select clock_timestamp() at time zone 'UTC' as at) n) t
    left join lateral (select sum(input + output) as used, sum(reserved) as reserved, bool_or(is_estimated) as is_estimated
                         from ai_spend where user_id = $1 and day = t.day) s on true`

export function createUsage({ db, limits }: { db: Db; limits: BudgetLimits }): Usage {
  const { userMax, allMax } = limits

  async function read(userId: string): Promise<UsageView & { resetsInMs: number }> {
    const { rows } = await db.query<{
      day: string
      resets_at: string
      resets_in_ms: number
      counted: number
      counted_all: number
      used: number
      reserved: number
      is_estimated: boolean
    }>(sql, [userId])
    const row = rows[0]!
    const lefts = [
      ...(userMax > 0 ? [userMax - row.counted] : []),
      // What all have left together bounds each one.
      ...(allMax > 0 ? [allMax - row.counted_all] : []),
    ]
    const left = lefts.length === 0 ? null : Math.max(0, Math.min(...lefts))
    return {
      day: row.day,
      resets_at: row.resets_at,
      tokens: {
        limit: userMax > 0 ? userMax : null,
        used: row.used,
        reserved: row.reserved,
        left,
        is_estimated: row.is_estimated,
      },
      resetsInMs: Math.ceil(row.resets_in_ms),
    }
  }

  const refusal = ({ tokens, resets_at, resetsInMs }: Awaited<ReturnType<typeof read>>, more: object = {}) =>
    new Refusal(
      429,
      'RATE_LIMITED',
      'The tokens of this day are used up.',
      { limit: 'tokens', left: tokens.left, resets_at, ...more },
      resetsInMs,
    )

  return {
    async of(userId) {
      const { day, resets_at, tokens } = await read(userId)
      return { day, resets_at, tokens }
    },

    async mustHave(userId) {
      const found = await read(userId)
      if (found.tokens.left !== null && found.tokens.left <= outputTokensMax) throw refusal(found)
    },

    async refusalOf(userId, answerId) {
      const { rows } = await db.query<{ conversation_id: string; refused: number }>(
        `select a.conversation_id, s.refused::float8 as refused from ai_run a join ai_spend s on s.run_id = a.id
          where a.answer_id = $1 and s.refused is not null order by s.day desc limit 1`,
        [answerId],
      )
      if (!rows[0]) return undefined
      const { conversation_id, refused } = rows[0]
      return refusal(await read(userId), { needed: refused, conversation_id, message_id: answerId })
    },
  }
}
