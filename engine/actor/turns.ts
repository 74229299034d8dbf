/**
 * The turns of one conversation, seen from the shell: which run needs a slot, which event the machine is owed next, and the
 * one turn that is at the provider. Decides nothing about a run's fate; that is conversation/runs.
 */
import { isAtTools, isUndecided, roundOf } from '#engine/conversation/calls.ts'
import type { RunEvent, Tokens } from '#engine/conversation/events.ts'
import { estimateTokens } from '#engine/conversation/runs.ts'
import { type Run, runningOf, type State } from '#engine/conversation/state.ts'
import { chosen, type Heard, positionsOf, saidIn, transcript } from '#engine/conversation/transcript.ts'
import { assistantId, nameId } from '#protos/ids.ts'
import { contextEventsMax, contextTokensMax, replayBytesMax, slotRetryMs, toolsParallelMax } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import type { Context } from './context.ts'
import type { ModelCall, TurnMessage } from './ports.ts'
import { roundsOf } from './rounds.ts'
import { Titler } from './titler.ts'
import { Turn } from './turn.ts'

const contextTriesMax = 5

export class Turns {
  #turn: Turn | undefined
  /** The run that has a slot and waits for its start to be stored. */
  #slotFor: string | undefined
  #isAsking = false
  #askAt = Number.NEGATIVE_INFINITY
  #waitsForSlotOf: string | undefined
  /** Wall ms for which a timer is set: the next approval that runs out. */
  #expiryAt = 0
  readonly #titler: Titler
  /** The question of the running turn, as far as it was read here. */
  #hint = ''
  /** The turn that waits for the provider's quota, and since then has no slot. `askAt`: monotonic ms. */
  #postponed: { runId: string; askAt: number; quotaTries: number; spent: Tokens } | undefined
  /** Turns of the conversation that do not run: in the queue, or waiting for a person's word. */
  queued = 0
  waiting = 0
  /** The queued run whose requester was told of its place. */
  #told = ''
  readonly #conversation: string
  readonly #shard: number
  readonly #context: Context
  readonly #offer: () => void
  readonly #apply: (event: RunEvent) => void

  /** `apply`: an event that stores nothing. */
  constructor(conversation: string, context: Context, offer: () => void, apply: (event: RunEvent) => void) {
    this.#conversation = conversation
    this.#shard = shardOf(conversation)
    this.#context = context
    this.#offer = offer
    this.#apply = apply
    this.#titler = new Titler(context, offer)
  }

  get isLive(): boolean {
    return this.#turn !== undefined && this.#turn.end === undefined
  }

