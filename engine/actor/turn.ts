/**
 * One turn at the provider: pulls it, keeps all text received, knows when the next piece is due at the journal and how it
 * ended. What of the text is stored is the state's to say; the rest is derived, so a draft thrown away costs nothing here.
 * Refuses to write: the actor takes pieces when the journal asks.
 */
import { isAtTools } from '#engine/conversation/calls.ts'
import type { ToolStatus } from '#engine/conversation/effects.ts'
import type { Tokens } from '#engine/conversation/events.ts'
import type { Run, ToolCall } from '#engine/conversation/state.ts'
import type { Finish } from '#protos/catalogue.ts'
import {
  answerBytesMax,
  outputTokensMax,
  quotaRetryMs,
  quotaRetryMsMin,
  quotaWaitMsMax,
  stopToolWaitMs,
} from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { ModelCall, TurnMessage, TurnRequest } from './ports.ts'
import { type Cost, Purse, promptTokensAtMost, type Unfunded } from './purse.ts'

export interface TurnEnd {
  finish: Finish
  tokens: Tokens
  reason?: string
  /** Of one that we refuse ourselves: told in place of a failure of the provider. */
  refusal?: Unfunded
}

export class Turn {
  readonly runId: string
  readonly requester: string
  end: TurnEnd | undefined
  /** The provider has no quota: the turn is to wait in the queue, without a slot, and to ask again. */
  postponed: { waitMs: number; tries: number } | undefined
  /** Calls that end the model's round and are not in the log yet. */
  asked: ModelCall[] | undefined
  /** What tools gave and the log does not have yet, by call id. */
  readonly results = new Map<string, { status: ToolStatus; result: string }>()
  readonly #calling = new Set<string>()
  /** Of those, what nobody else could learn the result of. */
  readonly #bound = new Set<string>()
  #isPulling = false
  #round = -1
  #endedAt = 0
  /** Of the rounds before. */
  #spent: Tokens
  #full = ''
  #held = ''
  #stored = 0
  #unstored = 0
  #dueAt = Number.NEGATIVE_INFINITY
  #isTimed = false
  #members = 0
  /** What is stored was found to be a beginning of ours: asked several times for each piece, and it may be long. */
  #seen = ''
  /** Goes on pulling, or looks again whether to. */
  #wake: (() => void) | undefined
  #promptUnits = 0
  readonly #quotaTries: number
  /** Wall ms after which nobody waits for quota any more. */
  readonly #quotaUntil: number
  readonly #purse: Purse
  readonly #trace: string
  readonly #startedAt: number
  readonly #abort = new AbortController()
  readonly #context: Context
  readonly #offer: () => void

  /** `offer`: something is due at the journal. `before`: of a turn that waited for quota. */
  constructor(run: Run, context: Context, offer: () => void, before?: { quotaTries: number; spent: Tokens }) {
    this.runId = run.id
    this.requester = run.requester
    this.#trace = run.trace
    this.#purse = new Purse(run.id, run.requester, context)
    this.#quotaTries = before?.quotaTries ?? 0
    this.#quotaUntil = (run.startedAt ?? context.clock.now()) + quotaWaitMsMax
    this.#spent = before?.spent ?? noTokens
    this.#context = context
    this.#offer = offer
    this.#startedAt = context.clock.mono()
    // A turn that is taken over goes on after what is stored.
    this.#full = run.text
    this.#stored = run.text.length
  }

  get isPulling(): boolean {
    return this.#isPulling
  }

  /** Tokens of the turn so far. */
  get spent(): Tokens {
    return this.#spent
  }

