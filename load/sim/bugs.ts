/** Bugs to be planted: each must be found by the simulation, or the simulation proves nothing. */

export interface Patch {
  file: string
  from: string
  to: string
}

export interface Bug {
  name: string
  /** What it breaks, in a sentence. */
  about: string
  patches: Patch[]
}

export const bugs: readonly Bug[] = []
