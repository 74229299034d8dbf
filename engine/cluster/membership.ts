/**
 * Owns this node's place among the nodes: renews its lease, watches the others, claims what is ownerless, gives a replaced
 * worker fresh epochs, hands over what belongs elsewhere. A thin shell around observe.ts and plan.ts; the rows decide.
 * Refuses to believe its own memory over a row of a later epoch.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { busyEveryMs, handOverMsMax, membershipStableMs, renewMs } from '#protos/limits.ts'
import { nothingObserved, type ObserveEvent, observe } from './observe.ts'
import type { Seat } from './placement.ts'
import { noMemory, type Plan, plan, type ShardRow } from './plan.ts'
import type { ClusterNode, Granted, Moved, OwnershipStore } from './rows.ts'

export interface MembershipOptions {
  store: OwnershipStore
  /** This incarnation, its row already written. */
  me: string
  workers: number
  clock: Clock
  log: Log
  metrics: Metrics
  /** A shard's worker should know this; a worker that is gone may be ignored, it gets fresh epochs when it is back. */
  own(worker: number, shards: Granted[]): void
  disown(worker: number, shards: number[]): void
  /** A turn runs there that would end with a move. */
  isBusy?(shard: number): boolean
  /** Asks a worker to start no turns there; answers those of the shards in which one runs all the same. */
  hush?(worker: number, shards: number[]): Promise<ReadonlySet<number>>
  unhush?(worker: number, shards: number[]): void
  /** Shards that this worker gave away have these owners now. */
  moved?(worker: number, to: Moved[]): void
  /** The first round with all workers is done: what can be claimed at once is claimed. */
  onSettled(): void
  /** A renewal sent at this monotonic time (of `clock`) succeeded. */
  onRenewed(sentAt: number): void
  /** Another node declared this one dead: nothing may be served any more. */
  onBuried(): void
}

export interface Membership {
  /** A worker of this index listens, the first time or again: it gets its shards under fresh epochs. */
  listening(worker: number, addr: string): void
  fenced(shards: readonly number[]): void
  stamped(shards: readonly (readonly [number, number])[]): void
  /** Rows may have changed: reads them, soon. */
  hinted(): void
  /** Hands everything over where another node is up; returns when nothing is owned or nobody else is there. */
  drain(deadlineMs: number): Promise<void>
  /** Stops the rounds; `leave` also ends the incarnation. */
  close(leave: boolean): Promise<void>
  status(): { leaseAgeMs: number; shards: number; addrs: readonly string[] }
}

const startWaitMs = 5000
/** Of a drain: at its end what is still busy moves too. */
const lastMovesMs = 3000
/** After an outage the lease is renewed soon; a statement every so often does not hurt a database that starts. */
const renewRetryMs = 500

