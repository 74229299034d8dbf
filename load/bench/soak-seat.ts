/**
 * One person's socket in a soak: connects, resumes after a cut, sends again what was not acked, and notes each event by its seq. What
 * it has seen without a hole is checked against the log at the end. Refuses to decide when something is done.
 */
import { randomUUID } from 'node:crypto'
import { WsClient } from '#load/kit/ws-client.ts'

export interface Place {
  token: string
  conversations: string[]
}

/** Over all seats. */
export class Tally {
  sends = 0
  acked = 0
  again = 0
  deliveries = 0
  turns = 0
  resumes = 0
  receipts = 0
  /** What must stay 0. */
  doubled = 0
  outOfOrder = 0
  cuts = 0
  errors: Record<string, number> = {}
  readonly ackMs: number[] = []
}

interface Seen {
  /** Everything up to here was seen. */
  upTo: number
  /** Seen above it: a resume may be overtaken by what is new. */
  above: Set<number>
  isJoining: boolean
}

interface Frame {
  type: string
  conversationId: string
  seq?: number
  role?: string
  requestId?: string
  code?: string
  retryAfterMs?: number
  conversations?: { id: string; headSeq: number }[]
  others?: { id: string; headSeq: number }[]
}

const againMs = 500

export class Seat {
  readonly place: Place
  readonly seen = new Map<string, Seen>()
  /** A turn of the assistant is under way. */
  isAsking = false
  readonly #url: string
  readonly #tally: Tally
  readonly #pending = new Map<string, { text: string; at: number }>()
  #client: WsClient | undefined
  #isLeaving = false
  #isReady = false
  #isLost = false

  constructor(url: string, place: Place, tally: Tally) {
    this.#url = url
    this.place = place
    this.#tally = tally
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Whether it was closed by somebody else and nobody opens it yet; whoever asks does. */
  takeLost(): boolean {
    const isLost = this.#isLost
    this.#isLost = false
    return isLost
  }

  get owed(): number {
    return this.#pending.size
  }

  /** Resolves with `ready`; resumes where it stood if it was there before. */
  async open(): Promise<void> {
    const ready = Promise.withResolvers<void>()
    this.#isLeaving = false
    this.#isReady = false
    this.#isLost = false
    const client = await WsClient.open(`${this.#url}/ws`, {
      onText: bytes => this.#frame(JSON.parse(bytes.toString()) as Frame, ready),
      onClose: code => {
        ready.reject(new Error(`closed ${code}`))
        if (this.#isLeaving || this.#client !== client) return
        this.#tally.cuts++
        this.#isReady = false
        this.#isLost = true
      },
    })
    this.#client = client
    client.send(JSON.stringify({ type: 'auth', token: this.place.token }))
    await ready.promise
  }

  /** Leaves without a word, as a phone does. */
  cut(): void {
    this.#isLeaving = true
    this.#isReady = false
    this.#client?.destroy()
  }

  tell(frame: Record<string, unknown>): void {
    this.#client?.send(JSON.stringify(frame))
  }

  /** Sends it until it is acked. */
  send(type: 'message.send' | 'chat.send', conversation: string, content: string): void {
    const id = randomUUID()
    const text = JSON.stringify({ type, conversationId: conversation, clientMessageId: id, content, requestId: id })
    this.#pending.set(id, { text, at: performance.now() })
    this.#tally.sends++
    if (type === 'chat.send') this.isAsking = true
    this.#client?.send(text)
  }

  #frame(frame: Frame, ready: PromiseWithResolvers<void>): void {
    if (frame.seq !== undefined && frame.type !== 'ack' && frame.type !== 'chat.done') {
      this.#event(frame.conversationId, frame.seq)
      // The end of a turn, which a resume tells as well.
      if (frame.role === 'assistant') {
        this.isAsking = false
        this.#tally.turns++
      }
      return
    }
    switch (frame.type) {
      case 'ready':
        this.#resume([...(frame.conversations ?? []), ...(frame.others ?? [])])
        this.#isReady = true
        ready.resolve()
        return
      case 'room.joined': {
        const seen = this.seen.get(frame.conversationId)
        if (seen) seen.isJoining = false
        return
      }
      case 'ack': {
        const pending = this.#pending.get(frame.requestId ?? '')
        if (!pending) return
        this.#pending.delete(frame.requestId!)
        this.#tally.acked++
        this.#tally.ackMs.push(performance.now() - pending.at)
        return
      }
      case 'error':
        this.#error(frame)
        return
      default:
    }
  }

  #resume(heads: { id: string; headSeq: number }[]): void {
    for (const { id, headSeq } of heads) {
      const seen = this.seen.get(id)
      if (!seen) this.seen.set(id, { upTo: headSeq, above: new Set(), isJoining: false })
      else {
        seen.isJoining = true
        this.#tally.resumes++
        this.tell({ type: 'room.join', conversationId: id, afterSeq: seen.upTo })
      }
    }
    for (const { text } of this.#pending.values()) {
      this.#tally.again++
      this.#client?.send(text)
    }
  }

  #event(conversation: string, seq: number): void {
    this.#tally.deliveries++
    const seen = this.seen.get(conversation)
    if (!seen) return
    if (seq <= seen.upTo || seen.above.has(seq)) {
      if (!seen.isJoining) this.#tally.doubled++
      return
    }
    if (seq !== seen.upTo + 1) {
      if (!seen.isJoining) this.#tally.outOfOrder++
      seen.above.add(seq)
      return
    }
    seen.upTo = seq
    while (seen.above.delete(seen.upTo + 1)) seen.upTo++
  }

  #error({ code = 'none', requestId = '', retryAfterMs = againMs }: Frame): void {
    this.#tally.errors[code] = (this.#tally.errors[code] ?? 0) + 1
    const pending = this.#pending.get(requestId)
    if (!pending) return
    setTimeout(() => {
      if (!this.#pending.has(requestId) || !this.#isReady) return
      this.#tally.again++
      this.#client?.send(pending.text)
    }, retryAfterMs)
  }
}
