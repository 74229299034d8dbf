/**
 * Puts the calls of one streamed response together: names first, arguments in pieces, by index. Bounded in number and in
 * bytes; the model is treated as a stranger. Refuses to judge a call.
 */
import type { ModelCall } from '#engine/actor/ports.ts'
import { toolArgumentsBytesMax, toolCallsPerTurnMax } from '#protos/limits.ts'

interface Piece {
  index?: number
  id?: string | undefined
  function?: { name?: string | undefined; arguments?: string | undefined } | undefined
}

export class CallPieces {
  readonly #calls = new Map<number, ModelCall>()

  get isEmpty(): boolean {
    return this.#calls.size === 0
  }

  push(pieces: readonly Piece[] | null | undefined): void {
    if (!Array.isArray(pieces)) return
    for (const piece of pieces as (Piece | null)[]) {
      const index = piece?.index ?? this.#calls.size
      if (!Number.isInteger(index)) continue
      let call = this.#calls.get(index)
      if (!call) {
        // One above the limit shows that it was passed; more are not kept.
        if (this.#calls.size > toolCallsPerTurnMax) continue
        call = { id: '', name: '', arguments: '' }
        this.#calls.set(index, call)
      }
      if (typeof piece?.id === 'string') call.id ||= piece.id.slice(0, 256)
      const { name, arguments: more } = piece?.function ?? {}
      if (typeof name === 'string' && call.name.length < 256) call.name += name.slice(0, 256)
      // Arguments that do not fit end as no JSON, and that is what the tool will say.
      if (typeof more === 'string' && call.arguments.length <= toolArgumentsBytesMax) call.arguments += more
    }
  }

  /** In the order of their indexes. One without an id gets its place for one. */
  whole(): ModelCall[] {
    return [...this.#calls]
      .sort(([a], [b]) => a - b)
      .map(([index, call]) => ({ ...call, id: call.id === '' ? `#${index}` : call.id }))
  }
}