export function joinCluster(options: MembershipOptions): Membership {
  const { store, me, clock, log, metrics } = options
  const addrs = Array.from({ length: options.workers }, () => '')
  /** What each worker was told, or told us of itself. */
  const told = new Map<number, { worker: number; epoch: number }>()
  /** Shards that a worker was told to forget for a move. For a thread that is final under that epoch: ours again, they need a fresh one. */
  const leaving = new Set<number>()
  const startedAt = clock.mono()
  let observations = nothingObserved
  let memory = noMemory
  let renewedAt = startedAt
  let isClosed = false
  let isDraining = false
  let lastMovesAt = 0
  let isSettled = false
  let acting: Promise<unknown> = Promise.resolve()
  let renewTimer: NodeJS.Timeout | undefined
  let renewing: Promise<unknown> | undefined
  let tending: Promise<void> | undefined
  const isWanted = { renewal: false, tend: false, round: false }

  /** Statements that change ownership run one after another, so that rows read in one are not stale for the next. */
  function act<T>(job: () => Promise<T>): Promise<T> {
    const run = acting.then(job, job)
    acting = run.catch(() => undefined)
    return run
  }

  /** Renewals have a loop of their own: a slow claim must not stretch the lease. */
  function scheduleRenewal(delay: number): void {
    if (isClosed) return
    clearTimeout(renewTimer)
    renewTimer = setTimeout(() => {
      const began = clock.mono()
      renewing = renew().then(succeeded => {
        renewing = undefined
        const isAgain = isWanted.renewal
        isWanted.renewal = false
        const pause = succeeded ? renewMs : renewRetryMs
        scheduleRenewal(isAgain ? 0 : Math.max(0, pause - (clock.mono() - began)))
      })
    }, delay)
  }

  /** A round now: something changed. */
  function kick(): void {
    if (renewing) isWanted.renewal = true
    else scheduleRenewal(0)
  }

  /** False: no answer; the next try comes sooner. */
  async function renew(): Promise<boolean> {
    const sentAt = clock.mono()
    try {
      if (!(await store.renew(me))) {
        if (!isClosed) options.onBuried()
        return true
      }
    } catch (error) {
      observations = observe(observations, { kind: 'failed' }).state
      log.warn('the lease could not be renewed', { err: error })
      return false
    }
    renewedAt = sentAt
    metrics.parley_renew_ms.observe(clock.mono() - sentAt)
    options.onRenewed(sentAt)
    isWanted.round = true
    startTending()
    return true
  }

  function startTending(): void {
    isWanted.tend = true
    if (!isClosed) tending ??= tendAll().finally(() => (tending = undefined))
  }

  async function tendAll(): Promise<void> {
    while (isWanted.tend && !isClosed) {
      const isRound = isWanted.round
      isWanted.tend = false
      isWanted.round = false
      try {
        // What was buried is claimed at once, and what is to be handed over goes on: not a round later.
        if ((await act(() => tend(isRound))) > 0) isWanted.tend = true
      } catch (error) {
        observations = observe(observations, { kind: 'failed' }).state
        log.warn('a round of the cluster failed', { err: error })
      }
    }
  }

  /** Judges the others; only what follows a renewal of our own counts. Returns how many were buried. */
  async function watch(nodes: readonly ClusterNode[], began: number): Promise<number> {
    const others = nodes.filter(n => n.incarnation !== me && n.state !== 'dead')
    const event: ObserveEvent = { kind: 'round', began, ended: clock.mono(), others }
    const observed = observe(observations, event)
    observations = observed.state
    let buried = 0
    for (const { incarnation, beat, anyway } of observed.burials) {
      if (!(await store.bury(incarnation, beat, anyway))) continue
      buried++
      metrics.parley_burials_total.inc()
      log.warn('a silent node was buried', { node: nodes.find(n => n.incarnation === incarnation)?.nodeId ?? '' })
    }
    for (const { incarnation, nodeId, suspected } of others) {
      if (!suspected || !(await store.burySuspect(incarnation))) continue
      buried++
      metrics.parley_burials_total.inc()
      log.warn('a node that gateways do not reach was buried', { node: nodeId })
    }
    return buried
  }

  /** One read and what follows from it. Returns how many were buried and how many shards moved: then there is more to do. */
  async function tend(isRound: boolean): Promise<number> {
    const began = clock.mono()
    let { nodes, shards } = await store.read()
    const buried = isRound ? await watch(nodes, began) : 0
    if (await takeBack(shards)) ({ nodes, shards } = await store.read())
    believe(shards)
    if (addrs.some(addr => addr === '') && clock.mono() - startedAt < startWaitMs) return buried
    const decided = plan(memory, me, nodes, shards, clock.mono(), isBusy)
    memory = decided.memory
    if (isClosed) return buried
    for (const { worker, shards: wanted } of decided.claims) {
      if (isDraining) break
      const granted = await store.claim(me, worker, wanted)
      metrics.parley_claims_total.inc(granted.length)
      give(worker, granted)
    }
    if (!isSettled) {
      isSettled = true
      options.onSettled()
    }
    let moved = 0
    for (const { from, to, held: wanted } of gathered(decided.moves)) {
      const held = await stillIdle(from, wanted)
      if (held.length === 0) continue
      moved += held.length
      const moving = held.map(({ shard }) => shard)
      for (const shard of moving) {
        told.delete(shard)
        leaving.add(shard)
      }
      options.disown(from, moving)
      const isOurs = to.incarnation === me
      const granted = isOurs ? await store.replace(me, to.worker, moving) : await store.handOver(me, held, to)
      for (const { shard } of granted) leaving.delete(shard)
      if (isOurs) give(to.worker, granted)
      const addr = nodes.find(n => n.incarnation === to.incarnation)?.addrs[to.worker] ?? ''
      options.moved?.(
        from,
        granted.map(given => ({ ...given, addr })),
      )
    }
    return buried + moved
  }

  /**
   * What a worker last said of its turns is a moment old: one that began since would end with the move. Those in which one
   * runs stay for now. A drain has asked all workers before.
   */
  async function stillIdle(worker: number, wanted: readonly Granted[]): Promise<Granted[]> {
    if (isDraining || !options.hush || clock.mono() >= patientUntil()) return [...wanted]
    const busy = await options.hush(
      worker,
      wanted.map(({ shard }) => shard),
    )
    if (busy.size > 0) options.unhush?.(worker, [...busy])
    return wanted.filter(({ shard }) => !busy.has(shard))
  }

  /**
   * Shards that were to leave and did not, because their target was no longer up, a stamp moved their epoch or nobody knows
   * what became of the statement: those that are still ours begin anew. Answers whether there were any.
   */
  async function takeBack(rows: readonly ShardRow[]): Promise<boolean> {
    if (leaving.size === 0) return false
    const ours = Map.groupBy(
      rows.filter(({ shard, owner, worker }) => owner === me && worker !== null && leaving.has(shard)),
      row => row.worker!,
    )
    for (const [worker, stayed] of ours) {
      give(
        worker,
        await store.replace(
          me,
          worker,
          stayed.map(({ shard }) => shard),
        ),
      )
    }
    leaving.clear()
    return ours.size > 0
  }

  /** Rows of a later epoch than what was told win: a lost answer to a claim, a stamp under way, another's claim. */
  function believe(rows: readonly ShardRow[]): void {
    const granted = new Map<number, Granted[]>()
    for (const { shard, epoch, owner, worker } of rows) {
      const known = told.get(shard)
      if (known && known.epoch > epoch) continue
      if (owner === me && worker !== null) {
        if (known?.epoch === epoch && known.worker === worker) continue
        if (known && known.worker !== worker) options.disown(known.worker, [shard])
        let list = granted.get(worker)
        if (!list) granted.set(worker, (list = []))
        list.push({ shard, epoch })
      } else if (known) {
        told.delete(shard)
        options.disown(known.worker, [shard])
      }
    }
    for (const [worker, list] of granted) give(worker, list)
  }

  function give(worker: number, shards: Granted[]): void {
    if (shards.length === 0) return
    for (const { shard, epoch } of shards) told.set(shard, { worker, epoch })
    options.own(worker, shards)
  }

  async function seat(worker: number, addr: string): Promise<void> {
    addrs[worker] = addr
    for (let delay = 50; !isClosed; delay = Math.min(1000, delay * 2)) {
      try {
        await act(async () => {
          await store.setAddrs(me, addrs)
          // A new thread knows no shard: it gets those of its index under epochs that no statement of the old one can match.
          const shards = [...told].filter(([, t]) => t.worker === worker).map(([shard]) => shard)
          if (shards.length === 0 || addrs[worker] !== addr) return
          const granted = await store.replace(me, worker, shards)
          for (const shard of shards) told.delete(shard)
          give(worker, granted)
        })
        if (addrs.every(a => a !== '')) kick()
        return
      } catch (error) {
        log.warn('a worker could not be written down yet', { worker, err: error })
        await new Promise(resolve => setTimeout(resolve, delay * (0.5 + clock.random())))
      }
    }
  }

  /** A turn is waited for, but not for ever: neither on the way out nor for the sake of a newcomer. */
  function isBusy(shard: number): boolean {
    return clock.mono() < patientUntil() && options.isBusy?.(shard) === true
  }

  function patientUntil(): number {
    return isDraining ? lastMovesAt : memory.membersSince + membershipStableMs + handOverMsMax
  }

  scheduleRenewal(0)
  return {
    listening: (worker, addr) => void seat(worker, addr),
    fenced(shards) {
      for (const shard of shards) told.delete(shard)
      kick()
    },
    stamped(shards) {
      for (const [shard, epoch] of shards) {
        const known = told.get(shard)
        if (known && known.epoch < epoch) told.set(shard, { worker: known.worker, epoch })
      }
    },
    hinted() {
      if (isSettled && !isDraining) startTending()
    },
    async drain(deadlineMs) {
      isDraining = true
      const until = clock.mono() + deadlineMs
      lastMovesAt = until - lastMovesMs
      await act(() => store.markDraining(me))
      while (clock.mono() < until) {
        const { nodes, shards } = await store.read()
        const isAlone = !nodes.some(n => n.incarnation !== me && n.state === 'up')
        const left = shards.filter(s => s.owner === me)
        if (isAlone || left.length === 0) return
        await act(() => tend(false))
        if (left.every(s => isBusy(s.shard))) await new Promise(resolve => setTimeout(resolve, busyEveryMs))
      }
    },
    async close(leave) {
      isClosed = true
      clearTimeout(renewTimer)
      await renewing
      await tending
      await acting
      if (leave) await store.leave(me)
    },
    status: () => ({
      leaseAgeMs: clock.mono() - renewedAt,
      shards: told.size,
      addrs,
    }),
  }
}

/** One statement for all that go the same way. */
function gathered(moves: Plan['moves']): { from: number; to: Seat; held: Granted[] }[] {
  const ways = new Map<string, { from: number; to: Seat; held: Granted[] }>()
  for (const { shard, epoch, from, to } of moves) {
    const key = `${from} ${to.incarnation} ${to.worker}`
    const way = ways.get(key) ?? { from, to, held: [] }
    way.held.push({ shard, epoch })
    ways.set(key, way)
  }
  return [...ways.values()]
}
