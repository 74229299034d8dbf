/**
 * A reader of one conversation that is no socket: an HTTP request which follows a turn. It sits in the hub like a socket that
 * has joined, so what it is told is what sockets are told, deltas included. Refuses to count as somebody's presence.
 */
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import type { FleetingFrame, ServerFrame } from '#protos/catalogue.ts'
import { chatListenersMax, holdMs } from '#protos/limits.ts'
import { refusalOf, unavailable } from './auth/failure.ts'
import { type Framed, payloadOf } from './framing.ts'
import type { Hub } from './hub.ts'
import { type Flusher, Outbox, type Wire } from './outbox.ts'
import { Peer } from './peer.ts'

export interface Listened {
  joined: FleetingFrame<'room.joined'>
  close(): void
}

export interface Sink {
  frame(frame: ServerFrame): void
  /** Bytes handed over that have not left. */
  unsent(): number
  /** Too slow, or the gateway goes: nothing more will come. */
  ended(): void
}

export interface ChatListeners {
  /** Resolves when the conversation is joined; frames may come before. Throws a Refusal. */
  listen(
    who: { userId: string; sessionId: string },
    conversationId: string,
    head: number,
    sink: Sink,
  ): Promise<Listened>
  readonly size: number
  close(): void
}

export function createChatListeners(deps: {
  hub: Hub
  engine: Pick<EngineClient, 'command' | 'closeSocket'>
  flusher: Flusher
  clock: Clock
  metrics: Metrics
  /** A number that no socket of this gateway has. */
  nextSocket: () => number
}): ChatListeners {
  const { hub, engine, flusher, clock, metrics, nextSocket } = deps
  const open = new Map<number, () => void>()

  return {
    async listen(who, conversationId, head, sink) {
      if (open.size >= chatListenersMax) throw unavailable('Too many turns are followed here. Try again shortly.')
      const id = nextSocket()
      const asked = Promise.withResolvers<FleetingFrame<'room.joined' | 'resync_required' | 'error'>>()
      const wire: Wire = {
        write(frames: readonly Framed[]) {
          for (const framed of frames) {
            const frame = JSON.parse(payloadOf(framed).toString()) as ServerFrame
            if (frame.type === 'room.joined' || frame.type === 'resync_required' || frame.type === 'error')
              asked.resolve(frame)
            sink.frame(frame)
          }
          return 1
        },
        unsent: () => sink.unsent(),
        left: () => sink.unsent(),
        filled: () => hub.watch(peer),
        tooSlow: () => end(),
      }
      const peer = new Peer(id, who.userId, who.sessionId, new Outbox(wire, flusher))
      const leave = () => {
        if (!open.delete(id)) return
        metrics.parley_chat_listeners.set(open.size)
        peer.state = 'gone'
        for (const seat of peer.seats.values()) hub.rooms.leave(seat)
        hub.rooms.behind.delete(peer)
        hub.peers.delete(id)
        peer.outbox.close()
        engine.closeSocket(id)
      }
      const end = () => {
        leave()
        sink.ended()
      }
      open.set(id, end)
      metrics.parley_chat_listeners.set(open.size)
      peer.state = 'live'
      hub.peers.set(id, peer)
      hub.rooms.sit(peer, conversationId, head)
      const late = setTimeout(() => asked.reject(unavailable('The conversation cannot be reached now.')), holdMs)
      try {
        const attempt = clock.id()
        hub.joining(peer, attempt, { conversation: conversationId, afterSeq: undefined, asked: {}, isImplicit: false })
        const taken = engine.command({
          conversation: conversationId,
          principal: who.userId,
          socket: id,
          attempt,
          trace: attempt,
          body: Buffer.from(JSON.stringify({ type: 'room.join', conversationId })),
          durable: true,
          readAt: clock.mono(),
        })
        if (!taken.taken) throw unavailable('Too much is waiting. Try again shortly.')
        const joined = await asked.promise
        if (joined.type === 'error') throw refusalOf(joined.code, joined.message, undefined, joined.retryAfterMs)
        if (joined.type !== 'room.joined') throw unavailable('The conversation cannot be read now.')
        return { joined, close: leave }
      } catch (error) {
        leave()
        throw error
      } finally {
        clearTimeout(late)
      }
    },
    get size() {
      return open.size
    },
    close() {
      for (const end of open.values()) end()
    },
  }
}
