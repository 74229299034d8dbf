/**
 * Peers and what reaches them: memberships at connect in the order that leaks nothing, joins, facts for users, receipts of
 * delivery. It is the sink of the engine's links. Refuses to frame bytes itself or to judge a client's frame.
 */
import type { EngineClient, EngineSink } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import type { ClientFrame, FleetingFrame } from '#protos/catalogue.ts'
import { errorCodes } from '#protos/errors.ts'
import { type Label, letterFlags } from '#protos/letter.ts'
import {
  deliveredEveryMs,
  heartbeatMs,
  heldUserFactsMax,
  readyConversationsMax,
  yieldLettersMin,
  yieldMsMax,
} from '#protos/limits.ts'
import type { Asked } from './asked.ts'
import { Delivered } from './delivered.ts'
import { type Framed, frameText } from './framing.ts'
import { Groups } from './groups.ts'
import { reconcile } from './memberships.ts'
import { type Join, noFacts, noJoins, type Peer, type Seat, type UserLetter } from './peer.ts'
import type { Positions } from './positions.ts'
import type { Reads, ReadyConversation } from './reads.ts'
import { Rooms } from './rooms.ts'

export interface HubDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  reads: Reads
  positions: Positions
  engine: Pick<EngineClient, 'command' | 'attach' | 'detach' | 'closeSocket' | 'pending'>
  /** An answer to a socket's command: for its connection, which knows the attempt. False when nobody waits. */
  answered(label: Label, body: Uint8Array, note: unknown): void
}

const drainPollMs = 10
const doubtMs = 200
/** Memberships that keep changing while they are read: the last reading counts, later changes come as facts. */
const readsMax = 4

export class Hub implements EngineSink {
  readonly rooms: Rooms
  readonly peers = new Map<number, Peer>()
  readonly users = new Groups<string, Peer>()
  /** Peers whose sockets are full. */
  readonly #full = new Set<Peer>()
  #deps: HubDeps
  #delivered: Delivered
  #leaving: Seat[] = []
  #doubt: NodeJS.Timeout | undefined
  /** Since when memberships are to be read again, monotonic ms. */
  #doubtAt: number | undefined
  /** Runs only while some socket is full: ten thousand idle ones must not wake a process a hundred times a second. */
  #drainTimer: NodeJS.Timeout | undefined
  #tickTimer: NodeJS.Timeout

  constructor(deps: HubDeps) {
    this.#deps = deps
    this.#delivered = new Delivered(deps)
    this.rooms = new Rooms({
      ...deps,
      attach: items => deps.engine.attach(items),
      detach: conversation => deps.engine.detach(conversation),
      delivered: (conversation, userId, seq) => this.#delivered.note(conversation, userId, seq),
    })
    this.#tickTimer = setInterval(() => this.#tick(), deliveredEveryMs)
    this.#tickTimer.unref()
  }

  // --- coming and going ------------------------------------------------------------------------------------------------

