/**
 * What comes from the wire, brought to where it belongs: frames to rooms and people, outcomes of sends to their rows.
 * Refuses to send anything but questions to REST about what a frame left open.
 */
import type { DurableFrame, FleetingFrame, ServerFrame } from '#protos/catalogue.ts'
import { reasonOf, t } from '../i18n/t.ts'
import type { Outbox } from '../store/outbox.ts'
import type { WireEffect } from '../wire/wire.ts'
import type { Desk } from './desk.ts'
import type { People } from './people.svelte.ts'
import type { Rooms } from './rooms.svelte.ts'
import type { Tasks } from './tasks.svelte.ts'

/** The parts of a session that frames concern. */
export interface Hands {
  rooms: Rooms
  people: People
  outbox: Outbox
  tasks: Tasks
  desk: Desk
}

/** The outcome of a send. */
export function settle(hands: Hands, effect: Extract<WireEffect, { type: 'stored' | 'refused' | 'held' }>): void {
  const { rooms, outbox } = hands
  if (effect.type === 'held') {
    rooms.get(effect.conversationId).heldUntil = Date.now() + effect.until - performance.now()
    return
  }
  const { letter } = effect
  const room = rooms.get(letter.conversationId)
  const pending = room.pending.find(p => p.clientMessageId === letter.clientMessageId)
  switch (effect.type) {
    case 'stored': {
      const { seq } = effect.ack
      void outbox.drop(letter.clientMessageId)
      if (!pending) return
      // The row stays until its message comes by the log; if that is behind us already, it goes now.
      if (seq === undefined || seq <= room.timeline.head || room.loaded !== 'yes')
        room.dropPending(letter.clientMessageId)
      else room.setPending(letter.clientMessageId, { ...pending, storedSeq: seq })
      return
    }
    case 'refused': {
      if (!pending) return
      const failed = reasonOf(effect.error.code)
      room.setPending(letter.clientMessageId, { ...pending, failed })
      void outbox.fail({ letter, writtenAt: Date.parse(pending.ts), failed })
      return
    }
    default:
      effect satisfies never
  }
}

export function deliver(hands: Hands, frame: ServerFrame): void {
  const { rooms, people } = hands
  switch (frame.type) {
    case 'ready':
      return ready(hands, frame)
    case 'room.joined':
      return rooms.all.get(frame.conversationId)?.joined(frame)
    case 'chat.stream':
      return rooms.all.get(frame.conversationId)?.streamed(frame)
    case 'chat.queued':
      rooms.all.get(frame.conversationId)?.queued.set(frame.clientMessageId, frame.position)
      return
    case 'typing':
      return rooms.all.get(frame.conversationId)?.typed(frame.userId, frame.on)
    case 'receipt.updated': {
      const room = rooms.all.get(frame.conversationId)
      room?.receipt(frame)
      if (room) rooms.keepPositions(room)
      return
    }
    case 'presence':
      people.presence.set(frame.userId, { status: frame.status, lastSeen: frame.lastSeen ?? null })
      return
    case 'conversation.added':
      rooms.get(frame.conversationId).head(frame.conversation)
      void rooms.describe(frame.conversationId)
      return
    case 'conversation.removed': {
      const room = rooms.all.get(frame.conversationId)
      if (room) room.isRemoved = true
      return
    }
    case 'resync_required': {
      const room = rooms.all.get(frame.conversationId)
      if (!room) return
      room.headSeq = frame.headSeq
      room.forget()
      if (rooms.current === room) void rooms.load(room, true)
      return
    }
    case 'error':
      return failed(hands, frame)
    case 'chat.done':
    case 'ack':
    case 'pong':
    case 'server.draining':
      return
    default:
      fact(hands, frame)
  }
}

function ready({ rooms, desk, tasks }: Hands, frame: FleetingFrame<'ready'>): void {
  rooms.clockAheadMs = Date.parse(frame.serverTime) - Date.now()
  tasks.refresh()
  const here = new Set([...frame.conversations, ...frame.others].map(c => c.id))
  for (const room of rooms.all.values()) if (room.isKnown && !here.has(room.id)) room.isRemoved = true
  for (const c of frame.conversations) {
    const room = rooms.get(c.id)
    room.head(c)
    // What was read while nobody could be told, before a reload too.
    if (c.readSeq !== undefined && c.readSeq < room.readSeq) desk.sayRead(room)
  }
  void rooms.readList()
  // What could not be read while nobody answered is read now.
  if (rooms.current?.loaded === 'failed') void rooms.open(rooms.current.id)
}

function fact({ rooms, tasks }: Hands, frame: DurableFrame): void {
  const room = rooms.get(frame.conversationId)
  const mustDescribe = room.fact(frame)
  if (frame.type === 'tool.returned') tasks.follow(frame, room.requesterOf(frame.messageId))
  if (mustDescribe || !room.isKnown) void rooms.describe(room.id)
}

/** An error that answers no send: told over the composer of its room, if no row tells it. A failed answer's row does. */
function failed({ rooms }: Hands, frame: FleetingFrame<'error'>): void {
  const { conversationId, code, messageId } = frame
  const room = conversationId ? rooms.all.get(conversationId) : undefined
  if (!room) return
  if (code === 'NOT_FOUND' && room.loaded !== 'yes') room.loaded = 'missing'
  else if (code === 'RLIMIT' && frame.reason === 'budget' && messageId)
    room.spent.set(messageId, Date.now() + (frame.retryAfterMs ?? 0))
  else if (code === 'BUSY') room.hint = `${t('reason.BUSY')}.`
}
