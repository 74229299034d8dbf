/**
 * One conversation in memory: loading → active → recovering → active; any → fenced (final for this activation).
 *
 * loading     the log is being read; letters wait.
 * active      fleeting commands act at once on the committed state; ordered ones wait until the journal asks (`take`), are
 *             decided on a draft, and become the state when the statement returned (`settle`).
 * recovering  a draft was thrown away or the writer connection was lost: the log is read again; letters wait.
 * fenced      another owns it: what waits is sent back to be routed again.
 *
 * Nothing of a draft leaves before `settle('stored')`. Refuses to decide; engine/conversation does.
 */
import type { Asked, Effect, Requester } from '#engine/conversation/effects.ts'
import type { CommandEvent, RunEvent } from '#engine/conversation/events.ts'
import { countDirty, dirtyPositions, markPositions } from '#engine/conversation/receipts.ts'
import { runningOf, type State, stateFrom } from '#engine/conversation/state.ts'
import { isOrdered, transition, wakeAt } from '#engine/conversation/transition.ts'
import type { Command } from '#protos/catalogue.ts'
import type { Failure } from '#protos/errors.ts'
import { letterFlags } from '#protos/letter.ts'
import {
  actorAbsentIdleMs,
  actorIdleMs,
  actorYoungMs,
  receiptMembersMax,
  refuseWaitingMs,
  selfFenceMs,
  slotRetryMs,
  unprovedRetryMs,
} from '#protos/limits.ts'
import type { Context } from './context.ts'
import { Early } from './early.ts'
import { type Joinable, join } from './join.ts'
import { isKnown, needsLookUp, prepare } from './look-up.ts'
import { Mailbox, type Waiting } from './mailbox.ts'
import type { Contribution, Delivery, Outcome, ReceiptRow, Source } from './ports.ts'
import { ageOf, fail, refuse } from './refusals.ts'
import { Tail } from './tail.ts'
import { Take } from './take.ts'
import { Turns } from './turns.ts'
import { Waker } from './waker.ts'

/** Of all actors that nobody waits for. */
const noneWait: readonly never[] = []

type Phase = 'loading' | 'active' | 'recovering' | 'fenced'

export class Actor implements Source, Joinable {
  readonly id: string
  readonly shard: number
  readonly tail: Tail
  readonly #context: Context
  readonly #mailbox: Mailbox
  /** Most conversations never have a turn. */
  #turns: Turns | undefined
  readonly #waker: Waker
  #phase: Phase = 'loading'
  #state: State | undefined
  #flight: Take | undefined
  readonly #early = new Early()
  #onActive: readonly ((state: State | undefined) => void)[] = noneWait
  #generation = -1
  /** Of the shard when the log was read: under another one the log may have grown without us. */
  #epoch: number | undefined
  #loads = 0
  #joins = 0
  #usedAt: number
  readonly #bornAt: number
  #wasEmpty = false
  #isRunner = false

