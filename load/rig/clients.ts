/**
 * One device of a user under the rig: sends until acked, sends some acked ones again, loses its connection and resumes, and
 * writes down every raw frame that matters. Behaves as docs/protocol.md asks of clients; refuses to repair what a server does
 * wrong: duplicates and holes go into the history as they came.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import { WsClient } from '#load/kit/ws-client.ts'
import type { HistoryWriter } from './history.ts'

export interface DeviceOptions {
  actor: string
  device: string
  token: string
  /** ws://… of all gateways; which one is the device's choice. */
  gateways(): readonly string[]
  /** http://… of one that answers, for REST. */
  rest(): string
  history: HistoryWriter
  random: () => number
  /** Where it connects first; undefined: anywhere. */
  gateway?: number
  /** Once its connection is lost by a fault it never comes back: somebody has to be offline. */
  staysAway?: boolean
}

const answerMsMax = 3000
const readyMsMax = 6000
/** A connection that says nothing for so long is given up. */
const silentMsMax = 6000
const backoffMs = 500
const backoffMsMax = 30_000
/** Of acked sends: sent again, read back by REST; of events: read position announced. */
const resendShare = 0.05
const readShare = 0.01
const announceShare = 0.1

interface Waiting {
  attempt: number
  settle: (outcome: Outcome) => void
}

type Outcome = { kind: 'ok' } | { kind: 'refused'; retryAfterMs: number } | { kind: 'unknown' }

// biome-ignore lint/suspicious/noExplicitAny: frames of every kind are read here
type Frame = Record<string, any>

let attempts = 0
let connections = 0

export class Device {
  readonly #o: DeviceOptions
  #client: WsClient | undefined
  #connection = 0
  #isReady = false
  #isStopped = false
  #heardAt = 0
  #closing: 'clean' | 'planned' | undefined
  readonly #waiting = new Map<string, Waiting>()
  /** Everything up to this seq was seen; a resume begins there. What is pushed before a replay does not count yet. */
  readonly last = new Map<string, number>()
  /** Highest position announced. */
  readonly #announced = new Map<string, number>()
  #joins = 0
  #gateway: number
  onPresence: (userId: string, status: 'online' | 'offline' | 'unknown') => void = () => {}

