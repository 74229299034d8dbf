/**
 * What one streamed completion has said so far: its words as they may be shown, the calls it asks for, why it ended and what
 * it cost. The model is treated as a stranger: what cannot be read spoils the rest and never what came before.
 */
import type { ChatCompletionChunk } from 'openai/resources/chat/completions'
import type { TurnEvent } from '#engine/actor/ports.ts'
import { CallPieces } from './call-pieces.ts'
import type { DeltaText } from './delta-text.ts'
import type { ServerEvent } from './event-stream.ts'

export type Finish = Extract<TurnEvent, { kind: 'end' }>['finish']
export type Usage = { input: number; output: number; total: number }

export class Completion {
  readonly calls = new CallPieces()
  finish: Finish | undefined
  usage: Usage | undefined
  /** Nothing more is to come. */
  isOver = false
  /** Something came that no completion says. */
  isBroken = false
  readonly #text: DeltaText
  readonly #hasTools: boolean

  constructor(text: DeltaText, hasTools: boolean) {
    this.#text = text
    this.#hasTools = hasTools
  }

  get isSilent(): boolean {
    return this.#text.isEmpty && this.calls.isEmpty
  }

  /** The words of these events, as far as they may be shown now; '' for none. */
  take(events: readonly ServerEvent[]): string {
    let words = ''
    for (const { name, data } of events) {
      if (this.isOver) break
      if (data === '[DONE]') this.isOver = true
      else {
        const chunk = read(data)
        if (chunk === undefined || name === 'error') this.#break()
        else words += this.#chunk(chunk)
      }
    }
    return words
  }

  #chunk(chunk: ChatCompletionChunk): string {
    this.usage = usageOf(chunk) ?? this.usage
    const choice = chunk.choices?.[0]
    if (!choice) return ''
    const refusal = choice.delta?.refusal
    const words = this.#text.push(choice.delta?.content || refusal || '')
    if (this.#hasTools) this.calls.push(choice.delta?.tool_calls)
    if (refusal) this.finish = 'filtered'
    else this.finish ??= choice.finish_reason ? finishOf(choice.finish_reason, this.calls) : undefined
    if (this.finish === 'failed') this.#break()
    else if (this.#text.isFull) {
      this.finish = 'length'
      this.isOver = true
    }
    return words
  }

  /** With the finish in hand only the token counts were missing: nothing that happens then can spoil the answer. */
  #break(): void {
    this.isOver = true
    this.isBroken = this.finish === undefined || this.finish === 'failed'
  }
}

/** Undefined: no JSON, or an error where a chunk should be. */
function read(data: string): ChatCompletionChunk | undefined {
  try {
    const chunk = JSON.parse(data) as (ChatCompletionChunk & { error?: unknown }) | null
    return typeof chunk === 'object' && chunk !== null && !chunk.error ? chunk : undefined
  } catch {
    return undefined
  }
}

function finishOf(reason: string, calls: CallPieces): Finish {
  switch (reason) {
    case 'length':
      return 'length'
    case 'content_filter':
      return 'filtered'
    // Calls that were not made, or of tools that were not offered, are nonsense.
    case 'tool_calls':
    case 'function_call':
      return calls.isEmpty ? 'failed' : 'stop'
    default:
      return 'stop'
  }
}

function usageOf(chunk: ChatCompletionChunk): Usage | undefined {
  const u = chunk.usage
  if (!u) return undefined
  const whole = (n: unknown) => (Number.isSafeInteger(n) && (n as number) >= 0 ? (n as number) : 0)
  const input = whole(u.prompt_tokens)
  const output = whole(u.completion_tokens)
  return { input, output, total: input + output }
}
