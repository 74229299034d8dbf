/** The sizes of a run: how many people, how much they send, which faults in which order. Owns numbers only. */
import type { FaultName } from './plan.ts'
import type { Size } from './traffic.ts'

export interface Profile {
  size: Size
  /** Each fault has at least so long, healing included. */
  slotMs: number
  faults: readonly FaultName[]
  repeat: number
  /** × the limits of ownership's table. */
  factor: number
  /** Everybody pauses after each fault, and what processes hold is counted. */
  countsEach?: boolean
  /** A run that proves less than this proves nothing; 0: not asked. */
  floors: { acks: number; unknown: number; resumes: number }
}

const gateSize: Size = {
  sessions: 100,
  conversations: [60, 40, 30, 20, 20, 10, 10, 10, 8, 8, 6, 6, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2],
  sendsPerSecond: 150,
  cutMs: [2000, 15_000],
  awayMs: 10_000,
}

export const profiles = {
  smoke: {
    size: {
      sessions: 20,
      conversations: [20, 8, 8, 4, 4, 2, 2, 2],
      sendsPerSecond: 50,
      cutMs: [3000, 15_000],
      awayMs: 5000,
    },
    slotMs: 15_000,
    faults: ['f1-exit', 'f1-spin', 'f2', 'f3-15s', 'f4-stop', 'f5-b', 'f5-d', 'f6-kill', 'f7-kill'],
    repeat: 1,
    factor: 3,
    floors: { acks: 3000, unknown: 1, resumes: 100 },
  },
  gate: {
    size: gateSize,
    slotMs: 30_000,
    // biome-ignore format: a list by fault
    faults: [
      'f1-throw', 'f1-exit', 'f1-oom', 'f1-spin', 'f2', 'f2-lost', 'f3-1s', 'f3-5s', 'f3-7s', 'f3-15s', 'f3-late',
      'f4-stop', 'f4-backend', 'f4-restart', 'f5-a', 'f5-b', 'f5-c', 'f5-d', 'f5-e', 'f6-kill', 'f6-stop', 'f6-flush',
      'f7-kill', 'f7-stop', 'f8-slow', 'f8-deaf', 'f8-mute', 'f10-engine-hour', 'f10-engine-back', 'f10-engine-day',
      'f10-engine-day-back', 'f10-gateway-hour', 'f10-gateway-back', 'f12-hold', 'f12-refuse', 'f12-e-g', 'f12-e-g-there',
      'f12-e-g-back', 'f12-e-g-refuse', 'f12-g-rd', 'f12-c-g', 'f12-c-g-back', 'f12-alone', 'f13', 'f14', 'f16-engine-3s',
      'f16-engine-10s', 'f16-gateway-3s', 'f16-gateway-10s', 'f16-engine-memory',
    ],
    countsEach: true,
    repeat: 1,
    factor: 1,
    floors: { acks: 100_000, unknown: 500, resumes: 5000 },
  },
  takeover: {
    size: gateSize,
    slotMs: 15_000,
    // Ownership's table, row by row.
    // biome-ignore format: a list by row
    faults: [
      'f1-exit', 'f1-oom', 'f1-spin', 'f2', 'f2-lost', 'f3-15s', 'f12-hold', 'f7-kill', 'f4-stop', 'f6-kill', 'f6-stop',
      'f6-flush', 'f14',
    ],
    repeat: 10,
    factor: 1,
    floors: { acks: 0, unknown: 0, resumes: 0 },
  },
  /** A minute for a mutant or a change: the faults are named by the caller. */
  short: {
    size: {
      sessions: 20,
      conversations: [20, 8, 8, 4, 4, 2, 2, 2],
      sendsPerSecond: 100,
      cutMs: [2000, 8000],
      awayMs: 3000,
      sleepers: 4,
    },
    slotMs: 15_000,
    faults: ['f2'],
    repeat: 1,
    factor: 3,
    floors: { acks: 0, unknown: 0, resumes: 0 },
  },
} satisfies Record<string, Profile>

export type ProfileName = keyof typeof profiles
