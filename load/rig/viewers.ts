/**
 * Somebody who watches answers: a socket that joins one conversation, comes back wherever there is a gateway, and writes down
 * each piece of each answer as it came. Every stay in the room, from the join's answer to its end, is a record of its own.
 * Refuses to repair what it sees: judging is C4's.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { View } from '#load/kit/checkers-streams.ts'
import { WsClient } from '#load/kit/ws-client.ts'

const answerMsMax = 4000
const readyMsMax = 10_000
const backMs = 200

export interface ViewerFrame {
  type: string
  conversationId?: string
  requestId?: string
  messageId?: string
  seq?: number
  role?: string
  content?: string
  offset?: number
  bytes?: number
  sha256?: string
  finish?: string
  code?: string
  reason?: string
  callId?: string
  approval?: string
  headSeq?: number
  stream?: { messageId: string; content: string }
}

interface Sitting {
  joinedAt: number
  views: Map<string, View>
  /** Answers whose message came on this socket while it was not in the room. */
  replayed: Set<string>
}

export class Viewer {
  readonly name: string
  readonly views: View[] = []
  readonly #wsUrl: () => string | undefined
  readonly #token: string
  readonly #conversation: string
  readonly #onFrame: (frame: ViewerFrame) => void
  #client: WsClient | undefined
  #sitting: Sitting | undefined
  #replayed = new Set<string>()
  #isJoining = false
  #last: number | undefined
  #connections = 0
  #requests = 0
  #waiting = new Map<string, (frame: ViewerFrame | undefined) => void>()
  #isStopped = false
  /** Not there on purpose until then. */
  #awayUntil = 0
  #loop: Promise<void> | undefined

  constructor(options: {
    name: string
    wsUrl: () => string | undefined
    token: string
    conversation: string
    onFrame: (frame: ViewerFrame) => void
  }) {
    this.name = options.name
    this.#wsUrl = options.wsUrl
    this.#token = options.token
    this.#conversation = options.conversation
    this.#onFrame = options.onFrame
  }

  get isJoined(): boolean {
    return this.#sitting !== undefined
  }

  /** Connects, and again after every loss, until it is stopped. */
  start(): void {
    this.#loop = this.#stay()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#client?.destroy()
    await this.#loop
  }

  /** A reload: the socket is cut and a new one comes after so long. */
  cut(awayMs: number): void {
    this.#awayUntil = performance.now() + awayMs
    this.#client?.destroy()
  }

