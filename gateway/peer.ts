/**
 * Records of the hub: a peer is an authenticated socket, a room a conversation with members connected here, a seat a peer's
 * place in a room. Plain state of fixed shape; what happens to it is decided in rooms.ts and hub.ts.
 */
import type { Letter } from '#protos/letter.ts'
import { catchUpBytesMax } from '#protos/limits.ts'
import type { Asked } from './asked.ts'
import type { Framed } from './framing.ts'
import type { Outbox } from './outbox.ts'

/** How much of the log one reading asks for. */
export interface Chunk {
  events: number
  bytes: number
}
export const firstChunk: Chunk = { events: 32, bytes: catchUpBytesMax }

export interface PendingDone {
  frame: Framed
  seq: number
  answerId: string
  bytes: number
}

export class Seat {
  readonly peer: Peer
  readonly room: Room
  /** The highest seq that was pushed, or that `ready` or a join left behind. */
  last: number
  /** Nothing above this is for this peer: it was removed there. */
  until = Number.POSITIVE_INFINITY
  isJoined = false
  /** The head that the first join told since it was not joined, and the last. */
  joinedSince = 0
  joinedHead = 0
  /** Between the first replayed event and room.joined. */
  isReplaying = false
  /** The socket was full during the replay: the rest comes from the log, then this frame. */
  isReplayCut = false
  joinedFrame: { frame: Framed; headSeq: number } | undefined
  /** To be caught up from the log; nothing is pushed until then. */
  isBehind = false
  chunk = firstChunk
  /** The answer in progress whose text was pushed up to this byte. */
  streamId = ''
  streamEnd = 0
  /** Answers before it whose chat.done has not come yet, with how far their text was pushed. */
  readonly streamsPast = new Map<string, number>()
  /** chat.done that waits for the answer before it. */
  dones: PendingDone[] = []
  /** Made by a join's answer: the notice of the membership has not come yet. */
  isUnannounced = false
  /** conversation.removed that waits for the event that removes. */
  farewell: Framed | undefined

  constructor(peer: Peer, room: Room, last: number) {
    this.peer = peer
    this.room = room
    this.last = last
  }
}

export class Room {
  readonly id: string
  /** Everything up to here was given to the seats. */
  last: number
  readonly seats = new Set<Seat>()
  /** Events up to here are known to exist. */
  target: number
  isAttached = false
  isFilling = false
  /** The answer in progress, as far as deltas came. */
  streamId = ''
  streamEnd = 0
  /** Answers whose chat.done was given, with the monotonic ms of it. */
  readonly dones = new Map<string, number>()

  constructor(id: string, last: number) {
    this.id = id
    this.last = last
    this.target = last
  }
}

/** A room.join under way. */
export interface Join {
  conversation: string
  afterSeq: number | undefined
  asked: Asked
  /** Of /ws/chat: nobody asked by a frame, and an error names the query's field. */
  isImplicit: boolean
  /** The client left the room before the answer came. */
  isLeft?: true
}

export interface UserLetter extends Letter {
  frame: Framed
}

/**
 * What a peer has before its first: shared by all, never written. Most sockets of a large gateway are idle, and an empty map of
 * each would be a third of their memory.
 */
export const noSeats = new Map<string, Seat>()
export const noneBehind = new Set<Seat>()
export const noJoins = new Map<string, Join>()
export const noFacts: readonly UserLetter[] = []

export type PeerState = 'reading' | 'live' | 'gone'

export class Peer {
  /** The socket's number within this gateway, ≥ 1. */
  readonly id: number
  readonly userId: string
  readonly sessionId: string
  readonly outbox: Outbox
  state: PeerState = 'reading'
  seats = noSeats
  behind = noneBehind
  isCatching = false
  joins = noJoins
  /** Facts for the user that came before `ready`. */
  heldFacts = noFacts

  constructor(id: number, userId: string, sessionId: string, outbox: Outbox) {
    this.id = id
    this.userId = userId
    this.sessionId = sessionId
    this.outbox = outbox
  }
}
