/**
 * The title of an `ai` conversation: asked of the model in a small call of its own when a turn was done and nothing else
 * waits. Refuses to hold anything up or to try hard: a title that does not come is asked for after the next turn.
 */
import type { RunEvent } from '#engine/conversation/events.ts'
import type { State } from '#engine/conversation/state.ts'
import { lacksTitle } from '#engine/conversation/title.ts'
import { nameId } from '#protos/ids.ts'
import { titleAskMs, titleCharsShown, titlePartCharsMax, titleTokensMax } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { TurnMessage } from './ports.ts'
import { Purse, promptTokensAtMost } from './purse.ts'

const instruction =
  'Give this conversation a title of at most six words, in its language. Answer with the title alone, without quotation marks.'

/** What was said in the turn after which a title is asked for. */
export interface Exchange {
  runId: string
  requester: string
  question: string
  answer: string
  trace: string
}

export class Titler {
  #due: { runId: string; title: string } | undefined
  #asking: AbortController | undefined
  readonly #context: Context
  readonly #offer: () => void

  constructor(context: Context, offer: () => void) {
    this.#context = context
    this.#offer = offer
  }

  /** The machine's next event, when a title waits to be stored. */
  next(state: State, at: number, mono: number): RunEvent | undefined {
    if (!this.#due || !lacksTitle(state)) return undefined
    return { kind: 'run.titled', ...this.#due, at, mono }
  }

  /** Called whenever the committed state changed. */
  tend(state: State): void {
    // Somebody asks again: their turn goes first, and a title is asked for after it.
    if (state.runs.length > 0 || !lacksTitle(state)) this.drop()
  }

  /** A turn was done. */
  consider(state: State, exchange: Exchange): void {
    const { timers, isDraining, titles } = this.#context
    if (!titles || isDraining || this.#asking || this.#due || !lacksTitle(state) || state.runs.length > 0) return
    const asking = new AbortController()
    this.#asking = asking
    timers.after(titleAskMs, () => {
      if (!asking.signal.aborted) void this.#ask(exchange, asking)
    })
  }

  drop(): void {
    this.#asking?.abort()
    this.#asking = undefined
    this.#due = undefined
  }

  async #ask({ runId, requester, question, answer, trace }: Exchange, asking: AbortController): Promise<void> {
    const { provider, world, log } = this.#context
    // A run of its own for the purse: it is no turn, and has no row.
    const ownId = nameId(runId, 'title', world.sha1)
    const purse = new Purse(ownId, requester, this.#context)
    const part = (text: string) => text.slice(0, titlePartCharsMax).toWellFormed()
    const messages: TurnMessage[] = [
      { role: 'system', content: instruction },
      { role: 'user', content: `Question: ${part(question)}\n\nAnswer: ${part(answer)}` },
    ]
    let text = ''
    try {
      if (await purse.reserve(0, promptTokensAtMost(messages, []) + titleTokensMax)) return
      let cost = { input: 0, output: 0, total: 0, estimated: true }
      const given = { runId: ownId, messages, tools: [], outputTokensMax: titleTokensMax, trace }
      for await (const event of provider.stream({ ...given, signal: asking.signal })) {
        if (event.kind === 'delta') text += event.text
        else cost = event.tokens
        if (event.kind === 'end' && event.finish !== 'stop') text = ''
      }
      purse.settle(0, cost)
    } catch (error) {
      log.warn('a title could not be asked for', { messageId: runId, err: error })
      return
    } finally {
      if (this.#asking === asking) this.#asking = undefined
    }
    const title = titleIn(text)
    if (asking.signal.aborted || title === '') return
    this.#due = { runId, title }
    this.#offer()
  }
}

/** The first line, without what models like to put around a title. */
export function titleIn(text: string): string {
  const line = text.replaceAll('\0', '').toWellFormed().trim().split('\n')[0]!
  const bare = line
    .replace(/^(?:#+\s*|title\s*:\s*)/iu, '')
    .replace(/^["'“”„«»*_`\s]+|["'“”„«»*_`\s.]+$/gu, '')
    .replace(/\s+/gu, ' ')
  return Array.from(bare).slice(0, titleCharsShown).join('').trim()
}