  /**
   * Registers the peer, then reads memberships and heads in one statement, then hands over `ready`. A change of membership
   * in between finds the seat that the first reading made; what that reading did not have is read again.
   * Rejects when the database is away; false when the account cannot be used.
   */
  async connect(peer: Peer, asked: Asked): Promise<boolean> {
    const { reads, clock } = this.#deps
    const [isUsable, known] = await Promise.all([reads.isUsable(peer.userId), reads.memberships([peer.userId])])
    if (!isUsable) return false
    if (peer.state === 'gone') return true
    this.peers.set(peer.id, peer)
    this.users.add(peer.userId, peer)
    for (const { conversation } of known) this.rooms.sit(peer, conversation)

    let ready: ReadyConversation[] = []
    for (let round = 0; round < readsMax; round++) {
      ready = await reads.ready(peer.userId)
      if (this.#isGone(peer)) return true
      const fresh = ready.filter(c => !peer.seats.has(c.id))
      for (const c of fresh) this.rooms.sit(peer, c.id)
      if (fresh.length === 0) break
    }
    const heads = new Map(ready.map(c => [c.id, c.headSeq]))
    const begun: [Seat, number][] = []
    for (const seat of peer.seats.values()) {
      const head = heads.get(seat.room.id)
      if (head === undefined) this.rooms.leave(seat)
      else begun.push([seat, head])
    }
    // A fact may have removed the user after the statement: the seat is gone, and `ready` tells of the statement's moment.
    const frame: FleetingFrame<'ready'> = {
      type: 'ready',
      ts: new Date(clock.now()).toISOString(),
      ...asked,
      userId: peer.userId,
      sessionId: peer.sessionId,
      serverTime: new Date(clock.now()).toISOString(),
      heartbeatMs,
      conversations: ready.slice(0, readyConversationsMax),
      others: ready.slice(readyConversationsMax).map(c => ({ id: c.id, headSeq: c.headSeq })),
    }
    peer.outbox.control(frameText(JSON.stringify(frame)))
    peer.state = 'live'
    this.#deps.metrics.parley_sockets.inc()
    this.rooms.begin(begun)
    for (const seat of peer.seats.values()) this.rooms.check(seat)
    const held = peer.heldFacts
    peer.heldFacts = noFacts
    for (const letter of held) this.#userFact(peer, letter, heads)
    return true
  }

  disconnect(peer: Peer): void {
    const wasLive = peer.state === 'live'
    peer.state = 'gone'
    for (const seat of peer.seats.values()) {
      seat.farewell = undefined
      this.rooms.leave(seat)
    }
    this.rooms.behind.delete(peer)
    if (wasLive) this.#deps.metrics.parley_sockets.dec()
    if (!this.peers.delete(peer.id)) return
    this.users.delete(peer.userId, peer)
  }

  #isGone(peer: Peer): boolean {
    return peer.state === 'gone'
  }

  // --- joins -----------------------------------------------------------------------------------------------------------

  /** Notes a join that was handed to the engine under this attempt. */
  joining(peer: Peer, attempt: string, join: Join): void {
    if (peer.joins === noJoins) peer.joins = new Map()
    peer.joins.set(attempt, join)
  }

  /** Ends what joins began, those too that are not answered yet. */
  leaveRoom(peer: Peer, { conversationId }: ClientFrame<'room.leave'>): void {
    for (const join of peer.joins.values()) if (join.conversation === conversationId) join.isLeft = true
    const seat = peer.seats.get(conversationId)
    if (seat?.isJoined) unjoin(seat)
  }

  replay(label: Label, body: Uint8Array): void {
    const peer = this.peers.get(label.socket)
    const join = peer?.joins.get(label.attempt)
    if (!peer || !join) return
    // The owner knows of a membership that this gateway does not know yet: nothing of its replay may be left out.
    const seat = peer.seats.get(label.conversation) ?? this.#sitUnannounced(peer, label.conversation, label.seq - 1)
    this.rooms.replay(seat, label.seq, label.principal, frameText(body))
  }

  answer(label: Label, body: Uint8Array, note?: unknown): void {
    const peer = this.peers.get(label.socket)
    const join = peer?.joins.get(label.attempt)
    if (!peer || !join) return this.#deps.answered(label, body, note)
    peer.joins.delete(label.attempt)
    const frame = JSON.parse(Buffer.from(body).toString()) as FleetingFrame<'room.joined' | 'resync_required' | 'error'>
    const seat = peer.seats.get(join.conversation)
    if (frame.type !== 'room.joined') {
      if (seat?.isReplaying) this.rooms.replayBroken(seat)
      // Told to read history first, the client counts itself as not joined, also where it was before.
      if (seat && frame.type === 'resync_required') unjoin(seat)
      if (frame.type === 'error') {
        this.#deps.metrics.parley_errors_total.inc({ class: errorCodes[frame.code].class, code: frame.code })
        const { requestId, traceId = label.trace, code } = frame
        const asked = { traceId, ...(requestId === undefined ? {} : { requestId }) }
        this.#deps.log.info('a join was refused', { ...asked, userId: peer.userId, convId: join.conversation, code })
      }
      const isConvId = join.isImplicit && frame.type === 'error'
      peer.outbox.control(frameText(isConvId ? JSON.stringify({ ...frame, field: 'convId' }) : body))
      return
    }
    // The user may have been added a moment ago, with the notice still on its way from another worker.
    const at = seat ?? this.#sitUnannounced(peer, join.conversation, frame.headSeq)
    const stream = frame.stream && {
      answerId: frame.stream.messageId,
      bytes: frame.stream.offset + Buffer.byteLength(frame.stream.content),
    }
    this.rooms.joined(at, frameText(body), frame.headSeq, join.afterSeq, stream)
    if (join.isLeft) unjoin(at)
  }

