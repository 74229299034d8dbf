/**
 * The actors of a worker: finds or makes the one of a conversation, bounds them together, lets idle ones go, flushes their
 * receipts, and gives them up when a shard moves. Refuses to know a rule of conversations.
 */
import { hash } from 'node:crypto'
import type { Requester } from '#engine/conversation/effects.ts'
import type { World } from '#engine/conversation/events.ts'
import { isOrdered } from '#engine/conversation/transition.ts'
import { Admission } from '#engine/ops/admission.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { parseCommand } from '#protos/catalogue.ts'
import { errorFields, type Failure } from '#protos/errors.ts'
import {
  admissionWaitMsMax,
  crowdedLettersMin,
  crowdedLookMs,
  drainMsMax,
  equalTextsMax,
  receiptFlushMs,
  recentIdsMax,
  recentIdsMin,
  recentIdsPerWorkerMax,
  tailBytesMax,
  tailBytesMin,
  tailBytesPerWorkerMax,
  yieldMsMax,
} from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { Actor } from './actor.ts'
import { Backlog } from './backlog.ts'
import type { Context } from './context.ts'
import { Interpreter } from './interpreter.ts'
import { Leftovers } from './leftovers.ts'
import { Pieces } from './pieces.ts'
import type {
  Actors,
  Budget,
  Delivery,
  Directory,
  Fanout,
  Journal,
  Provider,
  ReceiptRow,
  Refuser,
  Toolbox,
} from './ports.ts'
import { openReads } from './reads.ts'
import { openTimers } from './timers.ts'

export interface RegistryDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  journal: Journal
  directory: Directory
  fanout: Fanout
  refuser: Refuser
  provider: Provider
  /** Absent: the assistant has no tools. */
  toolbox?: Toolbox
  /** Absent: what turns cost is not counted. */
  budget?: Budget
  /** Whether `ai` conversations without a title are given one; absent: they are not. */
  titles?: boolean
  systemPrompt: string
  limits: { scale: number; groupMembersMax: number; idempotencyDays: number }
  epochOf(shard: number): number | undefined
  /** Monotonic ms at which the node's last successful renewal was sent. */
  renewedAt(): number
}

export interface RegistryStats {
  actors: number
  waitingLetters: number
  waitingBytes: number
  turnsLive: number
  receiptsDirty: number
}

export type Registry = Actors & {
  /** So many letters wait that what nobody waits for should let them pass. */
  isCrowded(): boolean
  close(): Promise<void>
  stats(): RegistryStats
}

/** All actors once. */
const sweepMs = 1000
const sweepSlices = 4
const sweepActorsMin = 500
const flushRowsMax = 500
/** A drain waits this long for turns to end; the rest are ended by whoever takes over. */
const drainTurnsMs = drainMsMax / 3

