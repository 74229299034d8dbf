/** The planted bugs: which patch, under which faults, and which checker has to notice. Owns the list only. */
import { readdirSync } from 'node:fs'
import path from 'node:path'
import type { FaultName } from './plan.ts'

export interface Mutant {
  faults: readonly FaultName[]
  /** At least one of these has to fail. */
  caughtBy: readonly string[]
  /** Seconds for each fault, where the usual slot is too short for it to show. */
  slotS?: number
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
}

export const patchOf = (name: string): string => path.join(mutantFolder, `${name}.patch`)

export const patchNames = (): string[] =>
  readdirSync(mutantFolder).flatMap(file => (file.endsWith('.patch') ? [file.slice(0, -'.patch'.length)] : []))
