/**
 * One socket: hands what arrives to its machine and does what the machine wants. Owns the WebSocket and the attempts that
 * wait for answers. Refuses to decide: a branch that a rule could name belongs into session.ts.
 */
import type { WebSocket } from 'ws'
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import type { ClientFrame, FleetingFrame } from '#protos/catalogue.ts'
import { type CloseCode, closeCodes, type ErrorCode, errorCodes, errorFields, type Failure } from '#protos/errors.ts'
import { parseId } from '#protos/ids.ts'
import { type Label, letterFlags } from '#protos/letter.ts'
import { readyMsMax, refusalLinesPerSecondMax } from '#protos/limits.ts'
import { mentionsAssistant } from '#protos/mention.ts'
import { type Asked, askedOf } from './asked.ts'
import { frameText, unsentBytes, writeFrames, writeLeft } from './framing.ts'
import type { Hub } from './hub.ts'
import { type Flusher, Outbox, type Wire } from './outbox.ts'
import { Peer } from './peer.ts'
import type { Presence } from './presence.ts'
import { codeOf } from './reads.ts'
import {
  type Access,
  type Credential,
  isTickDue,
  openSession,
  type Principal,
  type Session,
  type SessionEffect,
  type SessionEvent,
  type SessionRules,
  transition,
} from './session.ts'

export interface ConnectionDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  engine: EngineClient
  hub: Hub
  presence: Presence
  flusher: Flusher
  rules: SessionRules
  verifyToken(token: string): Promise<Access>
  /** 0, or the ms until this user may send again. */
  /** `asks`: the conversation in which the assistant is asked. */
  takeSend(userId: string, asks: string | undefined): number
  isRevoked(sessionId: string): boolean
  /** The machine knows who this is. */
  identified(connection: Connection): void
  /** The socket has stopped to serve; it may stay readable for a while. */
  ended(connection: Connection): void
}

/** Goes with a command and comes back with its answer. */
interface Sent {
  conversation: string
  clientMessageId: string | undefined
  readAt: number
}

const loadCodes: readonly ErrorCode[] = ['RLIMIT', 'OVERLOADED', 'UNAVAILABLE']
const pendingRetryMs = 1000
/** Of what a busy worker is spared, the half that is drawn by lot: all at once would be the next wave. */
const spreadRetryMs = 1000

/** A client may send any code; the metric has room for the known ones. */
const closeLabel = (code: number) =>
  code in closeCodes || [1000, 1001, 1005, 1006].includes(code) ? String(code) : 'other'

export class Connection implements Wire {
  readonly id: number
  readonly ws: WebSocket
  /** Key under which this address is limited. */
  readonly address: string
  session: Session
  readonly outbox: Outbox
  peer: Peer | undefined
  lastHeardAt: number
  nextPingAt = 0
  #deps: ConnectionDeps
  /** Of /ws/chat: undefined when the upgrade asked for no room. */
  #convId: string | undefined
  #isEnded = false
  #linesFrom = 0
  #lines = 0

