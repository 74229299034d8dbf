/**
 * Fleeting commands that came before the state did wait for it, in order; typing, which is soon worth nothing, for a moment.
 * Bounded. Refuses to act on them.
 */
import type { Requester } from '#engine/conversation/effects.ts'
import type { Command } from '#protos/catalogue.ts'
import { earlyCommandsMax, typingRepeatMs } from '#protos/limits.ts'
import type { Delivery } from './ports.ts'
import { ageOf } from './refusals.ts'

export interface EarlyCommand {
  command: Command
  from: Requester
}

/** Of all that are empty; never pushed to. */
const none: EarlyCommand[] = []

export class Early {
  #items = none

  /** False when there is no room. */
  push(command: Command, from: Requester): boolean {
    if (this.#items.length >= earlyCommandsMax) return isTyping(command)
    if (this.#items === none) this.#items = []
    this.#items.push({ command, from })
    return true
  }

  takeAll(): readonly EarlyCommand[] {
    const all = this.#items
    this.#items = none
    return all
  }

  /** All that is worth something still. */
  takeFresh(mono: number): readonly EarlyCommand[] {
    return this.takeAll().filter(
      ({ command, from }) => !isTyping(command) || ageOf(from.ref as Delivery, mono) < typingRepeatMs,
    )
  }

  take(matches: (item: EarlyCommand) => boolean): EarlyCommand[] {
    const out = this.#items.filter(matches)
    if (out.length > 0) this.#items = this.#items.filter(item => !matches(item))
    return out
  }
}

function isTyping({ type }: Command): boolean {
  return type === 'typing.start' || type === 'typing.stop'
}
