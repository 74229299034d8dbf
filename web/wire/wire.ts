/**
 * What the connection machine is made of: its state, what happens to it and what it wants done. All data, no behaviour.
 */
import type { ClientFrame, FleetingFrame, ServerFrame } from '#protos/catalogue.ts'

export type Phase = 'off' | 'connecting' | 'authenticating' | 'ready' | 'waiting' | 'refreshing' | 'stopped'

export interface Outgoing {
  type: 'message.send' | 'chat.send'
  conversationId: string
  clientMessageId: string
  content: string
  replyTo?: number
}

export interface Queued {
  letter: Outgoing
  /** When it left on the current socket; absent: not yet, or refused since. */
  sentAt?: number
  failures: number
  /** Refusals for load so far. */
  refusals: number
}

/** The unanswered sends of one conversation, oldest first. */
export interface Lane {
  queue: readonly Queued[]
  /** Nothing leaves before this. */
  holdUntil: number
  /** After a refusal for load: one unanswered send at a time, until the queue is empty. */
  single: boolean
}

export interface Joined {
  askedAt?: number
  /** A refused join is asked again then. */
  againAt?: number
}

export interface Wire {
  phase: Phase
  /** When the phase began. */
  phaseAt: number
  attempt: number
  retryAt?: number
  /** Since when there is no `ready` socket; absent while there is one. */
  lostAt?: number
  isOffline: boolean
  heardAt: number
  pingedAt?: number
  /** The gateway asked to be left at this time. */
  leaveAt?: number
  token?: string
  lanes: ReadonlyMap<string, Lane>
  joined: ReadonlyMap<string, Joined>
  heads: ReadonlyMap<string, number>
  watched: readonly string[]
}

export type WireEvent =
  | { type: 'start'; token?: string }
  | { type: 'stop' }
  | { type: 'opened' }
  | { type: 'received'; frame: ServerFrame }
  | { type: 'closed'; code: number }
  | { type: 'refreshed'; token: string }
  | { type: 'refresh_failed'; isFinal: boolean }
  | { type: 'online' }
  | { type: 'offline' }
  | { type: 'retry' }
  | { type: 'woke' }
  | { type: 'send'; letter: Outgoing }
  | { type: 'join'; conversationId: string; head: number }
  | { type: 'leave'; conversationId: string }
  | { type: 'watch'; userIds: readonly string[] }
  | { type: 'say'; frame: ClientFrame<'typing.start' | 'typing.stop' | 'receipt.read' | 'chat.stop'> }

export type WireEffect =
  /** The token goes with the upgrade: a cookie that goes too is then not looked at, and a round trip is saved. */
  | { type: 'open'; token: string }
  | { type: 'close' }
  | { type: 'write'; frame: ClientFrame }
  | { type: 'refresh' }
  | { type: 'deliver'; frame: ServerFrame }
  | { type: 'stored'; letter: Outgoing; ack: FleetingFrame<'ack'> }
  | { type: 'refused'; letter: Outgoing; error: FleetingFrame<'error'> }
  | { type: 'held'; conversationId: string; until: number }
  | { type: 'ended'; code: number }

/** Monotonic milliseconds and a number in [0, 1): the only things of the world that decisions need. */
export interface Moment {
  now: number
  random: number
}

export interface Turned {
  wire: Wire
  effects: WireEffect[]
}

export const newWire: Wire = {
  phase: 'off',
  phaseAt: 0,
  attempt: 0,
  isOffline: false,
  heardAt: 0,
  lanes: new Map(),
  joined: new Map(),
  heads: new Map(),
  watched: [],
}
