/**
 * One draft: the letters used, the state as it would become, the rows to store and the effects that wait for the commit.
 * Lives from `take` to `settle`; thrown away, it leaves no trace.
 */
import type { Asked, Effect, EventRow, SegmentRow, SideChange } from '#engine/conversation/effects.ts'
import type { CommandEvent, RunEvent, World } from '#engine/conversation/events.ts'
import type { State } from '#engine/conversation/state.ts'
import { transition } from '#engine/conversation/transition.ts'
import { letterAgeMsMax } from '#protos/limits.ts'
import { isStale } from './look-up.ts'
import type { Mailbox, Waiting } from './mailbox.ts'
import type { Contribution } from './ports.ts'
import { ageOf, isSend } from './refusals.ts'

/** What a row costs beside its text, roughly. */
const rowBytes = 160

export interface Room {
  rows: number
  bytes: number
  letters: number
}

/** What a draft needs done with a letter. */
interface Calls {
  /** It waits for this read; it keeps its place. */
  prepare(item: Waiting, what: Asked): void
  broke(item: Waiting, error: unknown): void
  took(item: Waiting): void
}

export class Take {
  draft: State
  hasRun = false
  readonly letters: Waiting[] = []
  readonly effects: Effect[] = []
  readonly #world: World
  readonly #events: EventRow[] = []
  readonly #segments: SegmentRow[] = []
  readonly #sides: SideChange[] = []
  /** Sockets of which a send was refused for load in this draft: their later sends are refused too (R2). */
  readonly #behind = new Map<string, Effect & { kind: 'refuse' }>()
  #bytes = 0

  constructor(state: State, world: World) {
    this.draft = state
    this.#world = world
  }

  get isEmpty(): boolean {
    return this.#events.length === 0 && this.#segments.length === 0 && this.#sides.length === 0
  }

  isFull(room: Room): boolean {
    const used = this.letters.length + (this.hasRun ? 1 : 0)
    const rows = this.#events.length + this.#segments.length
    return used >= room.letters || rows >= room.rows || this.#bytes >= room.bytes
  }

  run(event: RunEvent): void {
    const { state, effects } = transition(this.draft, event, this.#world)
    this.draft = state
    this.hasRun = true
    this.#gather(effects)
  }

  /** Uses letters in their order as long as there is room and nothing must be read first. */
  fill(room: Room, mailbox: Mailbox, time: { at: number; mono: number }, calls: Calls): void {
    while (!this.isFull(room)) {
      const item = mailbox.peek()
      if (!item?.isReady) return
      if (isStale(item, this.draft.head)) return calls.prepare(item, 'stored')
      let asked: Asked | undefined
      try {
        asked = this.#letter(item, commandEvent(item, time))
      } catch (error) {
        // A rule of ours is broken. The letter is answered, the draft goes on without it: its state was not touched.
        mailbox.shift()
        calls.broke(item, error)
        continue
      }
      if (asked) return calls.prepare(item, asked)
      mailbox.shift()
      calls.took(item)
    }
  }

  /** What must be read before this letter can be decided; undefined when it is decided and part of the draft. */
  #letter(item: Waiting, event: CommandEvent): Asked | undefined {
    const hasBehind = this.#behind.size > 0 && isSend(item) && item.from.socket !== 0
    const before = hasBehind ? this.#behind.get(pairOf(item)) : undefined
    if (before) {
      this.letters.push(item)
      this.effects.push({ ...before, to: item.from })
      return undefined
    }
    const { state, effects } = transition(this.draft, event, this.#world)
    for (const effect of effects) {
      if (effect.kind === 'ask') return effect.what
      if (effect.kind === 'refuse') this.#behind.set(pairOf(item), effect)
    }
    this.draft = state
    this.letters.push(item)
    this.#gather(effects)
    return undefined
  }

  contribution(conversation: string, shard: number, epoch: number): Contribution {
    return { shard, epoch, conversation, events: this.#events, segments: this.#segments, sides: this.#sides }
  }

  #gather(effects: readonly Effect[]): void {
    for (const effect of effects) {
      this.effects.push(effect)
      if (effect.kind === 'append') {
        this.#events.push(effect.row)
        this.#bytes += effect.row.body.length + rowBytes
      } else if (effect.kind === 'segment') {
        this.#segments.push(effect.segment)
        this.#bytes += effect.segment.text.length + rowBytes
      } else if (effect.kind === 'side') this.#sides.push(effect.change)
    }
  }
}

function pairOf({ delivery, from }: Waiting): string {
  return `${delivery.origin.linkId}:${from.socket}`
}

function commandEvent(item: Waiting, { at, mono }: { at: number; mono: number }): CommandEvent {
  const { command, from, stored, lookedUpAt, blocks, replied, isAgain } = item
  return {
    kind: 'command',
    command,
    from,
    at,
    mono,
    isExpired: ageOf(item.delivery, mono) > letterAgeMsMax,
    isAgain,
    ...(stored === undefined ? {} : { stored }),
    ...(lookedUpAt === undefined ? {} : { lookedUpAt }),
    ...(blocks === undefined ? {} : { blocks }),
    ...(replied === undefined ? {} : { replied }),
  }
}