  /** What came of it, for whoever names the conversation. */
  get exchange(): { runId: string; requester: string; answer: string; trace: string } {
    return { runId: this.runId, requester: this.requester, answer: this.#full, trace: this.#trace }
  }

  /** At its tools, or waiting for a person: another owner can go on with it. */
  isParked(run: Run): boolean {
    return !this.end && !this.#isPulling && !this.asked && !this.postponed && isAtTools(run)
  }

  /** The round that was last asked for. */
  get round(): number {
    return this.#round
  }

  /** Asks the model for a round, once. Never throws. `messages` is read first; its failure is the turn's. */
  async ask(round: number, messages: () => Promise<TurnMessage[]>, trace: string): Promise<void> {
    if (this.#isPulling || this.end || this.postponed || round <= this.#round) return
    this.#isPulling = true
    this.#round = round
    this.#context.pieces.begin()
    await this.#pull(messages, trace)
    this.#context.pieces.end()
    this.#isPulling = false
    this.#offer()
  }

  /** Makes the call once in this activation; the tool's own ledger sees to the rest. */
  call(call: ToolCall, run: Run, hint: string): void {
    const { toolbox, log } = this.#context
    const { callId, name, arguments: args } = call
    if (this.#calling.has(callId) || this.results.has(callId)) return
    this.#calling.add(callId)
    if (toolbox?.isBound?.(name)) this.#bound.add(callId)
    const request = { runId: run.id, callId, requester: run.requester, name, arguments: args, hint, trace: run.trace }
    const absent = JSON.stringify({ success: false, error: 'OperationFailed', message: 'There are no tools here.' })
    const made = toolbox?.run(request) ?? Promise.resolve({ status: 'error' as const, result: absent })
    void made
      .catch((error: unknown) => {
        log.error('a tool broke its contract', { traceId: run.trace, err: error })
        return { status: 'error' as const, result: absent }
      })
      .then(outcome => {
        this.#calling.delete(callId)
        this.#bound.delete(callId)
        this.results.set(callId, outcome)
        this.#offer()
      })
  }

  get isBound(): boolean {
    return this.#bound.size > 0
  }

  get callsRunning(): number {
    return this.#calling.size
  }

  /** Whether the end may be told: a stop waits a moment for tools that are at work, so that their results are known. */
  isOver(mono: number): boolean {
    return this.end !== undefined && (this.#calling.size === 0 || mono - this.#endedAt >= stopToolWaitMs)
  }

  async #pull(messages: () => Promise<TurnMessage[]>, trace: string): Promise<void> {
    const { toolbox, log } = this.#context
    const before = this.#full.length
    /** Of this request; undefined: none was made. */
    let cost: Cost | undefined
    try {
      const prompt = await messages()
      const tools = toolbox?.offers ?? []
      this.#promptUnits = prompt.reduce((sum, m) => sum + m.content.length, 0)
      if (this.end) return
      const refusal = await this.#purse.reserve(this.#round, promptTokensAtMost(prompt, tools) + outputTokensMax)
      if (refusal) return this.finish({ finish: 'failed', tokens: this.#spent, reason: 'budget', refusal })
      cost = { ...noTokens, estimated: true }
      if (this.end) return
      const textBytesMax = Math.max(0, answerBytesMax - Buffer.byteLength(this.#full))
      const given = { messages: prompt, tools, outputTokensMax, textBytesMax, signal: this.#abort.signal, trace }
      cost = await this.#read({ runId: this.runId, ...given }, before)
    } catch (error) {
      log.error('a turn failed outside the provider', { messageId: this.runId, err: error })
      this.finish({ finish: 'failed', tokens: this.#estimate(), reason: 'protocol' })
    } finally {
      if (cost) this.#purse.settle(this.#round, cost)
    }
  }

  /** Takes what the model says until the round or the turn ends, and answers what that cost. */
  async #read(request: TurnRequest, before: number): Promise<Cost> {
    const { provider, toolbox, clock, backlog } = this.#context
    for await (const event of provider.stream(request)) {
      if (this.end) break
      if (event.kind === 'calls' && toolbox && event.calls.length > 0) {
        this.#spent = sum(this.#spent, event.tokens)
        this.asked = event.calls
        return event.tokens
      }
      if (event.kind === 'calls') break
      if (event.kind === 'end') {
        const reason = event.finish === 'failed' ? (event.reason ?? 'protocol') : undefined
        const tokens = sum(this.#spent, event.tokens)
        const end = { finish: event.finish, tokens, ...(reason === undefined ? {} : { reason }) }
        const waitMs = Math.max(quotaRetryMsMin, event.retryAfterMs ?? quotaRetryMs * 2 ** this.#quotaTries)
        // Nothing was shown of this round, so asking again later still gives one answer.
        const mayWait = this.#full.length === before && clock.now() + waitMs <= this.#quotaUntil
        if (reason === 'quota' && mayWait) this.postponed = { waitMs, tries: this.#quotaTries + 1 }
        else this.finish(end)
        return event.tokens
      }
      this.#push(event.text)
      await backlog.room()
      await this.#rest()
    }
    this.finish({ finish: 'failed', tokens: this.#estimate(), reason: 'protocol' })
    const input = Math.ceil(this.#promptUnits / 4)
    return { ...totalled(input, Math.ceil((this.#full.length - before) / 4)), estimated: true }
  }

  /** Ends it now, from our side, with what was received. The provider is told and not waited for. */
  cancel(finish: 'stopped' | 'interrupted'): void {
    this.finish({ finish, tokens: this.#estimate() })
  }

  finish(end: TurnEnd): void {
    if (this.end) return
    this.end = end
    this.#wake?.()
    this.#endedAt = this.#context.clock.mono()
    this.asked = undefined
    this.#abort.abort()
    if (this.#calling.size > 0) this.#context.timers.after(stopToolWaitMs + 1, this.#offer)
    const { metrics, clock } = this.#context
    metrics.parley_turns_ended_total.inc({ finish: end.finish })
    metrics.parley_turn_ms.observe(clock.mono() - this.#startedAt)
    this.#offer()
  }

  /** What follows `stored`, or undefined when that is no beginning of the text received. */
  textAfter(stored: string): string | undefined {
    if (stored !== this.#seen && !this.#full.startsWith(stored)) return undefined
    this.#seen = stored
    return this.#full.slice(stored.length)
  }

  isDue(mono: number): boolean {
    return mono >= this.#dueAt
  }

  /** This much is stored now, in a conversation of so many members. */
  stored(units: number, members: number): void {
    if (units === this.#stored) return
    this.#stored = units
    this.#account(Math.max(0, this.#full.length - units))
    this.#members = members
    this.#dueAt = this.#context.pieces.dueAt(this.#context.clock.mono(), members)
    if (this.#unstored > 0) this.#wait()
    else this.#wake?.()
  }

  /** What the database refuses is not offered again: the turn fails with what is stored. */
  refuseRest(stored: string): void {
    this.#full = stored
    this.#seen = stored
    this.#account(0)
    this.end = { finish: 'failed', tokens: this.#estimate(), reason: 'protocol' }
    this.#wake?.()
    this.#abort.abort()
  }

  /** Nothing of it is wanted any more. */
  drop(): void {
    this.#account(0)
    this.end ??= { finish: 'interrupted', tokens: this.#estimate() }
    this.#wake?.()
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

  /** Where many answers stream, what comes until the next piece is due is read in one go. */
  async #rest(): Promise<void> {
    const { pieces, clock, timers } = this.#context
    while (!this.end && pieces.isBusy(this.#members) && (this.#unstored > 0 || !this.isDue(clock.mono()))) {
      await new Promise<void>(go => {
        this.#wake = go
        if (this.#unstored === 0) timers.after(this.#dueAt - clock.mono(), go)
      })
    }
    this.#wake = undefined
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

  /** What earlier rounds cost is known; this one's is guessed. */
  #estimate(): Tokens {
    const input = this.#isPulling || this.#spent.total === 0 ? Math.ceil(this.#promptUnits / 4) : 0
    const output = Math.ceil(this.#full.length / 4)
    return totalled(this.#spent.input + input, Math.max(this.#spent.output, output))
  }
}

const noTokens: Tokens = totalled(0, 0)

function totalled(input: number, output: number): Tokens {
  return { input, output, total: input + output }
}

function sum(a: Tokens, b: Tokens): Tokens {
  return totalled(a.input + b.input, a.output + b.output)
}
