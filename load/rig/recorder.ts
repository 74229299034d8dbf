/**
 * A client that sends in a loop through everything that goes wrong and writes down what it saw, for the checkers: each
 * attempt, each delivery, each join. It behaves as docs/protocol.md advises: the same id again until there is an ack.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import type { Attempt, Delivery, History, Join } from '#load/kit/checkers.ts'
import { WsClient } from '#load/kit/ws-client.ts'

/** No answer for so long means unknown: the same id is sent again. */
const answerMsMax = 3000

export type Seen = Pick<History, 'attempts' | 'deliveries' | 'joins'>
let connections = 0

interface Waiting {
  attempt: Attempt
  settle(): void
}

interface Frame {
  type: string
  conversationId: string
  requestId?: string
  seq?: number
  messageId?: string
  content?: string
  headSeq?: number
  code?: string
  userId?: string
  conversation?: { headSeq: number }
  conversations?: { id: string; headSeq: number }[]
  others?: { id: string; headSeq: number }[]
}

export class Recorder {
  readonly #wsUrl: () => string
  readonly #token: string
  readonly #seen: Seen
  #client: WsClient | undefined
  #connection = 0
  #opening: Promise<void> | undefined
  #waiting = new Map<string, Waiting>()
  #heads = new Map<string, number>()
  /** Highest seq seen of each conversation, over all connections: where a resume begins. */
  #last = new Map<string, number>()
  #joining = new Map<string, { number: number; afterSeq: number; hasBegun: boolean }>()
  #joinCount = 0
  #isStopped = false
  /** Monotonic ms of the last ack, for whoever waits for recovery. */
  lastAckAt = 0
  userId = ''

  /** `wsUrl`: where to connect; asked at each connection where it is a function. */
  constructor(wsUrl: string | (() => string), token: string, seen: Seen) {
    this.#wsUrl = typeof wsUrl === 'string' ? () => wsUrl : wsUrl
    this.#token = token
    this.#seen = seen
  }

  async open(): Promise<void> {
    for (let tries = 0; !this.#isStopped; tries++) {
      if (this.#client && !this.#client.isClosed) return
      try {
        await (this.#opening ??= this.#connect())
        return
      } catch (error) {
        if (tries > 100) throw error
        await sleep(100)
      } finally {
        this.#opening = undefined
      }
    }
  }

  /** Sends until it is acked, however many attempts that takes. False when stopped before. */
  async send(conversation: string, content: string): Promise<boolean> {
    const clientId = systemClock.id()
    while (!this.#isStopped) {
      await this.open()
      const attempt = await this.#attempt(conversation, clientId, content)
      if (attempt.outcome.kind === 'ok') return true
      if (attempt.outcome.kind === 'refused') await sleep(50)
    }
    return false
  }

  /** Cuts the connection; the next one resumes each conversation. */
  cut(): void {
    this.#client?.destroy()
  }

  stop(): void {
    this.#isStopped = true
    this.#client?.destroy()
  }

  #attempt(conversation: string, clientId: string, content: string): Promise<Attempt> {
    const attempt: Attempt = {
      sender: this.userId,
      connection: this.#connection,
      conversation,
      clientId,
      content,
      invokedAt: performance.now(),
      outcome: { kind: 'unknown' },
    }
    this.#seen.attempts.push(attempt)
    const requestId = randomUUID()
    return new Promise(resolve => {
      const timer = setTimeout(() => settle(), answerMsMax)
      const settle = () => {
        clearTimeout(timer)
        this.#waiting.delete(requestId)
        resolve(attempt)
      }
      this.#waiting.set(requestId, { attempt, settle })
      const frame = {
        type: 'message.send',
        conversationId: conversation,
        clientMessageId: clientId,
        content,
        requestId,
      }
      this.#client?.send(JSON.stringify(frame))
    })
  }

  async #connect(): Promise<void> {
    const connection = ++connections
    const ready = Promise.withResolvers<void>()
    ready.promise.catch(() => {})
    const timer = setTimeout(() => ready.reject(new Error('no ready')), 10_000)
    const client = await WsClient.open(`${this.#wsUrl()}/ws`, {
      onText: bytes => {
        const frame = JSON.parse(bytes.toString()) as Frame
        if (frame.type === 'ready') {
          this.userId = frame.userId ?? ''
          this.#connection = connection
          this.#heads = new Map([...frame.conversations!, ...frame.others!].map(c => [c.id, c.headSeq]))
          this.#joining.clear()
          ready.resolve()
        } else if (frame.type === 'error' && this.#connection !== connection) {
          ready.reject(new Error(bytes.toString()))
        } else this.#take(frame, connection)
      },
      onClose: code => {
        ready.reject(new Error(`closed ${code}`))
        // What was under way is unknown from now on.
        if (this.#connection === connection) for (const waiting of this.#waiting.values()) waiting.settle()
      },
    })
    try {
      client.send(JSON.stringify({ type: 'auth', token: this.#token }))
      await ready.promise
    } catch (error) {
      client.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
    this.#client = client
    for (const [conversation, afterSeq] of this.#last) {
      this.#joining.set(conversation, { number: ++this.#joinCount, afterSeq, hasBegun: false })
      client.send(
        JSON.stringify({
          type: 'room.join',
          conversationId: conversation,
          afterSeq,
          requestId: `join ${this.#joinCount}`,
        }),
      )
    }
  }

  #take(frame: Frame, connection: number): void {
    const waiting = frame.requestId === undefined ? undefined : this.#waiting.get(frame.requestId)
    switch (frame.type) {
      case 'ack':
        if (!waiting) return
        waiting.attempt.completedAt = performance.now()
        waiting.attempt.outcome = { kind: 'ok', seq: frame.seq!, messageId: frame.messageId! }
        this.lastAckAt = performance.now()
        waiting.settle()
        return
      case 'error':
        if (!waiting) return
        waiting.attempt.completedAt = performance.now()
        waiting.attempt.outcome = { kind: 'refused', code: frame.code! }
        waiting.settle()
        return
      case 'conversation.added':
        this.#heads.set(frame.conversationId, frame.conversation!.headSeq)
        return
      case 'room.joined': {
        const join = this.#joining.get(frame.conversationId)
        this.#joining.delete(frame.conversationId)
        if (!join || connection !== this.#connection) return
        const done: Join = {
          connection,
          conversation: frame.conversationId,
          number: join.number,
          afterSeq: join.afterSeq,
          headSeq: frame.headSeq!,
        }
        this.#seen.joins.push(done)
        return
      }
      default:
        if (frame.seq !== undefined && frame.type !== 'chat.done') this.#deliver(frame, frame.seq, connection)
    }
  }

  #deliver(frame: Frame, seq: number, connection: number): void {
    const conversation = frame.conversationId
    const join = this.#joining.get(conversation)
    if (join && seq === join.afterSeq + 1) join.hasBegun = true
    const delivery: Delivery = {
      connection,
      conversation,
      seq,
      kind: frame.type,
      messageId: frame.messageId,
      content: frame.content,
      readyHead: this.#heads.get(conversation) ?? 0,
      ...(join?.hasBegun && { join: { number: join.number, afterSeq: join.afterSeq } }),
    }
    this.#seen.deliveries.push(delivery)
    this.#last.set(conversation, Math.max(seq, this.#last.get(conversation) ?? 0))
  }
}