  constructor(id: string, shard: number, context: Context) {
    this.id = id
    this.shard = shard
    this.#context = context
    this.tail = new Tail(context)
    this.#mailbox = new Mailbox(context.tally)
    this.#waker = new Waker(context, () => {
      const { clock } = context
      this.#fleeting({ kind: 'tick', at: clock.now(), mono: clock.mono() })
    })
    this.#bornAt = this.#usedAt = context.clock.mono()
    this.#load()
  }

  get conversation(): string {
    return this.id
  }

  get isFenced(): boolean {
    return this.#phase === 'fenced'
  }

  get turns(): Turns | undefined {
    return this.#turns
  }

  /** From the first turn on, which the state knows of before it needs any tending. */
  get #owedTurns(): Turns | undefined {
    if (this.#turns === undefined && this.#state !== undefined && this.#state.runs.length > 0) {
      this.#turns = new Turns(
        this.id,
        this.#context,
        () => this.#work(),
        event => this.#fleeting(event),
      )
    }
    return this.#turns
  }

  get waiting(): number {
    return this.#mailbox.length
  }

  /** Nothing is under way or owed: it may leave memory. */
  isIdle(mono: number): boolean {
    const s = this.#state
    if (this.#phase !== 'active' || !s || this.#flight || this.#joins > 0 || this.#mailbox.length > 0) return false
    const idleMs = s.exists ? actorIdleMs : actorAbsentIdleMs
    return mono - this.#usedAt > idleMs && s.runs.length === 0 && s.typing.size === 0 && this.dirtyCount === 0
  }

  /** A turn is started and not ended in the log, or its start is on the way there. */
  get hasRunning(): boolean {
    const run = this.#state && runningOf(this.#state)
    if (run) return this.#owedTurns?.isParked(run) === false
    return this.isInFlight && this.#turns?.hasSlot === true
  }

  /** Drain: a turn at the model ends with what it has, one at its tools is left to the next owner. */
  interrupt(): void {
    this.#turns?.interrupt(this.#state)
  }

  /** A slot may be free for its turn. */
  poke(): void {
    this.#turns?.askAgain()
    if (this.#phase === 'active' && this.#state) this.#turns?.tend(this.#state)
  }

  /** A statement holds letters of it. */
  get isInFlight(): boolean {
    return this.#flight !== undefined
  }

  /** The head, unless the log may know better: another epoch or writer, a doubtful statement, a lease that was not renewed. */
  get provenHead(): number | undefined {
    const { journal, clock } = this.#context
    if (this.#phase !== 'active' || this.#isDated || journal.generation !== this.#generation) return undefined
    if (clock.mono() - this.#context.renewedAt() > selfFenceMs) return undefined
    return this.#state?.exists ? this.#state.head : undefined
  }

  /** Positions that the store does not have yet. */
  get dirtyCount(): number {
    return this.#state === undefined ? 0 : countDirty(this.#state)
  }

  /** Takes a command. False: no room for it, nothing was done. */
  deliver(command: Command, from: Requester, delivery: Delivery): boolean {
    this.#usedAt = this.#context.clock.mono()
    if (!isOrdered(command.type)) {
      if (this.#phase === 'active') this.#command(command, from)
      else return this.#early.push(command, from)
      return true
    }
    const item: Waiting = { command, from, delivery, bytes: delivery.body.length + 200, isReady: true, isAgain: false }
    const isYoung = !this.#wasEmpty && this.#usedAt - this.#bornAt < actorYoungMs
    const isResent = (delivery.label.flags & letterFlags.resend) !== 0
    const isStoredHere = this.#state !== undefined && isKnown(command, this.#state.recent)
    const looksUp = isStoredHere || ((isYoung || isResent) && needsLookUp(command))
    if (!this.#mailbox.push(item)) return false
    if (looksUp) this.#prepare(item, 'stored')
    else this.#work()
    return true
  }

  // --- Source ---------------------------------------------------------------------------------------------------------

  take(room: { rows: number; bytes: number; letters: number }): Contribution | undefined {
    const { journal, clock, metrics, log } = this.#context
    if (this.#phase !== 'active' || !this.#state || this.#flight) return undefined
    const epoch = this.#context.epochOf(this.shard)
    if (epoch === undefined) return undefined
    if (journal.generation !== this.#generation || epoch !== this.#epoch) {
      this.#load()
      return undefined
    }
    const at = clock.now()
    const mono = clock.mono()
    const take = new Take(this.#state, this.#context.world)
    const owed = this.#owedTurns?.next(this.#state, at, mono)
    try {
      if (owed) take.run(owed)
    } catch (error) {
      log.error('a turn broke an invariant', { convId: this.id, code: owed!.kind, err: error })
    }
    take.fill(
      room,
      this.#mailbox,
      { at, mono },
      {
        prepare: (item, what) => this.#prepare(item, what),
        broke: (item, error) => {
          log.error('a command broke an invariant', { convId: this.id, code: item.command.type, err: error })
          this.#fail(item.from, { code: 'SERVER', message: 'this could not be done' })
        },
        took: item => metrics.parley_mailbox_wait_ms.observe(mono - item.delivery.arrivedAt),
      },
    )
    if (take.isEmpty) {
      if (take.letters.length === 0) return undefined
      if (mono - this.#context.renewedAt() > selfFenceMs) {
        // No statement will prove that this is still the owner's word, and the lease may be another's.
        this.#mailbox.putBack(take.letters)
        this.#context.timers.after(unprovedRetryMs, () => this.#work())
        return undefined
      }
      // Nothing to store: what was decided rests on committed state and may leave now.
      this.#adopt(take)
      return undefined
    }
    this.#flight = take
    return take.contribution(this.id, this.shard, epoch)
  }

  settle(outcome: Outcome): void {
    const take = this.#flight
    this.#flight = undefined
    if (!take) return
    if (outcome.kind === 'stored') return this.#adopt(take)
    if (this.#phase === 'fenced' || outcome.kind === 'fenced') {
      for (const item of take.letters) this.#context.refuser.notOwner(item.delivery)
      return this.fence()
    }
    for (const item of take.letters) item.isAgain = true
    switch (outcome.kind) {
      case 'again':
        this.#mailbox.putBack(take.letters)
        return this.#load()
      case 'duplicates':
        this.#mailbox.putBack(take.letters)
        for (const item of take.letters) if (needsLookUp(item.command)) this.#prepare(item, 'stored')
        return this.#load()
      case 'culprit': {
        const [item, ...rest] = take.letters
        this.#mailbox.putBack(rest)
        if (item) this.#fail(item.from, { code: 'VALIDATION', message: `refused by the store (${outcome.code})` })
        else {
          this.#turns?.refuseRest(this.#state!)
          return void this.#context.timers.after(slotRetryMs, () => this.#work())
        }
        return this.#work()
      }
      case 'refused':
        for (const item of take.letters) this.#refuse(item.delivery, 'UNAVAILABLE', outcome.retryAfterMs)
        if (take.hasRun) this.#context.timers.after(outcome.retryAfterMs, () => this.#work())
        else this.#work()
        return
      default:
        outcome satisfies never
    }
  }

  // --- life -----------------------------------------------------------------------------------------------------------

  /** Another owns the conversation. What waits goes back; a statement under way may still answer its own letters. */
  fence(): void {
    if (this.#phase === 'fenced') return
    this.#phase = 'fenced'
    this.#context.runners.delete(this)
    this.#isRunner = false
    this.#waker.stop()
    const { refuser } = this.#context
    for (const item of this.#mailbox.remove(() => true)) refuser.notOwner(item.delivery)
    for (const { from } of this.#early.takeAll()) refuser.notOwner(from.ref as Delivery)
    this.#returnStops(undefined)
    this.#tellActive(undefined)
    this.#turns?.drop()
  }

  /** The shard came (again): what was known of the log before is read anew. */
  refresh(): void {
    // Never beside a statement under way: the read could miss its rows. The next take looks again.
    if (this.#phase === 'active' && this.#isDated && !this.#flight) this.#load()
  }

  get #isDated(): boolean {
    return this.#epoch !== this.#context.epochOf(this.shard)
  }

  active(): Promise<State | undefined> {
    this.refresh()
    if (this.#phase === 'active' && !this.#isDated) return Promise.resolve(this.#state)
    if (this.#phase === 'fenced') return Promise.resolve(undefined)
    return new Promise(done => {
      this.#onActive = [...this.#onActive, done]
    })
  }

  #tellActive(state: State | undefined): void {
    const waiting = this.#onActive
    this.#onActive = noneWait
    for (const done of waiting) done(state)
  }

  /** Refuses letters that waited too long and provably reached no commit; the rest stay silent until known. */
  expire(mono: number): void {
    if (this.#phase === 'active' && this.#mailbox.length === 0) return
    const isOld = (item: Waiting) =>
      ageOf(item.delivery, mono) > refuseWaitingMs &&
      (item.stored === null || (item.delivery.label.flags & letterFlags.resend) === 0)
    for (const item of this.#mailbox.remove(isOld)) this.#refuse(item.delivery, 'UNAVAILABLE', 1000)
    if (this.#phase === 'active') return
    const failure = { code: 'UNAVAILABLE' as const, message: 'not available at this moment', retryAfterMs: 1000 }
    for (const { command, from } of this.#early.take(e => ageOf(e.from.ref as Delivery, mono) > refuseWaitingMs)) {
      if (command.type === 'room.join') this.#fail(from, failure)
    }
  }

  /** Positions for the store, marked as flushed; `unflushed` takes that back. */
  flushRows(at: number): Omit<ReceiptRow, 'conversation'>[] {
    if (!this.#state || this.dirtyCount === 0) return []
    const rows = dirtyPositions(this.#state)
    this.#state = markPositions(
      this.#state,
      rows.map(r => r.userId),
      false,
    )
    const mark = this.#state.members.size <= receiptMembersMax
    return rows.map(r => ({ ...r, at, mark }))
  }

  unflushed(userIds: readonly string[]): void {
    if (this.#state) this.#state = markPositions(this.#state, userIds, true)
  }

  /** Who waits for a turn to end asks the next owner; those of `before` were told already. */
  #returnStops(before: State | undefined): void {
    for (const [runId, stops] of this.#state?.stops ?? []) {
      const told = before?.stops.get(runId) ?? []
      for (const to of stops) if (!told.includes(to)) this.#context.refuser.notOwner(to.ref as Delivery)
    }
  }

  #load(): void {
    if (this.#phase === 'fenced') return
    this.#phase = this.#state ? 'recovering' : 'loading'
    const { journal, reads, world, metrics, log } = this.#context
    const load = ++this.#loads
    const { generation } = journal
    const epoch = this.#context.epochOf(this.shard)
    metrics.parley_activations_total.inc()
    const loaded = reads.activation(this.id).then(found => {
      if (this.#phase === 'fenced' || load !== this.#loads) return
      if (journal.generation !== generation || this.#context.epochOf(this.shard) !== epoch) return this.#load()
      const snapshot = found && (found.head > 0 || found.members.length > 0) ? found : undefined
      if (!this.#state) this.#wasEmpty = !snapshot
      this.#generation = generation
      this.#epoch = epoch
      this.#state = stateFrom(this.id, snapshot, this.#state, world.utf8Bytes)
      if (this.tail.last !== this.#state.head) this.tail.clear()
      this.#phase = 'active'
      this.#tellActive(this.#state)
      this.#noteRuns(this.#state)
      for (const { command, from } of this.#early.takeFresh(this.#context.clock.mono())) this.#command(command, from)
      this.#owedTurns?.tend(this.#state)
      this.#work()
    })
    loaded.catch(error => {
      // A state that cannot be made from the log is a fault of ours; the letters find a fresh actor.
      log.error('an actor could not take up its state', { convId: this.id, err: error })
      this.fence()
    })
  }

  /** Something may wait: the journal will ask. */
  #work(): void {
    if (this.#phase !== 'active' || this.#flight || !this.#state) return
    const { clock } = this.#context
    if (this.#mailbox.peek()?.isReady || this.#owedTurns?.next(this.#state, clock.now(), clock.mono())) {
      this.#context.journal.offer(this)
    } else if (this.#state.runs[0]?.status === 'queued') this.#turns?.tend(this.#state)
  }

  #noteRuns({ runs }: State): void {
    const isRunner = runs.length > 0 && this.#phase !== 'fenced'
    if (isRunner === this.#isRunner) return
    this.#isRunner = isRunner
    if (isRunner) this.#context.runners.add(this)
    else this.#context.runners.delete(this)
  }

  #adopt(take: Take): void {
    const { clock, world, log, metrics } = this.#context
    const before = this.#state!
    const time = { at: clock.now(), mono: clock.mono() }
    const { state, effects } = transition(before, { kind: 'settled', draft: take.draft, ...time }, world)
    this.#state = state
    this.#noteRuns(state)
    metrics.parley_fanout_letters.observe(take.effects.length + effects.length)
    try {
      for (const effect of take.effects) this.#perform(effect)
      for (const effect of effects) this.#perform(effect)
      metrics.parley_fanout_ms.observe(clock.mono() - time.mono)
      if (this.#phase === 'fenced') return this.#returnStops(before)
      this.#owedTurns?.tend(this.#state)
      this.#waker.set(wakeAt(this.#state))
      if (this.#onActive.length > 0) this.refresh()
      this.#work()
    } catch (error) {
      // The rows are stored. What could not leave is fetched by gateways that see a hole.
      log.error('the effects of a commit could not all leave', { convId: this.id, err: error })
    }
  }

  #command(command: Command, from: Requester): void {
    const { clock } = this.#context
    // Who is a member is a question of the log too: an addition may be stored and its answer still on the way.
    if (command.type === 'room.join') return this.#join(from, command.afterSeq)
    this.#fleeting({
      kind: 'command',
      command,
      from,
      at: clock.now(),
      mono: clock.mono(),
      isExpired: false,
      isAgain: false,
    })
  }

  /** An event that stores nothing acts on the committed state at once. */
  #fleeting(event: CommandEvent | RunEvent | { kind: 'tick'; at: number; mono: number }): void {
    if (!this.#state || this.#phase === 'fenced') return
    const { state, effects } = transition(this.#state, event, this.#context.world)
    this.#state = state
    this.#noteRuns(state)
    for (const effect of effects) this.#perform(effect)
    this.#waker.set(wakeAt(this.#state))
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case 'segment':
      case 'ask':
        return
      case 'side':
        if (effect.change.kind === 'run.ended') this.#context.runEnded(effect.change.runId)
        return
      case 'join':
        return this.#join(effect.to, effect.afterSeq)
      case 'run.begin':
        if (this.#phase !== 'fenced') this.#owedTurns?.begin(this.#state!, effect.runId)
        return
      case 'run.abort':
        return this.#turns?.abort(effect.runId)
      case 'refuse':
        return this.#refuse(effect.to.ref as Delivery, effect.code, effect.retryAfterMs)
      default:
        this.#context.letters.send(
          {
            conversation: this.id,
            shard: this.shard,
            epoch: this.#context.epochOf(this.shard) ?? 0,
            tail: this.tail,
          },
          effect,
        )
    }
  }

  #join(to: Requester, afterSeq: number | undefined): void {
    this.#joins++
    void join(this, this.#context, to, afterSeq).finally(() => this.#joins--)
  }

  #prepare(item: Waiting, what: Asked): void {
    void prepare(item, what, this.id, this.#context, this.#state?.head ?? 0).then(() => this.#work())
  }

  #refuse(delivery: Delivery, code: 'UNAVAILABLE' | 'RLIMIT', retryAfterMs: number): void {
    refuse(this.#context, this.#mailbox, delivery, code, retryAfterMs)
  }

  #fail(to: Requester, failure: Failure): void {
    fail(this.#context, { conversation: this.id, shard: this.shard }, to, failure)
  }
}
