/**
 * One scripted answer in the making: the lines of its stream, and the book-keeping of what was promised and what was sent.
 * Refuses to know the scripts.
 */
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Inference } from '#load/kit/checkers-streams.ts'

export class Play {
  readonly response: ServerResponse
  readonly tokens: number
  readonly gapMs: number
  readonly round: number
  /** 1 for the first request of this round. */
  readonly attempt: number
  readonly run: string
  /** What the tools of this turn gave so far. */
  readonly results: string[]
  readonly #inference: Inference

  constructor(response: ServerResponse, inference: Inference, tokens: number, gapMs: number, results: string[]) {
    this.response = response
    this.#inference = inference
    this.tokens = tokens
    this.gapMs = gapMs
    this.results = results
    this.round = inference.round
    this.attempt = inference.attempt
    this.run = inference.run
  }

  get isClosed(): boolean {
    return this.response.destroyed || this.response.closed
  }

  refuse(status: number, code: string, headers: Record<string, string> = {}): void {
    this.response.writeHead(status, { 'content-type': 'application/json', ...headers })
    this.response.end(JSON.stringify({ error: { message: 'by the script', type: code, code } }))
  }

  open(): void {
    this.response.writeHead(200, { 'content-type': 'text/event-stream' })
    this.response.flushHeaders()
  }

  raw(bytes: string | Uint8Array): void {
    if (!this.isClosed) this.response.write(bytes)
  }

  /** The bytes of a chunk with these words, counted as sent. */
  chunk(text: string): string {
    this.#inference.sentBytes += Buffer.byteLength(text)
    this.#inference.sentAt?.push(this.#inference.sentBytes, performance.now())
    return line({ delta: { content: text }, finish_reason: null })
  }

  /** Promises this text. */
  plan(text: string): string {
    this.#inference.planned += text
    return text
  }

  /** So many tokens of the text of this very request, `gapMs` apart; `till` of them if not all. */
  async stream(till = this.tokens, of = this.tokens): Promise<void> {
    const tokens = wordsOf(this.run, this.round, this.attempt, of)
    this.plan(tokens.join(''))
    const begun = performance.now()
    for (const [i, token] of tokens.slice(0, till).entries()) {
      if (this.isClosed) return
      this.raw(this.chunk(token))
      // By the plan, not from one to the next: a rate that is named is kept.
      const waitMs = begun + (i + 1) * this.gapMs - performance.now()
      if (waitMs > 0) await sleep(waitMs)
    }
  }

  calls(calls: readonly { id: string; name: string; arguments: string }[]): void {
    calls.forEach(({ id, name, arguments: args }, index) => {
      this.raw(line({ delta: { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] } }))
      // In two pieces, as providers do.
      const half = Math.floor(args.length / 2)
      for (const piece of [args.slice(0, half), args.slice(half)])
        this.raw(line({ delta: { tool_calls: [{ index, function: { arguments: piece } }] } }))
    })
    this.end('tool_calls')
  }

  end(finish = 'stop', usage = true): void {
    this.raw(line({ delta: {}, finish_reason: finish }))
    if (usage) this.raw(usageLine(this.tokens))
    this.raw(doneLine)
    this.response.end()
  }
}

export const line = (choice: object): string =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', model: 'rig', created: 0, choices: [{ index: 0, ...choice }] })}\n\n`
export const usageLine = (tokens: number): string =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', model: 'rig', created: 0, choices: [], usage: { prompt_tokens: 7, completion_tokens: tokens, total_tokens: 7 + tokens } })}\n\n`
export const doneLine = 'data: [DONE]\n\n'

const words = ['plain', 'größe', '漢字', 'naïve', '🦊', 'the', 'łódź', '👩‍👩‍👧', 'of', 'ﬁn', 'and', '日本語']

/** The text of one request: another attempt has another text, so an answer that was begun twice shows. */
function wordsOf(run: string, round: number, attempt: number, n: number): string[] {
  let a = Number.parseInt(run.slice(-7), 16) ^ (round * 7919) ^ (attempt * 104_729)
  return Array.from({ length: n }, (_, i) => {
    a = (Math.imul(a, 1_103_515_245) + 12_345) & 0x7fffffff
    return `${words[(a >>> 8) % words.length]}${i === 0 ? `<${round}.${attempt}>` : ''} `
  })
}
