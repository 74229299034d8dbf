/**
 * When the next piece of an answer is due at the journal. The first goes at once. Later ones gather for a while, and longer where
 * many answers stream or many people watch one: a piece costs the same whatever it holds, and each watcher a write. Busy turns
 * are due together, so that their pieces share a statement. Refuses to hold any text.
 */
import {
  deltaBusyMembersMin,
  deltaBusyTurnsMin,
  deltaGatherBusyMs,
  deltaGatherMs,
  deltaGridMs,
} from '#protos/limits.ts'

/** Of all turns of a worker. */
export class Pieces {
  #streaming = 0

  begin(): void {
    this.#streaming++
  }

  end(): void {
    this.#streaming--
  }

  /** Whether pieces gather longer. `members`: of the conversation. */
  isBusy(members: number): boolean {
    return this.#streaming >= deltaBusyTurnsMin || members >= deltaBusyMembersMin
  }

  /** Monotonic ms, for an answer whose last piece was stored at `mono`. */
  dueAt(mono: number, members: number): number {
    if (!this.isBusy(members)) return mono + deltaGatherMs
    return Math.ceil((mono + deltaGatherBusyMs - deltaGridMs) / deltaGridMs) * deltaGridMs
  }
}