  // --- facts -------------------------------------------------------------------------------------------------------------

  fact(label: Label, body: Uint8Array): void {
    const room = this.rooms.all.get(label.conversation)
    if (!room || label.seq <= room.last) return
    let leaver: string | undefined
    if (label.flags & letterFlags.membership && label.subject !== '') {
      const { type } = JSON.parse(Buffer.from(body).toString()) as { type: string }
      if (type === 'room.member_left') leaver = label.subject
    } else if (this.users.has(label.principal) && isMessage(body)) {
      // One's own sends move one's position, without a receipt.
      this.#deps.positions.note(label.principal, label.conversation, label.seq)
    }
    this.rooms.fact(label.conversation, { seq: label.seq, sender: label.principal, frame: frameText(body), leaver })
  }

  delta(label: Label, body: Uint8Array): void {
    this.rooms.delta(label.conversation, label.subject, label.seq, label.age, body)
  }

  done(label: Label, body: Uint8Array): void {
    const { seq, bytes } = JSON.parse(Buffer.from(body).toString()) as FleetingFrame<'chat.done'>
    this.rooms.done(label.conversation, { frame: frameText(body), seq, answerId: label.subject, bytes })
  }

  typing(label: Label, body: Uint8Array): void {
    const room = this.rooms.all.get(label.conversation)
    if (!room) return
    const frame = frameText(body)
    for (const seat of room.seats) {
      if (seat.isJoined && seat.peer.userId !== label.principal) seat.peer.outbox.offer(frame)
    }
  }

  receipt(label: Label, body: Uint8Array): void {
    const { positions } = this.#deps
    if (label.seq > 0) positions.note(label.principal, label.conversation, label.seq)
    const room = this.rooms.all.get(label.conversation)
    if (!room) return
    const frame = frameText(positions.raised(label.principal, label.conversation, label.seq, body))
    const key = `${label.conversation} ${label.principal}`
    for (const seat of room.seats) {
      if (seat.isJoined || seat.peer.userId === label.principal) seat.peer.outbox.latest(key, frame)
    }
  }

  user(label: Label, body: Uint8Array): void {
    const own = this.users.of(label.subject)
    if (own.length === 0) return
    const letter: UserLetter = { label, body: Buffer.from(body), frame: frameText(body) }
    for (const peer of own) {
      if (label.socket !== 0 && label.socket !== peer.id) continue
      if (peer.state === 'live') this.#userFact(peer, letter)
      else if (peer.heldFacts.length < heldUserFactsMax) peer.heldFacts = [...peer.heldFacts, letter]
      else this.usersDoubtful()
    }
  }

  /** `heads`: what `ready` told, for facts that came before it. */
  #userFact(peer: Peer, { label, body, frame }: UserLetter, heads?: ReadonlyMap<string, number>): void {
    const { type } = JSON.parse(Buffer.from(body).toString()) as { type: string }
    const id = label.conversation
    if (type === 'conversation.added') {
      const seat = peer.seats.get(id)
      if (seat && seat.until === Number.POSITIVE_INFINITY) {
        if (seat.isUnannounced) this.announce(seat, JSON.parse(Buffer.from(body).toString()))
        return
      }
      if (heads && (heads.get(id) ?? -1) > label.seq) return
      if (seat) this.rooms.leave(seat)
      this.seatAdded(peer, id, label.seq, frame)
    } else if (type === 'conversation.removed') {
      const seat = peer.seats.get(id)
      if (!seat) {
        if (!heads && !this.rooms.farewells.takeTold(peer, id)) peer.outbox.control(frame)
        return
      }
      // Removed before `ready` was read, and there again in it: the table knows.
      if (heads && seat.until === Number.POSITIVE_INFINITY) return this.usersDoubtful()
      seat.farewell = frame
      // The event that removes may come with this very batch; after it nothing of a higher seq may.
      if (seat.until === Number.POSITIVE_INFINITY) {
        if (this.#leaving.push(seat) === 1) setImmediate(() => this.#leaveAll())
      }
    } else if (type === 'receipt.updated') {
      peer.outbox.latest(`${id} ${label.subject}`, frame)
    } else {
      peer.outbox.control(frame)
    }
  }

