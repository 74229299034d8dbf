/**
 * Tokens that the assistant's turns may cost in a UTC day, for a person and for all together: reserved in one statement before
 * the model is asked, settled in one afterwards. Refuses to keep anything in memory: what was granted is a row.
 */
import type { Pool } from 'pg'
import type { Budget } from '#engine/actor/ports.ts'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { budgetAlarmShare } from '#protos/limits.ts'
import { rows, type Statement } from './query.ts'

/** The database's clock says which day it is: one for all nodes. */
const today = `(clock_timestamp() at time zone 'UTC')::date`

const sql = {
  reserve: {
    name: 'budget_reserve',
    text: `select r.is_granted as "isGranted", r.user_used as "userUsed", r.all_used as "allUsed",
                  extract(epoch from (${today} + 1)::timestamp - clock_timestamp() at time zone 'UTC') * 1000 as "resetsInMs"
             from ai_reserve($1, $2, $3, $4, $5, $6, ${today}) r`,
  },
  settle: { name: 'budget_settle', text: 'select ai_settle($1, $2, $3, $4, $5)' },
} as const satisfies Record<string, Statement>

export interface BudgetLimits {
  /** Tokens a day; 0: no limit. */
  userMax: number
  allMax: number
}

/** What the settings mean: tokens in a day are a rate, so the scale of rates applies. */
export function budgetLimitsOf(
  config: Pick<Config, 'AI_TOKENS_PER_DAY' | 'AI_TOKENS_PER_DAY_ALL' | 'RATE_LIMIT_SCALE'>,
): BudgetLimits {
  const scaled = (tokens: number) => (tokens === 0 ? 0 : Math.max(1, Math.round(tokens * config.RATE_LIMIT_SCALE)))
  return { userMax: scaled(config.AI_TOKENS_PER_DAY), allMax: scaled(config.AI_TOKENS_PER_DAY_ALL) }
}

export function createBudget(deps: {
  pool: Pool
  named?: boolean
  limits: BudgetLimits
  log: Log
  metrics: Metrics
}): Budget {
  const { pool, named = true, limits, log, metrics } = deps
  const { userMax, allMax } = limits
  let isAlarmed = false

  return {
    async reserve({ runId, userId, round, tokens }) {
      const values = [runId, userId, round, tokens, userMax, allMax]
      const [row] = await rows<{ isGranted: boolean; userUsed: number; allUsed: number; resetsInMs: number }>(
        pool,
        sql.reserve,
        values,
        named,
      )
      const { isGranted, userUsed, allUsed, resetsInMs } = row!
      const isNear = allMax > 0 && allUsed >= allMax * budgetAlarmShare
      if (isNear && !isAlarmed) {
        metrics.parley_budget_alarms_total.inc()
        log.warn('the tokens of this day are nearly used up for everybody', { count: allUsed })
      }
      isAlarmed = isNear
      if (isGranted) return { isGranted: true }
      const userLeft = userMax > 0 ? Math.max(0, userMax - userUsed) : Number.POSITIVE_INFINITY
      const allLeft = allMax > 0 ? Math.max(0, allMax - allUsed) : Number.POSITIVE_INFINITY
      const scope = userLeft < tokens ? 'user' : 'all'
      metrics.parley_budget_refusals_total.inc({ scope })
      log.info('a turn was refused for the tokens of the day', { userId, messageId: runId, code: scope, count: tokens })
      return { isGranted: false, scope, left: Math.min(userLeft, allLeft), resetsInMs: Math.ceil(resetsInMs) }
    },

    async settle({ runId, round, input, output, estimated }) {
      await rows(pool, sql.settle, [runId, round, input, output, estimated], named)
    },
  }
}
