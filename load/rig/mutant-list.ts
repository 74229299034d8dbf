/** The planted bugs: which patch, what is run against it, and which checker or test has to notice. Owns the list only. */
import { readdirSync } from 'node:fs'
import path from 'node:path'
import type { FaultName } from './plan.ts'
import type { StreamFault } from './streams.ts'

/** Exactly one of `faults`, `streams` and `tests`. */
export interface Mutant {
  /** The fault rig under these. */
  faults?: readonly FaultName[]
  /** Seconds for each fault, where the usual slot is too short for it to show. */
  slotS?: number
  /** The assistant's rig under these. */
  streams?: readonly StreamFault[]
  /** Test files whose path holds one of these words. */
  tests?: readonly string[]
  /** At least one of these has to fail: a check of a rig, or the first word of a test's name. */
  caughtBy: readonly string[]
}

export const mutantFolder = path.join(import.meta.dirname, 'mutants')

export const mutants: Record<string, Mutant> = {
  'fence-dropped': { faults: ['f5-d', 'f3-15s'], caughtBy: ['C7', 'C1', 'C12', 'what each fault must show'] },
  'recovery-without-stamp': { faults: ['f5-d'], caughtBy: ['C1', 'C12', 'what each fault must show'] },
  'ack-before-commit': { faults: ['f4-stop', 'f2'], caughtBy: ['C1'] },
  'unknown-is-refused': { faults: ['f5-b'], caughtBy: ['C1'] },
  'duplicates-stored': { faults: ['f5-b'], caughtBy: ['C1'] },
  'numbers-with-gaps': { faults: ['f5-a'], caughtBy: ['C1'] },
  'fan-out-before-commit': { faults: ['f4-stop', 'f2', 'f5-a'], caughtBy: ['C2'] },
  'resume-off-by-one': { faults: ['f2'], caughtBy: ['C3'] },
  'gateway-keeps-duplicates': { faults: ['f2', 'f3-15s'], caughtBy: ['C3'] },
  'receipts-move-back': { faults: ['f6-flush'], caughtBy: ['C6'] },
  'presence-without-expiry': { faults: ['f7-kill'], caughtBy: ['C8'], slotS: 70 },
  'fence-key-share': { tests: ['storage/fence.pg'], caughtBy: ['J20'] },
  'warning-ignored': { tests: ['storage/fence.pg'], caughtBy: ['J21'] },
  'delta-before-commit': { streams: ['f12-hold'], caughtBy: ['C4'] },
  'retry-after-first-byte': { streams: [], caughtBy: ['C4'] },
  'answer-starts-over': { streams: ['f2'], caughtBy: ['C4'] },
  'left-overs-stay': { streams: ['all'], caughtBy: ['C4', 'turns left over by a dead node ended within 15 s'] },
  'stop-waits-for-the-model': { streams: [], caughtBy: ['C4'] },
  'tool-call-again': { streams: [], caughtBy: ['C4'] },
  'user-id-from-arguments': { tests: ['gateway/redteam.pg', 'assistant/tasks.pg'], caughtBy: ['K-12', 'K-02'] },
  'approval-unbound': { tests: ['gateway/redteam.pg', 'assistant/tasks.pg'], caughtBy: ['R6', '3.5'] },
}

export const patchOf = (name: string): string => path.join(mutantFolder, `${name}.patch`)

export const patchNames = (): string[] =>
  readdirSync(mutantFolder).flatMap(file => (file.endsWith('.patch') ? [file.slice(0, -'.patch'.length)] : []))
