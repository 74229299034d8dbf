/**
 * One turn at the provider: pulls it, keeps all text received, knows when the next piece is due at the journal and how it
 * ended. What of the text is stored is the state's to say; the rest is derived, so a draft thrown away costs nothing here.
 * Refuses to write: the actor takes pieces when the journal asks.
 */
import type { Tokens } from '#engine/conversation/events.ts'
import type { Run } from '#engine/conversation/state.ts'
import type { Finish } from '#protos/catalogue.ts'
import { deltaGatherMs, outputTokensMax } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { TurnMessage } from './ports.ts'

export interface TurnEnd {
  finish: Finish
  tokens: Tokens
  reason?: string
}

export class Turn {
  readonly runId: string
  readonly requester: string
  end: TurnEnd | undefined
  #full = ''
  #held = ''
  #stored = 0
  #unstored = 0
  #dueAt = Number.NEGATIVE_INFINITY
  #isTimed = false
  #promptUnits = 0
  readonly #startedAt: number
  readonly #abort = new AbortController()
  readonly #context: Context
  readonly #offer: () => void

  /** `offer`: something is due at the journal. */
  constructor(run: Run, context: Context, offer: () => void) {
    this.runId = run.id
    this.requester = run.requester
    this.#context = context
    this.#offer = offer
    this.#startedAt = context.clock.mono()
  }

  /** Pulls to the end. Never throws. `messages` is read first; its failure is the turn's. */
  async run(messages: () => Promise<TurnMessage[]>, trace: string): Promise<void> {
    const { provider, log, backlog } = this.#context
    try {
      const prompt = await messages()
      this.#promptUnits = prompt.reduce((sum, m) => sum + m.content.length, 0)
      if (this.end) return
      const request = {
        runId: this.runId,
        messages: prompt,
        outputTokensMax,
        signal: this.#abort.signal,
        trace,
      }
      for await (const event of provider.stream(request)) {
        if (this.end) return
        if (event.kind === 'end') {
          const { input, output, total } = event.tokens
          const reason = event.finish === 'failed' ? (event.reason ?? 'protocol') : undefined
          return this.finish({
            finish: event.finish,
            tokens: { input, output, total },
            ...(reason === undefined ? {} : { reason }),
          })
        }
        this.#push(event.text)
        await backlog.room()
      }
      this.finish({ finish: 'failed', tokens: this.#estimate(), reason: 'protocol' })
    } catch (error) {
      log.error('a turn failed outside the provider', { messageId: this.runId, err: error })
      this.finish({ finish: 'failed', tokens: this.#estimate(), reason: 'protocol' })
    }
  }

  /** Ends it now, from our side, with what was received. The provider is told and not waited for. */
  cancel(finish: 'stopped' | 'interrupted'): void {
    this.finish({ finish, tokens: this.#estimate() })
  }

  finish(end: TurnEnd): void {
    if (this.end) return
    this.end = end
    this.#abort.abort()
    const { metrics, clock } = this.#context
    metrics.parley_turns_ended_total.inc({ finish: end.finish })
    metrics.parley_turn_ms.observe(clock.mono() - this.#startedAt)
    this.#offer()
  }

  /** What follows `stored`, or undefined when that is no beginning of the text received. */
  textAfter(stored: string): string | undefined {
    return this.#full.startsWith(stored) ? this.#full.slice(stored.length) : undefined
  }

  isDue(mono: number): boolean {
    return mono >= this.#dueAt
  }

  /** This much is stored now. */
  stored(units: number, mono: number): void {
    if (units === this.#stored) return
    this.#stored = units
    this.#account(Math.max(0, this.#full.length - units))
    this.#dueAt = mono + deltaGatherMs
    if (this.#unstored > 0) this.#wait()
  }

  /** What the database refuses is not offered again: the turn fails with what is stored. */
  refuseRest(stored: string): void {
    this.#full = stored
    this.#account(0)
    this.end = { finish: 'failed', tokens: this.#estimate(), reason: 'protocol' }
    this.#abort.abort()
  }

  /** Nothing of it is wanted any more. */
  drop(): void {
    this.#account(0)
    this.end ??= { finish: 'interrupted', tokens: this.#estimate() }
    this.#abort.abort()
  }

  #push(piece: string): void {
    // Half a surrogate pair at the end waits for its other half; NUL and lone halves cannot be stored.
    let text = this.#held + piece.replaceAll('\0', '\ufffd')
    const last = text.charCodeAt(text.length - 1)
    this.#held = last >= 0xd800 && last <= 0xdbff ? text.slice(-1) : ''
    if (this.#held !== '') text = text.slice(0, -1)
    if (text === '') return
    this.#full += text.toWellFormed()
    this.#account(this.#unstored + text.length)
    if (this.isDue(this.#context.clock.mono())) this.#offer()
    else this.#wait()
  }

  #wait(): void {
    if (this.#isTimed) return
    this.#isTimed = true
    this.#context.timers.after(Math.max(0, this.#dueAt - this.#context.clock.mono()), () => {
      this.#isTimed = false
      if (this.#unstored > 0) this.#offer()
    })
  }

  #account(unstored: number): void {
    const change = unstored - this.#unstored
    this.#unstored = unstored
    this.#context.backlog.add(change)
  }

  #estimate(): Tokens {
    const input = Math.ceil(this.#promptUnits / 4)
    const output = Math.ceil(this.#full.length / 4)
    return { input, output, total: input + output }
  }
}
