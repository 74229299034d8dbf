/**
 * Conversations with members connected here: who gets which event, in order and without a hole. An event that does not
 * follow the last one, or a socket that cannot take it, becomes a position, and the log answers from there.
 * Refuses to know how a peer came in; that is hub.ts.
 */

import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { assistantId } from '#protos/ids.ts'
import { catchUpEventsMax, receiptMembersMax } from '#protos/limits.ts'
import {
  answersKeptMax,
  deltaFrame,
  doneFrom,
  isTextComplete,
  openStream,
  streamed,
  streamedTo,
  wantedBytes,
} from './answers.ts'
import { Farewells } from './farewells.ts'
import { type Framed, frameText } from './framing.ts'
import { type FramedEvent, LogReads } from './log-reads.ts'
import { type Chunk, firstChunk, noneBehind, noSeats, type Peer, type PendingDone, Room, Seat } from './peer.ts'
import { codeOf, type LogFrame, type Reads } from './reads.ts'

export interface RoomsDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  reads: Reads
  attach(items: readonly (readonly [string, number])[]): void
  detach(conversation: string): void
  /** An event of someone else was written to a socket of this user. */
  delivered(conversation: string, userId: string, seq: number): void
}

export interface Fact {
  seq: number
  sender: string
  frame: Framed
  /** Whom this event removes. */
  leaver: string | undefined
}

/** A chat.done that was lost with its link is made again from the answer after this. */
const doneGraceMs = 1500

export class Rooms {
  readonly all = new Map<string, Room>()
  /** Peers with seats to be caught up. */
  readonly behind = new Set<Peer>()
  readonly farewells: Farewells
  #deps: RoomsDeps
  #log: LogReads
  /** Answers that came from the log instead of the link; their chat.done may have been lost. */
  #doubtful: { room: Room; answer: LogFrame; at: number }[] = []

  constructor(deps: RoomsDeps) {
    this.#deps = deps
    this.#log = new LogReads(deps)
    this.farewells = new Farewells(deps.clock)
  }

  // --- seats ---------------------------------------------------------------------------------------------------------

  /** A seat from `last` on. Without `last` the head is not known yet: `begin` follows when it is. */
  sit(peer: Peer, conversation: string, last = -1): Seat {
    let room = this.all.get(conversation)
    if (!room) {
      room = new Room(conversation, last)
      this.all.set(conversation, room)
      this.#deps.metrics.parley_rooms.set(this.all.size)
    }
    this.farewells.takeTold(peer, conversation)
    const seat = new Seat(peer, room, last)
    room.seats.add(seat)
    if (peer.seats === noSeats) peer.seats = new Map()
    peer.seats.set(conversation, seat)
    if (last >= 0) this.begin([[seat, last]])
    return seat
  }

  leave(seat: Seat): void {
    const { room, peer } = seat
    room.seats.delete(seat)
    peer.behind.delete(seat)
    if (peer.seats.get(room.id) === seat) peer.seats.delete(room.id)
    if (seat.farewell) {
      peer.outbox.control(seat.farewell)
      seat.farewell = undefined
    }
    if (room.seats.size > 0 || this.all.get(room.id) !== room) return
    this.all.delete(room.id)
    this.#deps.metrics.parley_rooms.set(this.all.size)
    if (room.isAttached) this.#deps.detach(room.id)
  }

  /** Where these seats begin. Rooms that nobody had begin there too, and are attached. */
  begin(seats: readonly (readonly [Seat, number])[]): void {
    const items: [string, number][] = []
    for (const [seat, last] of seats) {
      seat.last = last
      if (last >= seat.until) seat.until = Number.POSITIVE_INFINITY
      const { room } = seat
      if (room.isAttached) continue
      room.isAttached = true
      room.last = last
      room.target = Math.max(room.target, last)
      items.push([room.id, last])
    }
    if (items.length > 0) this.#deps.attach(items)
  }