  /** Leaves the room and joins it again on the same socket. */
  async rejoin(awayMs: number): Promise<void> {
    if (!this.#sitting || this.#isJoining) return
    this.#endSitting()
    const left = await this.ask({ type: 'room.leave', conversationId: this.#conversation })
    await sleep(awayMs)
    if (left) await this.#join()
    else this.#client?.destroy()
  }

  /** The answer by requestId; undefined: none came, the outcome is unknown. */
  ask(frame: Record<string, unknown>): Promise<ViewerFrame | undefined> {
    const client = this.#client
    if (!client || client.isClosed) return Promise.resolve(undefined)
    const requestId = `v${++this.#requests}`
    return new Promise(resolve => {
      const settle = (answer: ViewerFrame | undefined) => {
        clearTimeout(timer)
        this.#waiting.delete(requestId)
        resolve(answer)
      }
      const timer = setTimeout(() => settle(undefined), answerMsMax)
      this.#waiting.set(requestId, settle)
      client.send(JSON.stringify({ ...frame, requestId }))
    })
  }

  async #stay(): Promise<void> {
    while (!this.#isStopped) {
      const waitMs = this.#awayUntil - performance.now()
      if (waitMs > 0) await sleep(Math.min(waitMs, 100))
      else if (this.#client && !this.#client.isClosed) await sleep(20)
      else await this.#connect().catch(() => sleep(backMs))
    }
  }

  async #connect(): Promise<void> {
    const url = this.#wsUrl()
    if (url === undefined) throw new Error('no gateway')
    const connection = ++this.#connections
    this.#replayed = new Set()
    const ready = Promise.withResolvers<void>()
    ready.promise.catch(() => {})
    const timer = setTimeout(() => ready.reject(new Error('no ready')), readyMsMax)
    const client = await WsClient.open(`${url}/ws`, {
      onText: bytes => {
        const frame = JSON.parse(bytes.toString()) as ViewerFrame
        if (frame.type === 'ready') ready.resolve()
        else if (connection === this.#connections) this.#take(frame)
      },
      onClose: () => {
        ready.reject(new Error('closed'))
        if (connection !== this.#connections) return
        this.#endSitting()
        for (const settle of [...this.#waiting.values()]) settle(undefined)
      },
    }).finally(() => clearTimeout(timer))
    this.#client = client
    const late = setTimeout(() => client.destroy(), readyMsMax)
    try {
      client.send(JSON.stringify({ type: 'auth', token: this.#token }))
      await ready.promise
    } finally {
      clearTimeout(late)
      if (this.#isStopped) client.destroy()
    }
    if (!(await this.#join())) client.destroy()
  }

  async #join(): Promise<boolean> {
    this.#isJoining = true
    const afterSeq = this.#last === undefined ? {} : { afterSeq: this.#last }
    const answer = await this.ask({ type: 'room.join', conversationId: this.#conversation, ...afterSeq })
    this.#isJoining = false
    return answer?.type === 'room.joined'
  }

  #endSitting(): void {
    const at = performance.now()
    for (const view of this.#sitting?.views.values() ?? []) view.endedAt = at
    this.#sitting = undefined
  }

  #take(frame: ViewerFrame): void {
    const at = performance.now()
    if (frame.conversationId === this.#conversation) {
      if (frame.type === 'room.joined') this.#sit(frame, at)
      else if (frame.type === 'chat.stream') this.#piece(frame.messageId!, frame.offset!, frame.content!, at)
      else if (frame.type === 'chat.done') this.#done(frame, at)
      else if (frame.type === 'error' && frame.code === 'UPSTREAM')
        this.#view(frame.messageId!)?.errors.push({ at, reason: frame.reason ?? '' })
      else if (frame.seq !== undefined) this.#event(frame, frame.seq, at)
    }
    if (frame.requestId !== undefined) this.#waiting.get(frame.requestId)?.(frame)
    this.#onFrame(frame)
  }

  #sit(frame: ViewerFrame, at: number): void {
    this.#endSitting()
    this.#sitting = { joinedAt: at, views: new Map(), replayed: this.#replayed }
    this.#last = Math.max(this.#last ?? 0, frame.headSeq ?? 0)
    if (frame.stream) this.#piece(frame.stream.messageId, 0, frame.stream.content, at)
  }

  #view(answerId: string): View | undefined {
    const sitting = this.#sitting
    if (!sitting) return undefined
    let view = sitting.views.get(answerId)
    if (!view) {
      view = {
        who: `${this.name}.${this.#connections}`,
        answerId,
        pieces: [],
        dones: [],
        errors: [],
        joinedAt: sitting.joinedAt,
        ...(sitting.replayed.has(answerId) && { isReplayed: true }),
      }
      sitting.views.set(answerId, view)
      this.views.push(view)
    }
    return view
  }

  #piece(answerId: string, offset: number, content: string, at: number): void {
    this.#view(answerId)?.pieces.push({ at, offset, content })
  }

  #done(frame: ViewerFrame, at: number): void {
    const { bytes = -1, sha256 = '', finish = '', seq = -1 } = frame
    this.#view(frame.messageId!)?.dones.push({ at, bytes, sha256, finish, seq })
  }

  #event(frame: ViewerFrame, seq: number, at: number): void {
    if (frame.type === 'ack') return
    this.#last = Math.max(this.#last ?? 0, seq)
    if (frame.type !== 'message.new' || frame.role !== 'assistant') return
    if (!this.#sitting) {
      this.#replayed.add(frame.messageId!)
      return
    }
    const view = this.#view(frame.messageId!)!
    view.messageAt ??= at
    view.messageContent = frame.content ?? ''
  }
}