  /** The notice first, then the seat: numbering on this socket starts at `headSeq`. */
  seatAdded(peer: Peer, conversation: string, headSeq: number, notice: Framed): void {
    peer.outbox.control(notice)
    this.rooms.check(this.rooms.sit(peer, conversation, headSeq))
  }

  /** The engine answers for a membership of which no notice has come: it may be late, or lost with its owner. */
  #sitUnannounced(peer: Peer, conversation: string, last: number): Seat {
    const seat = this.rooms.sit(peer, conversation, last)
    seat.isUnannounced = true
    this.usersDoubtful()
    return seat
  }

  /** A notice after the join that it belongs before: numbering on this socket goes on where it is. */
  announce(seat: Seat, notice: FleetingFrame<'conversation.added'>): void {
    seat.isUnannounced = false
    const conversation = { ...notice.conversation, headSeq: Math.max(0, seat.last) }
    seat.peer.outbox.control(frameText(JSON.stringify({ ...notice, conversation })))
  }

  #leaveAll(): void {
    const leaving = this.#leaving
    this.#leaving = []
    for (const seat of leaving) {
      if (seat.farewell && seat.until === Number.POSITIVE_INFINITY) this.rooms.leave(seat)
    }
  }

  head(conversation: string, head: number): void {
    const room = this.rooms.all.get(conversation)
    if (room) this.rooms.fill(room, head)
  }

  position(conversation: string): number {
    return Math.max(0, this.rooms.all.get(conversation)?.last ?? 0)
  }

  usersDoubtful(): void {
    this.#doubtAt ??= this.#deps.clock.mono()
    // Links come up in groups; one reading serves them all.
    this.#doubt ??= setTimeout(() => {
      this.#doubt = undefined
      const since = this.#doubtAt ?? 0
      const { clock, engine, log } = this.#deps
      // After a takeover all sends wait for this very thread.
      if (engine.pending().letters >= yieldLettersMin && clock.mono() - since < yieldMsMax) return this.usersDoubtful()
      this.#doubtAt = undefined
      reconcile(this, this.#deps).catch(error => {
        log.warn('memberships of connected users could not be read', { err: error })
        this.usersDoubtful()
      })
    }, doubtMs).unref()
  }

  // --- time --------------------------------------------------------------------------------------------------------------

  #poll(): void {
    const at = this.#deps.clock.mono()
    for (const peer of this.#full) {
      if (peer.state === 'gone') this.#full.delete(peer)
      else if (peer.outbox.poll(at)) {
        this.#full.delete(peer)
        void this.rooms.catchUp(peer)
      }
    }
    if (this.#full.size > 0) return
    clearInterval(this.#drainTimer)
    this.#drainTimer = undefined
  }

  #tick(): void {
    let bytes = 0
    for (const peer of this.#full) bytes += peer.outbox.owedBytes
    this.#deps.metrics.parley_outbox_lagging.set(this.#full.size)
    this.#deps.metrics.parley_outbox_bytes.set(bytes)
    this.rooms.tick()
    this.#delivered.flush()
    this.#deps.positions.sweep()
  }

  /** A socket has become full: it is looked at often until it has drained. */
  watch(peer: Peer): void {
    this.#full.add(peer)
    this.#drainTimer ??= setInterval(() => this.#poll(), drainPollMs).unref()
  }

  close(): void {
    clearInterval(this.#drainTimer)
    clearInterval(this.#tickTimer)
    clearTimeout(this.#doubt)
  }
}

function unjoin(seat: Seat): void {
  seat.isJoined = false
  seat.streamId = ''
  seat.dones = []
}

const messageStart = Buffer.from('{"type":"message.new"')

/** Seen without decoding; an encoder that put another field first would only make a badge late. */
function isMessage(body: Uint8Array): boolean {
  return messageStart.compare(body, 0, messageStart.length) === 0
}