  // --- events ----------------------------------------------------------------------------------------------------------

  /** A durable event from the link. */
  fact(conversation: string, fact: Fact): void {
    const room = this.all.get(conversation)
    if (!room?.isAttached || fact.seq <= room.last) return
    if (room.isFilling || fact.seq > room.last + 1) return this.fill(room, fact.seq)
    this.#give(room, fact)
  }

  /** The log is known to be at `target`: what is missing is read from it. */
  fill(room: Room, target: number): void {
    if (!room.isAttached) return
    room.target = Math.max(room.target, target)
    if (room.isFilling || room.target <= room.last) return
    room.isFilling = true
    this.#deps.metrics.parley_gaps_total.inc()
    void this.#fill(room)
  }

  async #fill(room: Room): Promise<void> {
    const { log, clock } = this.#deps
    let chunk = firstChunk
    try {
      while (room.last < room.target && this.all.get(room.id) === room) {
        const frames = await this.#log.events(room.id, room.last, room.target, chunk)
        chunk = nextChunk(chunk, frames.length)
        if (frames[0]?.seq !== room.last + 1) throw new Error(`the log of a conversation lacks ${room.last + 1}`)
        for (const frame of frames) {
          if (frame.seq !== room.last + 1) continue
          if (frame.leaver !== undefined) this.#bidFarewell(room, frame.leaver, frame.seq)
          this.#give(room, factOf(frame))
          if (isAnswer(frame)) this.#doubtful.push({ room, answer: frame, at: clock.mono() })
        }
      }
    } catch (error) {
      log.warn('a gap could not be read from the log', { convId: room.id, code: codeOf(error), err: error })
    } finally {
      // What is still missing is tried again by the next tick.
      room.isFilling = false
    }
  }

  /** The event came from the log, so its notice may have been lost as the event was. */
  #bidFarewell(room: Room, leaver: string, seq: number): void {
    for (const seat of room.seats) if (seat.peer.userId === leaver && seq > seat.last) this.farewells.bid(seat)
  }

  #give(room: Room, fact: Fact): void {
    room.last = fact.seq
    if (room.target < fact.seq) room.target = fact.seq
    for (const seat of room.seats) {
      if (fact.leaver !== undefined && seat.peer.userId === fact.leaver && fact.seq > seat.last) seat.until = fact.seq
      this.#offer(seat, fact)
      if (seat.last >= seat.until && !seat.isBehind) this.leave(seat)
    }
  }

  #offer(seat: Seat, fact: Fact): void {
    if (fact.seq <= seat.last || fact.seq > seat.until) return
    const { peer } = seat
    if (seat.isBehind || seat.isReplaying || peer.state !== 'live') return
    if (fact.seq !== seat.last + 1 || !peer.outbox.push(fact.frame)) return this.#fellBehind(seat)
    this.#pushed(seat, fact.seq, fact.sender)
  }

  #pushed(seat: Seat, seq: number, sender: string): void {
    seat.last = seq
    const { peer, room } = seat
    if (sender !== peer.userId && room.seats.size <= receiptMembersMax * 10) {
      this.#deps.delivered(room.id, peer.userId, seq)
    }
    if (seat.dones.length > 0) this.#releaseDones(seat)
  }

  // --- a join ----------------------------------------------------------------------------------------------------------

  /** One replayed event: nothing else of this conversation comes between the first and `joined`. */
  replay(seat: Seat, seq: number, sender: string, frame: Framed): void {
    if (!seat.isReplaying) {
      seat.isReplaying = true
      seat.isReplayCut = false
      seat.last = seq - 1
    }
    if (seat.isReplayCut) return
    if (seat.peer.outbox.push(frame)) this.#pushed(seat, seq, sender)
    else seat.isReplayCut = true
  }

  /** The end of a join. `after`: where the client said that it stands. */
  joined(
    seat: Seat,
    frame: Framed,
    headSeq: number,
    after: number | undefined,
    stream: { answerId: string; bytes: number } | undefined,
  ): void {
    if (!seat.isJoined) seat.joinedSince = headSeq
    seat.isJoined = true
    seat.joinedHead = headSeq
    seat.streamsPast.clear()
    seat.streamId = stream?.answerId ?? ''
    seat.streamEnd = stream?.bytes ?? 0
    const isCut = seat.isReplaying && seat.isReplayCut
    seat.isReplaying = false
    seat.isReplayCut = false
    if (isCut) {
      seat.joinedFrame = { frame, headSeq }
      return this.#fellBehind(seat)
    }
    seat.peer.outbox.control(frame)
    if (after !== undefined) seat.last = headSeq
    this.check(seat)
  }

  /** A replay that ended in a refusal. */
  replayBroken(seat: Seat): void {
    seat.isReplaying = false
    seat.isReplayCut = false
    this.check(seat)
  }

  /** Catches up a seat that its room has left behind. */
  check(seat: Seat): void {
    if (seat.last < Math.min(seat.room.last, seat.until)) this.#fellBehind(seat)
    else if (seat.last >= seat.until && !seat.isBehind) this.leave(seat)
  }

  // --- answers in progress ------------------------------------------------------------------------------------------------

  delta(conversation: string, answerId: string, offset: number, bytes: number, body: Uint8Array): void {
    const room = this.all.get(conversation)
    // A link that lagged may bring text of an answer whose chat.done was made from the log: nobody is owed any of it.
    if (!room || room.dones.has(answerId)) return
    // One text for all pieces: equal texts that are the same are compared without a look at them.
    if (room.streamId !== answerId) room.streamId = answerId
    const { streamId } = room
    room.streamEnd = offset + bytes
    let framed: Framed | undefined
    for (const seat of room.seats) {
      if (!seat.isJoined || seat.isBehind || seat.isReplaying) continue
      const at = streamedTo(seat, streamId)
      if (offset + bytes <= at) continue
      if (offset !== at) {
        // Cut deltas and lost ones are rare: the stored text knows both.
        this.#fellBehind(seat)
        continue
      }
      framed ??= frameText(body)
      if (!seat.peer.outbox.push(framed)) {
        this.#fellBehind(seat)
        continue
      }
      streamed(seat, streamId, offset + bytes)
    }
  }

  /** chat.done: after the answer's message.new and all of its text. */
  done(conversation: string, done: PendingDone): void {
    const room = this.all.get(conversation)
    if (!room || room.dones.has(done.answerId)) return
    room.dones.set(done.answerId, this.#deps.clock.mono())
    if (room.dones.size > answersKeptMax) room.dones.delete(room.dones.keys().next().value!)
    if (room.streamId === done.answerId) room.streamId = ''
    for (const seat of room.seats) {
      // Whoever joined after the answer was stored has it as an event; a chat.done made from the log comes late.
      if (!seat.isJoined || seat.joinedSince >= done.seq) continue
      seat.dones.push(done)
      if (!seat.isReplaying) this.#releaseDones(seat)
    }
    if (room.last < done.seq) this.fill(room, done.seq)
  }

  #releaseDones(seat: Seat): void {
    while (seat.dones.length > 0 && !seat.isBehind) {
      const done = seat.dones[0]!
      if (seat.last < done.seq) return
      if (!isTextComplete(seat, done)) return this.#fellBehind(seat)
      seat.dones.shift()
      seat.streamsPast.delete(done.answerId)
      seat.peer.outbox.control(done.frame)
    }
  }

  // --- catching up ----------------------------------------------------------------------------------------------------------

  #fellBehind(seat: Seat): void {
    if (seat.isBehind || seat.peer.state === 'gone') return
    seat.isBehind = true
    if (seat.peer.behind === noneBehind) seat.peer.behind = new Set()
    seat.peer.behind.add(seat)
    this.behind.add(seat.peer)
    if (!seat.peer.outbox.isFull) void this.catchUp(seat.peer)
  }

  /** Reads what a peer has missed, one conversation after another, until its socket is full again. */
  async catchUp(peer: Peer): Promise<void> {
    if (peer.isCatching || peer.state !== 'live') return
    peer.isCatching = true
    try {
      while (peer.state === 'live' && !peer.outbox.isFull) {
        const [seat] = peer.behind
        if (!seat) break
        await this.#catchUpSeat(seat)
      }
    } catch (error) {
      this.#deps.log.warn('a socket could not be caught up', { userId: peer.userId, code: codeOf(error), err: error })
    } finally {
      peer.isCatching = false
      if (peer.behind.size === 0) this.behind.delete(peer)
    }
  }

  async #catchUpSeat(seat: Seat): Promise<void> {
    const { reads } = this.#deps
    const { peer, room } = seat
    const outbox = peer.outbox
    const joined = seat.joinedFrame
    // Before room.joined nothing above its head may come.
    const target = Math.min(seat.until, joined ? joined.headSeq : room.last)
    if (seat.last < target) {
      const frames = await this.#log.events(room.id, seat.last, target, seat.chunk)
      seat.chunk = nextChunk(seat.chunk, frames.length)
      if (!peer.behind.has(seat)) return
      if (frames[0]?.seq !== seat.last + 1) throw new Error(`the log of a conversation lacks ${seat.last + 1}`)
      for (const frame of frames) {
        if (frame.seq !== seat.last + 1) continue
        if (!outbox.push(frame.frame)) return
        this.#pushed(seat, frame.seq, frame.senderId)
      }
      return
    }
    if (joined) {
      seat.joinedFrame = undefined
      outbox.control(joined.frame)
      return
    }
    if (seat.last >= seat.until) return this.leave(seat)
    const open = openStream(seat)
    if (open) {
      const text = await this.#log.turn(() => reads.answerText(open))
      if (!peer.behind.has(seat)) return
      const bytes = Buffer.from(text ?? '')
      const at = streamedTo(seat, open)
      if (bytes.length > at) {
        const rest = bytes.subarray(at).toString()
        if (!outbox.push(deltaFrame(room.id, open, at, rest, this.#deps.clock.now()))) return
      }
      streamed(seat, open, Math.max(at, bytes.length))
      // The text may be shorter than a delta on the link said only while a statement is on its way.
      if (seat.streamEnd < wantedBytes(seat, open)) throw new Error('the stored text of an answer is short')
      return
    }
    peer.behind.delete(seat)
    seat.isBehind = false
    this.#releaseDones(seat)
    this.check(seat)
  }

  /** Once a second: what could not be read is tried again, chat.done that was lost is made again. */
  tick(): void {
    this.#log.tick()
    for (const room of this.all.values()) if (room.target > room.last) this.fill(room, room.target)
    for (const peer of this.behind) {
      if (peer.state === 'gone') this.behind.delete(peer)
      else if (!peer.outbox.isFull) void this.catchUp(peer)
    }
    const now = this.#deps.clock.mono()
    while (this.#doubtful[0] && now - this.#doubtful[0].at >= doneGraceMs) {
      const { room, answer } = this.#doubtful.shift()!
      if (this.all.get(room.id) === room) this.done(room.id, doneFrom(room.id, answer, this.#deps.clock.now()))
    }
  }
}

/** Reading many large events to use a few is waste: the next reading asks for about as many as fitted into this one. */
function nextChunk(chunk: Chunk, got: number): Chunk {
  const events = got >= chunk.events ? Math.min(catchUpEventsMax, chunk.events * 2) : Math.max(8, got + 2)
  return { ...chunk, events }
}

function factOf({ seq, senderId, frame, leaver }: FramedEvent): Fact {
  return { seq, sender: senderId, frame, leaver }
}

function isAnswer(frame: LogFrame): boolean {
  return frame.kind === 'message.new' && frame.senderId === assistantId
}
