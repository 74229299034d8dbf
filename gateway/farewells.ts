/**
 * The notice `conversation.removed` where the owner's was lost with it: whoever reads the removing event from the log is
 * told by the gateway itself, and the owner's, should it come after all, is not told again. Refuses to decide who is removed.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { farewellsKeptMax } from '#protos/limits.ts'
import { frameText } from './framing.ts'
import type { Peer, Seat } from './peer.ts'

export class Farewells {
  readonly #clock: Pick<Clock, 'now'>
  /** Conversations of which a peer was told by us. Most peers never are. */
  readonly #told = new WeakMap<Peer, Set<string>>()

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** Gives the seat its notice, which is sent when the seat is left; one that the owner sent stays. */
  bid(seat: Seat): void {
    if (seat.farewell) return
    const { peer, room } = seat
    const ts = new Date(this.#clock.now()).toISOString()
    seat.farewell = frameText(JSON.stringify({ type: 'conversation.removed', ts, conversationId: room.id }))
    const told = this.#told.get(peer) ?? new Set()
    this.#told.set(peer, told.add(room.id))
    if (told.size > farewellsKeptMax) told.delete(told.keys().next().value!)
  }

  /** Whether we told it already; asked once for each notice that comes, and forgotten with it or a new membership. */
  takeTold(peer: Peer, conversation: string): boolean {
    return this.#told.get(peer)?.delete(conversation) ?? false
  }
}
