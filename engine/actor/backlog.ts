/**
 * Answer text that was read from providers and is not stored yet, over all turns of a worker. Above the limit no provider
 * is pulled: back-pressure by not asking. Counts UTF-16 units, which are at most the bytes.
 */
import { deltaBacklogBytesMax } from '#protos/limits.ts'

export class Backlog {
  #size = 0
  #waiting: (() => void)[] = []

  get size(): number {
    return this.#size
  }

  add(units: number): void {
    this.#size += units
    if (this.#size > deltaBacklogBytesMax) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const go of waiting) go()
  }

  /** Resolves at once below the limit, else when enough was stored. */
  async room(): Promise<void> {
    while (this.#size > deltaBacklogBytesMax) await new Promise<void>(go => this.#waiting.push(go))
  }
}
