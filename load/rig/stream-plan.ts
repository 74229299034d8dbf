/**
 * Which turns a run of the streams rig consists of: every script at least once, most of them plain, some stopped at chosen
 * places, people coming and going. Pure: the same seed makes the same list. Owns choices only.
 */
import { type ScriptName, scriptOf, scripts } from './upstream-scripts.ts'

export interface TurnPlan {
  script: ScriptName
  tokens: number
  gapMs: number
  /** Share of the expected length after which somebody stops it; 0: at once, 1: about at its end. */
  stopAt?: number
  /** When the second viewer reloads and the third leaves and comes back, as shares of the expected length. */
  reloadAt: number[]
  rejoinAt: number[]
}

/** Of a hundred turns so many have a script at random; the rest are plain, and break only with the cluster. */
const oddPercent = 35
const stopPercent = 15
const longEach = 3
const stops = [0, 0.02, 0.5, 0.95] as const

const names = Object.keys(scripts) as ScriptName[]
const isLong = (name: ScriptName) => scriptOf(name).isLong === true

export function planTurns(count: number, random: () => number, withLong: boolean): TurnPlan[] {
  const quick = names.filter(name => !isLong(name))
  const chosen: ScriptName[] = quick.slice(0, count)
  const long = withLong ? names.filter(isLong).flatMap(n => (n === 'deadline' ? [n] : Array(longEach).fill(n))) : []
  while (chosen.length < count - long.length)
    chosen.push(random() * 100 < oddPercent ? quick[Math.floor(random() * quick.length)]! : 'plain')
  for (let i = chosen.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[chosen[i], chosen[j]] = [chosen[j]!, chosen[i]!]
  }
  // Those that take minutes begin early, so that nobody waits for them at the end.
  const spread = Math.max(1, Math.floor(chosen.length / 2 / Math.max(1, long.length)))
  long.sort((a, b) => Number(b === 'deadline') - Number(a === 'deadline'))
  for (const [i, name] of long.entries()) chosen.splice(i * (spread + 1), 0, name)
  return chosen.map(script => planTurn(script, random))
}

export function planTurn(script: ScriptName, random: () => number): TurnPlan {
  const gapMs = 20 + Math.floor(random() * 21)
  const plan: TurnPlan = {
    script,
    tokens: 20 + Math.floor(random() * 140),
    gapMs,
    reloadAt: Array.from({ length: Math.floor(random() * 3) }, random),
    rejoinAt: Array.from({ length: Math.floor(random() * 3) }, random),
  }
  const { stops: share } = scriptOf(script)
  if (share !== undefined) plan.stopAt = share
  else if (script === 'plain' && random() * 100 < stopPercent) plan.stopAt = stops[Math.floor(random() * stops.length)]!
  return plan
}
