/**
 * The turns of one conversation, seen from the shell: which run needs a slot, which event the machine is owed next, and the
 * one turn that is at the provider. Decides nothing about a run's fate; that is conversation/runs.
 */
import type { RunEvent } from '#engine/conversation/events.ts'
import { estimateTokens } from '#engine/conversation/runs.ts'
import { type Run, runningOf, type State } from '#engine/conversation/state.ts'
import { type Said, transcript } from '#engine/conversation/transcript.ts'
import { assistantId } from '#protos/ids.ts'
import { contextEventsMax, contextTokensMax, replayBytesMax, slotRetryMs } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { TurnMessage } from './ports.ts'
import { Turn } from './turn.ts'

const contextTriesMax = 5

export class Turns {
  #turn: Turn | undefined
  /** The run that has a slot and waits for its start to be stored. */
  #slotFor: string | undefined
  #isAsking = false
  #askAt = Number.NEGATIVE_INFINITY
  #waitsForSlotOf: string | undefined
  readonly #told = new Set<string>()
  readonly #conversation: string
  readonly #context: Context
  readonly #offer: () => void
  readonly #apply: (event: RunEvent) => void

  /** `apply`: an event that stores nothing. */
  constructor(conversation: string, context: Context, offer: () => void, apply: (event: RunEvent) => void) {
    this.#conversation = conversation
    this.#context = context
    this.#offer = offer
    this.#apply = apply
  }

  get isLive(): boolean {
    return this.#turn !== undefined && this.#turn.end === undefined
  }

  get waitsForSlotOf(): string | undefined {
    return this.#waitsForSlotOf
  }

  /** What the machine is owed next, by the committed state; undefined when nothing is due. */
  next(state: State, at: number, mono: number): RunEvent | undefined {
    const run = runningOf(state)
    if (!run) {
      const first = state.runs[0]
      if (first?.status !== 'queued' || first.id !== this.#slotFor || this.#context.isDraining) return undefined
      return { kind: 'run.start', runId: first.id, model: this.#context.provider.model, at, mono }
    }
    const turn = this.#turn?.runId === run.id ? this.#turn : undefined
    const text = turn?.textAfter(run.text)
    if (!turn || text === undefined) {
      // Its node died, or the log knows more than we received: what is stored is the answer.
      const tokens = estimateTokens(run)
      return { kind: 'run.end', runId: run.id, text: '', finish: 'interrupted', tokens, at, mono }
    }
    if (turn.end) return { kind: 'run.end', runId: run.id, text, ...turn.end, at, mono }
    if (text === '' || !turn.isDue(mono)) return undefined
    return { kind: 'run.delta', runId: run.id, text, at, mono }
  }

  /** Called whenever the committed state changed: asks for slots, lets go of what ended. */
  tend(state: State): void {
    const turn = this.#turn
    if (turn) {
      const run = state.runs.find(r => r.id === turn.runId)
      if (run) turn.stored(run.text.length, this.#context.clock.mono())
      else {
        turn.drop()
        this.#turn = undefined
        this.#context.slotFreed(turn.requester)
      }
    }
    const first = state.runs[0]
    if (first?.status !== 'queued') this.#waitsForSlotOf = undefined
    if (!first) return
    if (first.status === 'queued') this.#askSlot(first, state)
    else if (!this.#turn) this.#offer()
  }

  /** chat.started is stored: the model is asked. */
  begin(state: State, runId: string): void {
    const run = state.runs.find(r => r.id === runId)
    if (!run) return
    this.#slotFor = undefined
    const turn = new Turn(run, this.#context, this.#offer)
    this.#turn = turn
    if (this.#context.isDraining) return turn.cancel('interrupted')
    void turn.run(() => this.#messages(run, state), run.trace)
  }

  abort(runId: string): void {
    if (this.#turn?.runId === runId) this.#turn.cancel('stopped')
  }

  /** Drain: what runs ends with what it has. */
  interrupt(): void {
    this.#turn?.cancel('interrupted')
  }

  refuseRest(state: State): void {
    this.#turn?.refuseRest(runningOf(state)?.text ?? '')
  }

  /** The conversation is another's: nothing of ours is stored any more. */
  drop(): void {
    this.#turn?.drop()
    this.#turn = undefined
  }

  /** Do not wait out the pause: a slot was freed. */
  askAgain(): void {
    this.#askAt = Number.NEGATIVE_INFINITY
  }

  #askSlot(run: Run, state: State): void {
    const { directory, clock, log, isDraining } = this.#context
    if (isDraining || this.#isAsking) return
    if (this.#slotFor === run.id) return this.#offer()
    if (clock.mono() < this.#askAt) return
    this.#isAsking = true
    directory.takeSlot(run.requester, run.id).then(
      isTaken => {
        this.#isAsking = false
        if (isTaken) {
          this.#slotFor = run.id
          this.#waitsForSlotOf = undefined
          return this.#offer()
        }
        this.#waitsForSlotOf = run.requester
        this.#pause()
        if (!this.#told.has(run.id)) {
          this.#told.clear()
          this.#told.add(run.id)
          this.#apply({ kind: 'run.waiting', runId: run.id, at: clock.now(), mono: clock.mono() })
        }
      },
      error => {
        this.#isAsking = false
        log.warn('a slot could not be asked for', { convId: state.id, err: error })
        this.#pause()
      },
    )
  }

  #pause(): void {
    const { clock, timers } = this.#context
    this.#askAt = clock.mono() + slotRetryMs
    timers.after(slotRetryMs + 1, this.#offer)
  }

  /** What the model is shown, read from the log at this moment. A failing read is tried again a few times. */
  async #messages(run: Run, state: State): Promise<TurnMessage[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#readMessages(run, state)
      } catch (error) {
        if (tries >= contextTriesMax) throw error
        await new Promise<void>(go => void this.#context.timers.after(100 * 2 ** tries, go))
      }
    }
  }

  async #readMessages(run: Run, state: State): Promise<TurnMessage[]> {
    const { directory, systemPrompt } = this.#context
    const said: Said[] = []
    let after = Math.max(state.firstSeq - 1, state.head - contextEventsMax)
    for (;;) {
      const page = await directory.events(this.#conversation, after, {
        events: contextEventsMax,
        bytes: replayBytesMax,
      })
      for (const { json } of page.frames) {
        const frame = JSON.parse(json) as { type: string; seq: number; senderId: string; content: string }
        if (frame.type === 'message.new') {
          said.push({ seq: frame.seq, senderId: frame.senderId, content: frame.content })
        }
      }
      const last = page.frames.at(-1)?.seq
      if (!page.more || last === undefined || last >= state.head) break
      after = last
    }
    const speakers = [...new Set(said.map(s => s.senderId))].filter(id => id !== assistantId)
    const names = state.kind === 'group' ? await directory.names(speakers) : undefined
    const nameOf = names && ((id: string) => names.get(id)?.displayName ?? names.get(id)?.username ?? 'someone')
    return transcript({ systemPrompt, said, questionSeq: run.questionSeq, nameOf, tokensMax: contextTokensMax })
  }
}
