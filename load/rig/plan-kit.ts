/** What a fault is, and what all of them share: chances, waiting, what the database says of a node. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { World } from './world.ts'

export interface Fault {
  code: string
  title: string
  /** Sends work again within so long; ownership's table. */
  limitMs: number
  /** What half of the conversations should reach. */
  targetMs: number
  isFromHeal?: boolean
  /** Devices that lose their connection are back within this. */
  reconnectMs?: number
  /** Only in a world with links between everybody. */
  needsLinks?: boolean
  /** Attempts may be so many times the sends that were begun while it lasts. */
  attemptsPerSendMax?: number
  /** p99 of everybody's acks, against the time before it. */
  othersFactorMax?: number
  /** Injects and heals; resolves healed, with how often it hit and what else is wrong. */
  play(world: World, random: () => number): Promise<Played>
}

export interface Played {
  fired: number
  /** From when it worked against the product, if not from the start of `play`; monotonic ms. */
  begin?: number
  /** Sentences about what must be seen besides the promises. */
  problems?: string[]
  note?: string
}

export const pickOf = <T>(list: readonly T[], random: () => number): T => list[Math.floor(random() * list.length)]!

export async function until(what: () => boolean | Promise<boolean>, ms: number): Promise<boolean> {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(50)) if (await what()) return true
  return false
}

/** Whether its latest incarnation was declared dead. */
export async function isBuried(world: World, nodeId: string): Promise<boolean> {
  const rows = await world.query<{ state: string }>(
    "select state from engine_node where split_part(node_id, '#', 1) = $1 order by started_at desc limit 1",
    [nodeId],
  )
  return rows[0]?.state === 'dead'
}