export function createRegistry(deps: RegistryDeps): Registry {
  const { clock, log, metrics, journal, directory, refuser } = deps
  const actors = new Map<string, Actor>()
  const timers = openTimers(clock, error => log.error('a timer of an actor failed', { err: error }))
  const reads = openReads({ directory, timers, clock, log })
  const admission = new Admission()
  const leftovers = new Leftovers({ clock, log, directory, isOwned: shard => deps.epochOf(shard) !== undefined })
  /** Shards that are about to move. */
  const hushed = new Set<number>()
  let isQuiet = false
  let isClosed = false
  let flushing: Promise<void> | undefined
  let unswept = actors.entries()
  let found = nothingFound()

  const context: Context = {
    clock,
    log,
    metrics,
    journal,
    directory,
    reads,
    refuser,
    timers,
    letters: new Interpreter(deps.fanout, clock),
    provider: deps.provider,
    toolbox: deps.toolbox,
    budget: deps.budget,
    titles: deps.titles ?? false,
    systemPrompt: deps.systemPrompt,
    world: worldOf(deps),
    epochOf: shard => deps.epochOf(shard),
    renewedAt: () => deps.renewedAt(),
    tally: { letters: 0, bytes: 0 },
    tailBytesMax,
    backlog: new Backlog(),
    pieces: new Pieces(),
    runners: new Set(),
    isDraining: false,
    startsTurns: shard => !isQuiet && !hushed.has(shard),
    runEnded: runId => leftovers.ended(runId),
    slotFreed(requester) {
      for (const runner of [...context.runners]) if (runner.turns?.waitsForSlotOf === requester) runner.poke()
    },
  }

  function find(id: string): Actor {
    let actor = actors.get(id)
    if (!actor || actor.isFenced) {
      actor = new Actor(id, shardOf(id), context)
      actors.set(id, actor)
    }
    return actor
  }

  function answer(delivery: Delivery, to: Requester, failure: Failure): void {
    const { conversation, shard } = delivery.label
    const frame = { type: 'error', ...(conversation === '' ? {} : { conversationId: conversation }) }
    const place = { conversation, shard, epoch: deps.epochOf(shard) ?? 0 }
    context.letters.answer(place, to, { ...frame, ...errorFields(failure) })
  }

  const isCrowded = () => context.tally.letters >= crowdedLettersMin

  function isTooMuch(): boolean {
    return admission.refuses(context.tally.letters, journal.rowsPerSecond(), clock.mono())
  }

  async function flush(): Promise<void> {
    const rows: ReceiptRow[] = []
    const at = clock.now()
    for (const [conversation, actor] of actors) {
      for (const row of actor.flushRows(at)) rows.push({ conversation, ...row })
    }
    const until = clock.mono() + yieldMsMax
    for (let i = 0; i < rows.length; i += flushRowsMax) {
      // Each such statement is a hundred sends' worth of the database's time.
      while (isCrowded() && clock.mono() < until && !context.isDraining && !isClosed)
        await new Promise<void>(go => void timers.after(crowdedLookMs, go))
      await store(rows.slice(i, i + flushRowsMax))
    }
  }

  async function store(rows: ReceiptRow[]): Promise<void> {
    const startedAt = clock.mono()
    try {
      await directory.flushReceipts(rows)
      metrics.parley_receipt_rows_total.inc(rows.length)
      metrics.parley_receipt_flush_ms.observe(clock.mono() - startedAt)
    } catch (error) {
      log.warn('receipts could not be flushed and wait for the next round', { count: rows.length, err: error })
      for (const row of rows) actors.get(row.conversation)?.unflushed([row.userId])
    }
  }

  /** One flush at a time: a slow one is not overtaken. */
  function flushOnce(): Promise<void> {
    flushing ??= flush().finally(() => {
      flushing = undefined
    })
    return flushing
  }

  /** A share of the actors at a time: a hundred thousand in one go would hold the thread up for tens of ms. */
  function sweep(): void {
    const mono = clock.mono()
    for (let left = Math.max(sweepActorsMin, actors.size / sweepSlices); left > 0; left--) {
      const next = unswept.next()
      if (next.done) {
        swept()
        unswept = actors.entries()
        found = nothingFound()
        return
      }
      const [id, actor] = next.value
      actor.expire(mono)
      if (actor.turns) {
        if (actor.turns.isLive) found.turnsLive++
        found.turnsWaiting += actor.turns.waiting
        found.turnsQueued += actor.turns.queued
      }
      found.receiptsDirty += actor.dirtyCount
      if (actor.isFenced) actors.delete(id)
      else if (actor.isIdle(mono)) {
        // The very fence of a moved shard, with nothing waiting: it only lets go.
        actor.fence()
        actors.delete(id)
      }
    }
  }

  function swept(): void {
    share()
    void leftovers.sweep()
    metrics.parley_actors.set(actors.size)
    metrics.parley_receipts_dirty.set(found.receiptsDirty)
    metrics.parley_mailbox_letters.set(context.tally.letters)
    metrics.parley_mailbox_bytes.set(context.tally.bytes)
    metrics.parley_turns.set({ state: 'running' }, Math.max(0, found.turnsLive - found.turnsWaiting))
    metrics.parley_turns.set({ state: 'queued' }, found.turnsQueued)
    metrics.parley_turns.set({ state: 'waiting' }, found.turnsWaiting)
    metrics.parley_delta_backlog_bytes.set(context.backlog.size)
    metrics.parley_segment_runs.set(leftovers.size)
  }

  /** What a busy conversation may remember shrinks when many are busy: the worker's memory is one. */
  function share(): void {
    const each = (all: number, min: number, max: number) =>
      Math.max(min, Math.min(max, Math.floor(all / Math.max(1, actors.size))))
    context.world.rules.recentIdsMax = each(recentIdsPerWorkerMax, recentIdsMin, recentIdsMax)
    context.tailBytesMax = each(tailBytesPerWorkerMax, tailBytesMin, tailBytesMax)
  }

  function statsOf(): RegistryStats {
    const { letters, bytes } = context.tally
    let turnsLive = 0
    let receiptsDirty = 0
    for (const actor of actors.values()) {
      if (actor.turns?.isLive) turnsLive++
      receiptsDirty += actor.dirtyCount
    }
    return { actors: actors.size, waitingLetters: letters, waitingBytes: bytes, turnsLive, receiptsDirty }
  }

  function every(ms: () => number, run: () => void): void {
    timers.after(ms(), () => {
      if (isClosed) return
      run()
      every(ms, run)
    })
  }
  every(() => (actors.size > sweepActorsMin ? sweepMs / sweepSlices : sweepMs), sweep)
  every(
    () => receiptFlushMs,
    () => void flushOnce(),
  )

  return {
    deliver(delivery) {
      const { label, body } = delivery
      const { principal, socket, attempt, trace, conversation } = label
      const parsed = parseCommand(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'))
      const to: Requester = { principal, socket, attempt, trace, ref: delivery }
      if (!('frame' in parsed) || parsed.frame.conversationId !== conversation) {
        // The gateway has validated it by the same tables: whoever sent it is not at fault.
        metrics.parley_bad_commands_total.inc()
        log.error('a gateway sent what is no command', { convId: conversation, traceId: trace })
        answer(delivery, to, { code: 'SERVER', message: 'this could not be done' })
        return true
      }
      const { frame } = parsed
      if (frame.requestId !== undefined) to.requestId = frame.requestId
      if (isOrdered(frame.type) && isTooMuch()) {
        refuser.overloaded(delivery, 'OVERLOADED', admissionWaitMsMax)
        return true
      }
      return find(conversation).deliver(frame, to, delivery)
    },

    headOf: conversation => actors.get(conversation)?.provenHead,

    release(shards) {
      const gone = new Set(shards)
      for (const shard of shards) hushed.delete(shard)
      const rows: ReceiptRow[] = []
      for (const [id, actor] of actors) {
        if (!gone.has(actor.shard)) continue
        // The shard came back under a fresh epoch: letters in a statement are answered before those that come now. Then the
        // log is read anew.
        if (actor.isInFlight && deps.epochOf(actor.shard) !== undefined) continue
        // Positions are maxima: storing them late, beside the next owner, does no harm.
        for (const row of actor.flushRows(clock.now())) rows.push({ conversation: id, ...row })
        actor.fence()
        actors.delete(id)
      }
      if (rows.length > 0) void store(rows)
    },

    async adopt(shards) {
      const come = new Set(shards)
      admission.took(clock.mono())
      for (const actor of actors.values()) if (come.has(actor.shard)) actor.refresh()
      leftovers.came(shards)
      let pause = 50
      while (!isClosed) {
        const owned = shards.filter(s => deps.epochOf(s) !== undefined)
        if (owned.length === 0) return
        try {
          for (const id of await directory.openRuns(owned)) {
            // Some may have gone to another owner meanwhile.
            if (deps.epochOf(shardOf(id)) !== undefined) find(id)
          }
          return
        } catch (error) {
          log.warn('open runs could not be read and are asked for again', { count: owned.length, err: error })
          const ms = pause
          pause = Math.min(1000, pause * 2)
          await new Promise<void>(go => void timers.after(ms, go))
        }
      }
    },

    quiesce() {
      isQuiet = true
    },

    hush(shards) {
      for (const shard of shards) hushed.add(shard)
    },

    unhush(shards) {
      const back = new Set(shards.filter(shard => hushed.delete(shard)))
      if (back.size > 0) for (const actor of actors.values()) if (back.has(actor.shard)) actor.poke()
    },

    busyShards() {
      const busy = new Set<number>()
      for (const runner of context.runners) if (runner.hasRunning) busy.add(runner.shard)
      return [...busy]
    },

    async drain() {
      isQuiet = true
      context.isDraining = true
      for (const actor of actors.values()) actor.interrupt()
      const until = clock.mono() + drainTurnsMs
      const hasTurns = () => [...context.runners].some(runner => runner.hasRunning)
      while (hasTurns() && clock.mono() < until) await new Promise<void>(go => void timers.after(20, go))
      await flushOnce()
      await flushOnce()
    },

    isCrowded,
    stats: statsOf,

    async close() {
      isClosed = true
      await flushing
      for (const actor of actors.values()) actor.fence()
      actors.clear()
      reads.close()
      timers.close()
    },
  }
}

/** What one pass over all actors counts. */
function nothingFound() {
  return { turnsLive: 0, turnsWaiting: 0, turnsQueued: 0, receiptsDirty: 0 }
}

function worldOf({ clock, limits }: Pick<RegistryDeps, 'clock' | 'limits'>): World {
  return {
    rules: {
      groupMembersMax: limits.groupMembersMax,
      idempotencyDays: limits.idempotencyDays,
      recentIdsMax,
      equalTextsMax: Math.max(1, Math.round(equalTextsMax * limits.scale)),
    },
    id: () => clock.id(),
    sha1: bytes => hash('sha1', bytes, 'buffer'),
    sha256: text => hash('sha256', text),
    utf8Bytes: text => Buffer.byteLength(text),
  }
}
