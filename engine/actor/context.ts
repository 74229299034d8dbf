/**
 * What all actors of a worker share: clock, stores, letters, timers and the counters that bound them together.
 * Refuses to hold anything of one conversation.
 */
import type { World } from '#engine/conversation/events.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import type { Backlog } from './backlog.ts'
import type { Interpreter } from './interpreter.ts'
import type { Tally } from './mailbox.ts'
import type { Pieces } from './pieces.ts'
import type { Budget, Directory, Journal, Provider, Refuser, Toolbox } from './ports.ts'
import type { Reads } from './reads.ts'
import type { Timers } from './timers.ts'

/** A conversation whose log has a turn that is not ended. */
export interface Runner {
  readonly shard: number
  readonly hasRunning: boolean
  readonly turns: { readonly waitsForSlotOf: string | undefined } | undefined
  poke(): void
}

export interface Context {
  clock: Clock
  log: Log
  metrics: Metrics
  journal: Journal
  directory: Directory
  reads: Reads
  refuser: Refuser
  letters: Interpreter
  timers: Timers
  provider: Provider
  /** Absent: the assistant has no tools. */
  toolbox: Toolbox | undefined
  /** Absent: turns cost nothing that anybody counts. */
  budget: Budget | undefined
  /** Whether conversations without a title are given one. */
  titles: boolean
  systemPrompt: string
  world: World
  epochOf(shard: number): number | undefined
  /** Monotonic ms at which the node's last successful renewal was sent. */
  renewedAt(): number
  tally: Tally
  /** How many bytes of tail one actor may keep: a share of the worker's. */
  tailBytesMax: number
  backlog: Backlog
  pieces: Pieces
  /** Who has turns is asked ten times a second, and there may be a hundred thousand conversations that have none. */
  runners: Set<Runner>
  /** The worker goes: what runs ends with what it has. */
  isDraining: boolean
  /** Whether turns of this shard may begin; while it is about to move they wait for its next owner. */
  startsTurns(shard: number): boolean
  /** A run's end is stored. */
  runEnded(runId: string): void
  /** Somebody's slot was freed: actors whose turns wait for one ask again. */
  slotFreed(requester: string): void
}
