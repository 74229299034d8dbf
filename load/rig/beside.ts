/**
 * How everybody else fared while a fault lasted: attempts for each send (no storm of retries) and the 99th percentile of acks
 * against the quiet times of the same run. Pure.
 */
import { type Attempt, Problems } from '#load/kit/checkers.ts'
import type { FaultSpan } from '#load/kit/checkers-recovery.ts'

export interface BesideRule {
  code: string
  attemptsPerSendMax?: number | undefined
  othersFactorMax?: number | undefined
}

/** Around a fault nothing is quiet. */
const edgeMs = 3000
/** Below this a factor says more about the machine than about the product. */
const floorMs = 50
const samplesMin = 50

export function checkBeside(
  attempts: readonly Attempt[],
  spans: readonly FaultSpan[],
  rules: readonly BesideRule[],
): string[] {
  const problems = new Problems('P10')
  const isNear = (at: number, span: FaultSpan) => at >= span.begin - edgeMs && at <= span.end + edgeMs
  const usual = p99(attempts.filter(a => !spans.some(span => isNear(a.invokedAt, span))))
  for (const { code, attemptsPerSendMax, othersFactorMax } of rules) {
    for (const span of spans.filter(s => s.code === code)) {
      const mine = attempts.filter(a => a.invokedAt >= span.begin && a.invokedAt <= span.end)
      if (attemptsPerSendMax !== undefined) {
        const sends = new Set(mine.map(a => `${a.conversation} ${a.sender} ${a.clientId}`)).size
        const each = mine.length / Math.max(1, sends)
        if (each > attemptsPerSendMax) problems.add(`${code}: ${each.toFixed(2)} attempts a send`)
      }
      if (othersFactorMax === undefined || usual === undefined) continue
      const now = p99(mine)
      const most = Math.max(floorMs, usual * othersFactorMax)
      if (now !== undefined && now > most)
        problems.add(
          `${code}: acks took ${now.toFixed(0)} ms at the 99th percentile, ${usual.toFixed(0)} ms without it`,
        )
    }
  }
  return problems.list
}

function p99(attempts: readonly Attempt[]): number | undefined {
  const ms = attempts.flatMap(a => (a.outcome.kind === 'ok' ? [a.completedAt! - a.invokedAt] : []))
  if (ms.length < samplesMin) return undefined
  return ms.sort((a, b) => a - b)[Math.floor(ms.length * 0.99)]
}