  /** No turn begins, and none at its tools goes on: whoever owns the conversation next does that. */
  get #isHushed(): boolean {
    return !this.#context.startsTurns(this.#shard)
  }

  /** A turn has its slot; its start may be in a statement. */
  get hasSlot(): boolean {
    return this.#slotFor !== undefined
  }

  get waitsForSlotOf(): string | undefined {
    return this.#waitsForSlotOf
  }

  /** What the machine is owed next, by the committed state; undefined when nothing is due. */
  next(state: State, at: number, mono: number): RunEvent | undefined {
    return this.#next(state, at, mono) ?? this.#titler.next(state, at, mono)
  }

  #next(state: State, at: number, mono: number): RunEvent | undefined {
    const run = runningOf(state)
    if (!run) {
      const first = state.runs[0]
      if (first?.status !== 'queued' || first.id !== this.#slotFor || this.#isHushed) return undefined
      return { kind: 'run.start', runId: first.id, model: this.#context.provider.model, at, mono }
    }
    const turn = this.#turn?.runId === run.id ? this.#turn : undefined
    // Left to whoever owns it next: nothing of it is lost.
    if (!turn && isAtTools(run)) return undefined
    const text = turn?.textAfter(run.text)
    if (!turn || text === undefined) {
      // Its node died, or the log knows more than we received: what is stored is the answer.
      const tokens = estimateTokens(run)
      return { kind: 'run.end', runId: run.id, text: '', finish: 'interrupted', tokens, at, mono }
    }
    const results = run.calls.flatMap(({ callId, status }) => {
      const found = status === 'pending' ? turn.results.get(callId) : undefined
      return found ? [{ callId, ...found }] : []
    })
    if (results.length > 0) return { kind: 'run.returned', runId: run.id, results, at, mono }
    if (turn.end) return turn.isOver(mono) ? { kind: 'run.end', runId: run.id, text, ...turn.end, at, mono } : undefined
    if (turn.postponed) return { kind: 'run.postponed', runId: run.id, at, mono }
    const calls = turn.asked && this.#read(run, turn.asked)
    if (calls) return { kind: 'run.called', runId: run.id, text, calls, tokens: turn.spent, at, mono }
    const late = run.calls.filter(c => isUndecided(c) && (c.expiresAt ?? 0) <= at).map(c => c.callId)
    if (late.length > 0) return { kind: 'run.expired', runId: run.id, callIds: late, at, mono }
    if (text === '' || !turn.isDue(mono)) return undefined
    return { kind: 'run.delta', runId: run.id, text, at, mono }
  }

  /** Called whenever the committed state changed: asks for slots, lets go of what ended. */
  tend(state: State): void {
    this.#titler.tend(state)
    this.queued = state.runs.filter(r => r.status === 'queued').length
    this.waiting = state.runs[0]?.status === 'waiting' ? 1 : 0
    const turn = this.#turn
    if (turn) {
      const run = state.runs.find(r => r.id === turn.runId)
      if (run?.status === 'queued' && turn.postponed) this.#postpone(turn, turn.postponed)
      else if (run) {
        turn.stored(run.text.length, state.members.size)
        this.#advance(turn, run, state)
      } else {
        if (turn.end?.finish === 'stop') this.#titler.consider(state, { ...turn.exchange, question: this.#hint })
        turn.drop()
        this.#turn = undefined
        this.#context.slotFreed(turn.requester)
      }
    }
    const first = state.runs[0]
    if (this.#postponed && first?.id !== this.#postponed.runId) this.#postponed = undefined
    if (first?.status !== 'queued') this.#waitsForSlotOf = undefined
    if (!first) return
    if (first.status === 'queued') this.#askSlot(first, state)
    else if (!this.#turn) this.#takeUp(first, state)
  }

  /** A turn that runs without us: at its tools it goes on, else it ends. */
  #takeUp(run: Run, state: State): void {
    if (!isAtTools(run)) return this.#offer()
    if (this.#isHushed) return
    this.#turn = new Turn(run, this.#context, this.#offer)
    this.#advance(this.#turn, run, state)
  }

  /** What the log has now says what comes next: calls to make, a decision to wait for, the next round. */
  #advance(turn: Turn, run: Run, state: State): void {
    if (turn.asked && roundOf(run) > turn.round) turn.asked = undefined
    for (const { callId, status } of run.calls) if (status !== 'pending') turn.results.delete(callId)
    if (turn.end || turn.asked || turn.isPulling || this.#isHushed || !isAtTools(run)) return
    const pending = run.calls.filter(c => c.status === 'pending')
    if (pending.length === 0) return void turn.ask(roundOf(run), () => this.#messages(run, state), run.trace)
    for (const call of pending) {
      if (turn.callsRunning >= toolsParallelMax) break
      if (!isUndecided(call)) turn.call(call, run, this.#hint)
    }
    const first = Math.min(...pending.filter(isUndecided).map(c => c.expiresAt ?? 0))
    if (Number.isFinite(first) && first !== this.#expiryAt) {
      this.#expiryAt = first
      const { clock, timers } = this.#context
      timers.after(Math.max(0, first - clock.now()) + 1, this.#offer)
    }
  }

  /** What the model asked for as the log will have it. The same call twice in a round is one. */
  #read(run: Run, asked: readonly ModelCall[]): Extract<RunEvent, { kind: 'run.called' }>['calls'] {
    const { toolbox, world } = this.#context
    const round = roundOf(run)
    const ids = new Set<string>()
    const calls: Extract<RunEvent, { kind: 'run.called' }>['calls'] = []
    for (const one of asked) {
      const read = toolbox?.read(one)
      if (!read) continue
      const own = nameId(run.id, `call ${one.id}`, world.sha1)
      const before = run.calls.find(c => c.callId === own)
      if (ids.has(own)) continue
      ids.add(own)
      // An id that comes again in a later round is the same call only if it asks for the same.
      const callId = before ? nameId(run.id, `call ${one.id} ${round}`, world.sha1) : own
      calls.push({ ...read, callId, ...(before && before.hash === read.hash ? { repeats: own } : {}) })
    }
    return calls
  }

  /** chat.started is stored: the model is asked. */
  begin(state: State, runId: string): void {
    const run = state.runs.find(r => r.id === runId)
    if (!run) return
    this.#slotFor = undefined
    const before = this.#postponed?.runId === runId ? this.#postponed : undefined
    const { metrics, clock } = this.#context
    if (!before) metrics.parley_turn_queue_ms.observe(Math.max(0, clock.now() - run.createdAt))
    this.#postponed = undefined
    const turn = new Turn(run, this.#context, this.#offer, before)
    this.#turn = turn
    if (this.#context.isDraining) return turn.cancel('interrupted')
    void turn.ask(roundOf(run), () => this.#messages(run, state), run.trace)
  }

  /** The turn waits in the queue again: its slot is somebody else's. */
  #postpone(turn: Turn, { waitMs, tries }: NonNullable<Turn['postponed']>): void {
    const { clock, timers, metrics, slotFreed } = this.#context
    this.#turn = undefined
    this.#postponed = { runId: turn.runId, askAt: clock.mono() + waitMs, quotaTries: tries, spent: turn.spent }
    timers.after(waitMs + 1, this.#offer)
    metrics.parley_upstream_retries_total.inc()
    slotFreed(turn.requester)
  }

  abort(runId: string): void {
    if (this.#turn?.runId === runId) this.#turn.cancel('stopped')
  }

  /** Drain: what runs ends with what it has. */
  interrupt(state: State | undefined): void {
    const run = state?.runs.find(r => r.id === this.#turn?.runId)
    if (run && this.#turn!.isParked(run)) return
    this.#turn?.cancel('interrupted')
  }

  /** Nothing of the running turn is at work here that a next owner could not do. */
  isParked(run: Run): boolean {
    return this.#turn === undefined ? isAtTools(run) : this.#turn.isParked(run) && !this.#turn.isBound
  }

  refuseRest(state: State): void {
    this.#titler.drop()
    this.#turn?.refuseRest(runningOf(state)?.text ?? '')
  }

  /** The conversation is another's: nothing of ours is stored any more. */
  drop(): void {
    this.#titler.drop()
    this.#turn?.drop()
    this.#turn = undefined
  }

  /** Do not wait out the pause: a slot was freed. */
  askAgain(): void {
    this.#askAt = Number.NEGATIVE_INFINITY
  }

  #askSlot(run: Run, state: State): void {
    const { directory, clock, log } = this.#context
    if (this.#isHushed || this.#isAsking) return
    if (this.#postponed?.runId === run.id && clock.mono() < this.#postponed.askAt) return
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
        if (this.#told !== run.id) {
          this.#told = run.id
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
    const frames: Heard[] = []
    let after = Math.max(state.firstSeq - 1, state.head - contextEventsMax)
    for (;;) {
      const page = await directory.events(this.#conversation, after, {
        events: contextEventsMax,
        bytes: replayBytesMax,
      })
      for (const { json } of page.frames) {
        const frame = JSON.parse(json) as Heard
        // Results of tools are long, and no words of anybody.
        if (frame.type.startsWith('message.')) frames.push(frame)
      }
      const last = page.frames.at(-1)?.seq
      if (!page.more || last === undefined || last >= state.head) break
      after = last
    }
    const said = saidIn(frames)
    const speakers = [...new Set(said.map(s => s.senderId))].filter(id => id !== assistantId)
    const names = state.kind === 'group' ? await directory.names(speakers) : undefined
    const nameOf = names && ((id: string) => names.get(id)?.displayName ?? names.get(id)?.username ?? 'someone')
    // Whom the requester has blocked is not put before the model on the requester's behalf.
    const blocked = state.kind === 'group' ? new Set(await directory.blockedBy(run.requester, speakers)) : new Set()
    const heard = said.filter(s => !blocked.has(s.senderId))
    this.#hint = said.find(s => s.seq === run.questionSeq)?.content ?? ''
    const rounds = roundsOf(run)
    const taken = rounds.reduce((sum, m) => sum + m.content.length, 0)
    const { questionSeq } = run
    const given = { systemPrompt, said: heard, questionSeq, nameOf, tokensMax: contextTokensMax, taken }
    const lines = transcript(given)
    await directory.noteContext({
      runId: run.id,
      round: roundOf(run),
      conversation: this.#conversation,
      seqs: positionsOf(chosen(given)),
    })
    return [...lines, ...rounds]
  }
}
