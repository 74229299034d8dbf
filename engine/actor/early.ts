/**
 * Fleeting commands that came before the state did: receipts and joins wait for it, in order; typing is worth nothing later
 * and is dropped. Bounded. Refuses to act on them.
 */
import type { Requester } from '#engine/conversation/effects.ts'
import type { Command } from '#protos/catalogue.ts'
import { earlyCommandsMax } from '#protos/limits.ts'

export interface EarlyCommand {
  command: Command
  from: Requester
}

export class Early {
  #items: EarlyCommand[] = []

  /** False when there is no room. */
  push(command: Command, from: Requester): boolean {
    if (command.type === 'typing.start' || command.type === 'typing.stop') return true
    if (this.#items.length >= earlyCommandsMax) return false
    this.#items.push({ command, from })
    return true
  }

  takeAll(): EarlyCommand[] {
    return this.#items.splice(0)
  }

  take(matches: (item: EarlyCommand) => boolean): EarlyCommand[] {
    const out = this.#items.filter(matches)
    if (out.length > 0) this.#items = this.#items.filter(item => !matches(item))
    return out
  }
}