  constructor(options: DeviceOptions) {
    this.#o = options
    this.#gateway = options.gateway ?? Math.floor(options.random() * options.gateways().length)
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Lost for good, as those that stay away are. */
  isLost = false

  get name(): string {
    return this.#o.device
  }

  /** Keeps a connection until `stop`; resolves when the first is ready. */
  async start(): Promise<void> {
    await this.#connect().catch(() => this.#reconnect())
  }

  /** Loses the connection on purpose and stays away for a while. */
  async leave(how: 'clean' | 'cut', ms: number): Promise<void> {
    if (!this.#client || !this.#isReady) return
    const { actor, device } = this.#o
    this.#o.history.write({ kind: 'leaving', connId: this.#connection })
    this.#closing = how === 'clean' ? 'clean' : 'planned'
    if (how === 'clean') this.#client.close()
    else this.#client.destroy()
    await sleep(ms)
    if (this.#isStopped) return
    // A stopped gateway answers no goodbye.
    this.#client.destroy()
    this.#o.history.write({ kind: 'reopen', actor, device })
    await this.#reconnect()
  }

  stop(): void {
    this.#isStopped = true
    this.#closing = 'planned'
    this.#client?.destroy()
  }

  watchPresence(userIds: readonly string[]): void {
    if (this.#isReady) this.#client?.send(JSON.stringify({ type: 'presence.watch', userIds }))
  }

  /** Sends until it is acked or the run is over. */
  async send(conversation: string, content: string): Promise<boolean> {
    const cmid = systemClock.id()
    while (!this.#isStopped) {
      if (!this.#isReady) {
        await sleep(50)
        continue
      }
      const outcome = await this.#attempt(conversation, cmid, content)
      if (outcome.kind === 'ok') {
        if (this.#o.random() < resendShare) await this.#attempt(conversation, cmid, content)
        if (this.#o.random() < readShare) await this.#readBack(conversation)
        return true
      }
      if (outcome.kind === 'refused') await sleep(Math.max(50, outcome.retryAfterMs))
    }
    return false
  }

  /** Says once more how far it has read, as clients do after a reconnect. */
  announceAgain(): void {
    for (const [conversation, seq] of this.#announced) this.#announce(conversation, seq)
  }

  #attempt(conversation: string, cmid: string, content: string): Promise<Outcome> {
    const attempt = ++attempts
    const requestId = `a${attempt}`
    const { actor, history } = this.#o
    const frame = { type: 'message.send', conversationId: conversation, clientMessageId: cmid, content, requestId }
    history.write({ kind: 'invoke', actor, connId: this.#connection, conv: conversation, attempt, cmid, content })
    return new Promise(resolve => {
      const settle = (outcome: Outcome) => {
        clearTimeout(timer)
        resolve(outcome)
      }
      // The answer may still come, and then goes into the history; the client tries again meanwhile.
      const timer = setTimeout(() => {
        history.write({ kind: 'unknown', attempt, why: 'time' })
        resolve({ kind: 'unknown' })
      }, answerMsMax)
      this.#waiting.set(requestId, { attempt, settle })
      this.#client?.send(JSON.stringify(frame))
    })
  }

  async #reconnect(): Promise<void> {
    for (let tries = 0; !this.#isStopped && !this.#isReady; tries++) {
      // The first try is soon, the rest with full jitter; another gateway each time.
      await sleep(this.#o.random() * Math.min(backoffMsMax, backoffMs * 2 ** Math.min(tries, 3)))
      this.#gateway++
      if (this.#isStopped || this.#isReady) return
      await this.#connect().catch(() => {})
    }
  }

  async #connect(): Promise<void> {
    const connection = ++connections
    const { actor, device, history } = this.#o
    const urls = this.#o.gateways()
    const ready = Promise.withResolvers<void>()
    const timer = setTimeout(() => ready.reject(new Error('no ready')), readyMsMax)
    let client: WsClient | undefined
    let isGivenUp = false
    const opened = WsClient.open(`${urls[this.#gateway % urls.length]}/ws`, {
      onText: bytes => {
        this.#heardAt = performance.now()
        const frame = JSON.parse(bytes.toString()) as Frame
        // A stopped gateway answers when nobody waits for it any more.
        if (isGivenUp) return
        if (frame['type'] === 'ready') {
          this.#client = client
          this.#connection = connection
          this.#isReady = true
          const heads: Record<string, number> = {}
          for (const c of [...frame['conversations'], ...frame['others']]) {
            heads[c.id] = c.headSeq
            if (!this.last.has(c.id)) this.last.set(c.id, c.headSeq)
          }
          history.write({ kind: 'ready', actor, device, connId: connection, heads })
          ready.resolve()
          // Joins leave before anything else of this connection is read.
          for (const conv of Object.keys(heads)) this.#join(conv, client!)
        } else if (this.#connection === connection) this.#take(frame)
        else if (frame['type'] === 'error') ready.reject(new Error(frame['code']))
      },
      onClose: code => {
        ready.reject(new Error(`closed ${code}`))
        if (this.#connection === connection && this.#isReady) this.#closed(code)
      },
    })
    opened.then(
      late => {
        client = late
        late.send(JSON.stringify({ type: 'auth', token: this.#o.token }))
      },
      error => ready.reject(error),
    )
    try {
      await ready.promise
      this.#watchSilence(connection, client!)
    } catch (error) {
      isGivenUp = true
      void opened.then(
        late => late.destroy(),
        () => {},
      )
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** A stopped gateway keeps its sockets open: only silence tells. */
  #watchSilence(connection: number, client: WsClient): void {
    const timer = setInterval(() => {
      if (this.#connection !== connection || client.isClosed) clearInterval(timer)
      else if (performance.now() - this.#heardAt > silentMsMax) client.destroy()
      else client.send('{"type":"ping"}')
    }, silentMsMax / 3)
    timer.unref()
  }

  #closed(code: number): void {
    const { actor, device, history } = this.#o
    this.#isReady = false
    const closing = this.#closing
    this.#closing = undefined
    const how = closing === 'clean' && code === 1000 ? 'clean' : 'lost'
    history.write({
      kind: 'closed',
      actor,
      device,
      connId: this.#connection,
      code,
      how,
      planned: closing !== undefined,
    })
    for (const { attempt, settle } of this.#waiting.values()) {
      history.write({ kind: 'unknown', attempt, why: 'close' })
      settle({ kind: 'unknown' })
    }
    this.#waiting.clear()
    if (closing) return
    if (this.#o.staysAway) {
      this.isLost = true
      this.#isStopped = true
    } else void this.#reconnect()
  }

  #join(conv: string, client: WsClient): void {
    const id = `j${++this.#joins}`
    const afterSeq = this.last.get(conv) ?? 0
    this.#o.history.write({ kind: 'join', connId: this.#connection, conv, id, afterSeq })
    client.send(JSON.stringify({ type: 'room.join', conversationId: conv, requestId: id, afterSeq }))
  }

  #take(frame: Frame): void {
    const { actor, device, history } = this.#o
    const connId = this.#connection
    const conv = frame['conversationId'] as string
    switch (frame['type']) {
      case 'ack':
      case 'error': {
        const waiting = this.#waiting.get(frame['requestId'])
        if (!waiting) return
        this.#waiting.delete(frame['requestId'])
        const { attempt, settle } = waiting
        if (frame['type'] === 'ack') {
          const { seq, messageId, duplicate } = frame
          history.write({ kind: 'ok', attempt, seq, messageId, dup: duplicate === true })
          settle({ kind: 'ok' })
        } else {
          history.write({ kind: 'refused', attempt, code: frame['code'] })
          settle({ kind: 'refused', retryAfterMs: frame['retryAfterMs'] ?? 0 })
        }
        return
      }
      case 'conversation.added':
        history.write({ kind: 'head', connId, conv, seq: frame['conversation'].headSeq })
        this.last.set(conv, frame['conversation'].headSeq)
        return
      case 'conversation.removed':
        history.write({ kind: 'removed', connId, conv })
        return
      case 'room.joined':
        history.write({ kind: 'joined', connId, conv, id: frame['requestId'], seq: frame['headSeq'] })
        this.last.set(conv, Math.max(this.last.get(conv) ?? 0, frame['headSeq']))
        return
      case 'resync_required': {
        const { reason, firstSeq, headSeq, requestId: id } = frame
        history.write({ kind: 'resync', connId, conv, id, reason, firstSeq, seq: headSeq })
        void this.#catchUp(conv, connId, headSeq)
        return
      }
      case 'receipt.updated':
        if (frame['userId'] === undefined) return
        history.write({ kind: 'receipt', actor, device, connId, conv, of: frame['userId'], readSeq: frame['readSeq'] })
        return
      case 'presence':
        history.write({ kind: 'presence', actor, of: frame['userId'], status: frame['status'] })
        this.onPresence(frame['userId'], frame['status'])
        return
      default:
        if (frame['seq'] !== undefined && frame['type'] !== 'chat.done') this.#event(frame, conv, connId)
    }
  }

  #event(frame: Frame, conv: string, connId: number): void {
    const { seq, type, messageId, content } = frame
    this.#o.history.write({ kind: 'event', connId, conv, seq, type, messageId, content })
    if (seq === (this.last.get(conv) ?? 0) + 1) this.last.set(conv, seq)
    const dice = this.#o.random()
    // Now and then an older position, which must change nothing.
    if (dice < announceShare) this.#announce(conv, dice < announceShare / 5 ? Math.max(1, seq - 3) : seq)
  }

  #announce(conv: string, seq: number): void {
    if (!this.#isReady) return
    this.#announced.set(conv, Math.max(seq, this.#announced.get(conv) ?? 0))
    this.#o.history.write({ kind: 'announce', actor: this.#o.actor, conv, seq })
    this.#client?.send(JSON.stringify({ type: 'receipt.read', conversationId: conv, seq }))
  }

  async #readBack(conv: string): Promise<void> {
    const invoked_ns = Math.round(performance.now() * 1e6)
    const after = Math.max(0, (this.last.get(conv) ?? 0) - 5)
    const page = await this.#events(conv, after, 20).catch(() => undefined)
    if (page) this.#o.history.write({ kind: 'read', conv, invoked_ns, after, limit: 20, seqs: page.map(e => e.seq) })
  }

  /** After a resync: the range by REST, then the join again. */
  async #catchUp(conv: string, connId: number, to: number): Promise<void> {
    let from = this.last.get(conv) ?? 0
    while (from < to && this.#connection === connId) {
      const page = await this.#events(conv, from, 1000).catch(() => undefined)
      if (!page) await sleep(200)
      else if (page.length === 0) break
      else {
        this.#o.history.write({ kind: 'caught', connId, conv, from: page[0]!.seq, to: page.at(-1)!.seq })
        from = page.at(-1)!.seq
      }
    }
    this.last.set(conv, Math.max(from, this.last.get(conv) ?? 0))
    if (this.#isReady && this.#connection === connId) this.#join(conv, this.#client!)
  }

  async #events(conv: string, after: number, limit: number): Promise<{ seq: number }[]> {
    const response = await fetch(`${this.#o.rest()}/conversations/${conv}/events?after=${after}&limit=${limit}`, {
      headers: { authorization: `Bearer ${this.#o.token}` },
      signal: AbortSignal.timeout(5000),
    })
    if (!response.ok) throw new Error(`${response.status}`)
    return ((await response.json()) as { items: { seq: number }[] }).items
  }
}