  constructor(
    deps: ConnectionDeps,
    socket: { id: number; ws: WebSocket; address: string; convId: string | undefined; credential?: Credential },
  ) {
    const at = deps.clock.mono()
    this.#deps = deps
    this.id = socket.id
    this.ws = socket.ws
    this.address = socket.address
    this.#convId = socket.convId
    this.lastHeardAt = at
    this.outbox = new Outbox(this, deps.flusher)
    this.session = openSession(deps.rules, at, socket.credential)
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  // --- Wire --------------------------------------------------------------------------------------------------------------

  write(frames: readonly Buffer[], bytes: number): number {
    return writeFrames(this.ws, frames, bytes)
  }

  unsent(): number {
    return unsentBytes(this.ws)
  }

  left(): number {
    return writeLeft(this.ws)
  }

  filled(): void {
    if (this.peer) this.#deps.hub.watch(this.peer)
  }

  tooSlow(): void {
    this.apply({ kind: 'end', code: 4420 })
  }

  // --- the machine -------------------------------------------------------------------------------------------------------

  frame(text: string): void {
    const at = this.#deps.clock.mono()
    this.lastHeardAt = at
    this.apply({ kind: 'frame', text, at })
  }

  control(): void {
    const at = this.#deps.clock.mono()
    this.lastHeardAt = at
    this.apply({ kind: 'control', at })
  }

  /** The credential that the upgrade carried was judged. */
  judged(access: Access): void {
    this.apply({ kind: 'verified', access, at: this.#deps.clock.mono() })
  }

  end(code: CloseCode): void {
    this.apply({ kind: 'end', code })
  }

  tick(at: number, now: number): void {
    if (isTickDue(this.session, at, now)) this.apply({ kind: 'tick', at, now })
  }

  apply(event: SessionEvent): void {
    const step = transition(this.session, event)
    this.session = step.session
    for (const effect of step.effects) this.#do(effect)
  }

  #do(effect: SessionEffect): void {
    const { clock, hub, metrics, presence } = this.#deps
    switch (effect.kind) {
      case 'count':
        metrics.parley_frames_in_total.inc({ type: effect.type })
        return
      case 'verify':
        void this.#deps.verifyToken(effect.token).then(
          access => this.judged(access),
          () => this.judged('away'),
        )
        return
      case 'read':
        void this.#read(effect.principal)
        return
      case 'admit': {
        const { send } = effect
        const isQuestion = send.type === 'chat.send' || mentionsAssistant(send.content)
        const asks = isQuestion ? send.conversationId : undefined
        const waitMs = this.#deps.takeSend(this.session.principal!.userId, asks)
        this.apply({ kind: 'admitted', send: effect.send, text: effect.text, waitMs, at: clock.mono() })
        return
      }
      case 'command':
        this.#command(effect.frame, effect.text, effect.durable)
        return
      case 'join':
        this.#join(effect.frame, effect.text, false)
        return
      case 'leave':
        if (this.peer) hub.leaveRoom(this.peer, effect.frame)
        this.#send({
          type: 'ack',
          ...this.#answering(askedOf(effect.frame)),
          conversationId: effect.frame.conversationId,
        })
        return
      case 'watch':
        if (this.peer) presence.watch(this.peer, effect.frame.userIds)
        return
      case 'pong':
        this.#send({ type: 'pong', ...this.#answering(effect.asked) })
        return
      case 'error':
        this.#error(effect.failure, effect.asked, effect.conversationId)
        return
      case 'close':
        this.#close(effect.code, effect.reason)
        return
      default:
        return effect satisfies never
    }
  }

  async #read(principal: Principal): Promise<void> {
    const { hub, log, clock } = this.#deps
    this.#deps.identified(this)
    if (this.#deps.isRevoked(principal.sessionId)) return this.end(4410)
    const peer = new Peer(this.id, principal.userId, principal.sessionId, this.outbox)
    this.peer = peer
    // Refusals before authentication may have filled it, when nobody was there to look.
    if (this.outbox.isFull) hub.watch(peer)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(reject, readyMsMax, new Error('memberships were not read in time'))
    })
    try {
      const isUsable = await Promise.race([hub.connect(peer, this.#answering(this.session.asked)), late])
      if (this.#isEnded) return
      this.apply({ kind: 'read', result: isUsable ? 'ok' : 'unusable', at: clock.mono() })
      if (this.session.phase === 'live') this.#live(peer)
    } catch (error) {
      log.warn('a socket could not be made ready', { code: codeOf(error), err: error })
      this.apply({ kind: 'read', result: 'away', at: clock.mono() })
    } finally {
      clearTimeout(timer)
    }
  }

  #live(peer: Peer): void {
    this.#deps.presence.arrived(peer)
    if (this.#convId === undefined) return
    const conversationId = parseId(this.#convId)
    if (conversationId) {
      this.#join({ type: 'room.join', conversationId }, JSON.stringify({ type: 'room.join', conversationId }), true)
    } else {
      this.#error({ code: 'VALIDATION', field: 'convId', message: 'convId is no id.' }, {})
    }
  }

  #command(frame: ClientFrame & { conversationId: string }, text: string, durable: boolean): void {
    const { clock, engine } = this.#deps
    const attempt = clock.id()
    const readAt = clock.mono()
    const clientMessageId =
      frame.type === 'message.send' || frame.type === 'chat.send' ? frame.clientMessageId : undefined
    const taken = engine.command({
      conversation: frame.conversationId,
      principal: this.session.principal!.userId,
      socket: this.id,
      attempt,
      trace: frame.traceId ?? attempt,
      body: Buffer.from(text),
      durable,
      readAt,
      isSend: clientMessageId !== undefined,
      note: { conversation: frame.conversationId, clientMessageId, readAt } satisfies Sent,
    })
    if (taken.taken) return
    const code = taken.reason === 'gateway' ? 'OVERLOADED' : 'RLIMIT'
    const retryAfterMs =
      taken.reason === 'gateway' ? Math.round((pendingRetryMs + spreadRetryMs * clock.random()) / 2) : pendingRetryMs
    const failure: Failure = { code, message: 'Too many messages wait for an answer.', retryAfterMs }
    this.#error(failure, askedOf(frame), frame.conversationId)
    if (clientMessageId !== undefined) this.#refused(frame.conversationId, clientMessageId, code, retryAfterMs)
  }

  #join(frame: ClientFrame<'room.join'>, text: string, isImplicit: boolean): void {
    const { clock, engine, hub } = this.#deps
    if (!this.peer) return
    const attempt = clock.id()
    hub.joining(this.peer, attempt, {
      conversation: frame.conversationId,
      afterSeq: frame.afterSeq,
      asked: askedOf(frame),
      isImplicit,
    })
    const taken = engine.command({
      conversation: frame.conversationId,
      principal: this.peer.userId,
      socket: this.id,
      attempt,
      trace: frame.traceId ?? attempt,
      body: Buffer.from(text),
      durable: true,
      readAt: clock.mono(),
    })
    if (taken.taken) return
    this.peer.joins.delete(attempt)
    const field = isImplicit ? { field: 'convId' } : {}
    const failure: Failure = {
      code: 'RLIMIT',
      message: 'Too many requests wait.',
      retryAfterMs: pendingRetryMs,
      ...field,
    }
    this.#error(failure, askedOf(frame), frame.conversationId)
  }

  /** An ack or error for one of this socket's commands; `note` went with it. */
  answered(label: Label, body: Uint8Array, note: unknown): void {
    if (this.#isEnded) return
    const { clock, log, metrics } = this.#deps
    const sent = note as Sent | undefined
    this.outbox.control(frameText(body))
    const isAck = body.length > 13 && body[9] === 0x61 && body[10] === 0x63 && body[11] === 0x6b
    if (sent?.clientMessageId !== undefined && isAck) metrics.parley_send_ms.observe(clock.mono() - sent.readAt)
    if (isAck) log.debug('a frame was answered', { traceId: label.trace, convId: label.conversation })
    if (isAck && !(label.flags & letterFlags.restart)) return
    const frame = JSON.parse(Buffer.from(body).toString()) as FleetingFrame<'ack' | 'error'>
    if (frame.type !== 'error') return
    this.#refusal(frame.code, frame, frame.conversationId)
    if (sent?.clientMessageId === undefined || !loadCodes.includes(frame.code)) return
    this.#refused(sent.conversation, sent.clientMessageId, frame.code, frame.retryAfterMs ?? pendingRetryMs)
  }

  #refused(conversation: string, clientMessageId: string, code: ErrorCode, retryAfterMs: number): void {
    this.apply({
      kind: 'refused',
      conversation,
      clientMessageId,
      code,
      retryAfterMs,
      at: this.#deps.clock.mono(),
    })
  }

  // --- frames that the gateway makes itself ----------------------------------------------------------------------------

  #answering(asked: Asked): Asked & { traceId: string } {
    return { ...asked, traceId: asked.traceId ?? this.#deps.clock.id() }
  }

  /** One line for each refusal, without the frame; a flood of them is the metric's. */
  #refusal(code: ErrorCode, { requestId, traceId }: Asked, conversationId: string | undefined): void {
    const { clock, log, metrics } = this.#deps
    metrics.parley_errors_total.inc({ class: errorCodes[code].class, code })
    const at = clock.mono()
    if (at - this.#linesFrom >= 1000) {
      this.#linesFrom = at
      this.#lines = 0
    }
    if (++this.#lines > refusalLinesPerSecondMax) return
    const userId = this.session.principal?.userId
    log.info('a frame was refused', {
      ...(requestId === undefined ? {} : { requestId }),
      ...(traceId === undefined ? {} : { traceId }),
      ...(userId === undefined ? {} : { userId }),
      ...(conversationId === undefined ? {} : { convId: conversationId }),
      code,
    })
  }

  #error(failure: Failure, asked: Asked, conversationId?: string): void {
    const answering = this.#answering(asked)
    this.#refusal(failure.code, answering, conversationId)
    this.#send({
      type: 'error',
      ...answering,
      ...(conversationId === undefined ? {} : { conversationId }),
      ...errorFields(failure),
    })
  }

  #send(frame: Record<string, unknown>): void {
    this.outbox.control(frameText(JSON.stringify({ ...frame, ts: new Date(this.#deps.clock.now()).toISOString() })))
  }

  #close(code: CloseCode, reason: string): void {
    this.outbox.close()
    const { log, metrics } = this.#deps
    metrics.parley_sockets_closed_total.inc({ code: String(code) })
    const userId = this.session.principal?.userId
    if (code !== 1012) log.info('a socket was closed', { code, ...(userId === undefined ? {} : { userId }) })
    this.ws.close(code, reason)
    this.#cleanUp()
  }

  /** The WebSocket is closed, by whomever. */
  closed(code: number): void {
    if (this.#isEnded) return
    this.#deps.metrics.parley_sockets_closed_total.inc({ code: closeLabel(code) })
    this.session = { ...this.session, phase: 'closing', held: [] }
    this.#cleanUp()
  }

  #cleanUp(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    const { hub, engine, presence } = this.#deps
    this.outbox.close()
    engine.closeSocket(this.id)
    if (this.peer) {
      presence.left(this.peer)
      hub.disconnect(this.peer)
    }
    this.#deps.ended(this)
  }
}
