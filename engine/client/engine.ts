/**
 * The engine as a gateway uses it: one link to each worker of the route map, commands held, sent, replayed in order until
 * they are answered, interest kept up over moves. Refuses to read frames; a caller never learns of a move.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { type Identity, openIdentity } from '#engine/ops/identity.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { failureFrame } from '#protos/failure.ts'
import { type Letter, label, letterFlags, letterKinds } from '#protos/letter.ts'
import { looseAttemptsMax, shardCount } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { type Attachments, createAttachments } from './attachments.ts'
import { createLink, type WorkerLink } from './link.ts'
import { Links } from './links.ts'
import { Load } from './load.ts'
import { type Entry, type Pair, Pending } from './pending.ts'
import type { CommandIn, EngineClient, EngineSink } from './port.ts'
import { createReach } from './reach.ts'
import { createRoutes, type Route, type RouteChange, type RouteRow } from './routes.ts'

export interface EngineClientDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  /** All shards with their owners' addresses, from the primary. */
  readRoutes(): Promise<RouteRow[]>
  /** This gateway's name, for the engine's logs. */
  nodeId: string
  /** Nobody when not given: for loopback. */
  identity?: Identity
  /** Writes down that the worker at this address is not reached although others do. */
  suspect?: (addr: string) => Promise<unknown>
  /** Calls back when the map may have changed; answers how to stop. */
  listen?: (changed: () => void) => () => void
}

const tickMs = 250
/** How often what waits for a link is counted. */
const countEveryMs = 5
/** A client that comes back sooner would find the same takeover under way. */
const unavailableRetryMs = 1000
const allShards = Array.from({ length: shardCount }, (_, shard) => shard)

export function createEngineClient(deps: EngineClientDeps): EngineClient {
  const { clock, metrics } = deps
  const identity = deps.identity ?? openIdentity('', 'gateway')
  const pending = new Pending()
  /** Attempts that were sent once and forgotten; their late errors still find the socket. Two generations. */
  let loose = new Set<string>()
  let looseBefore = new Set<string>()
  let sink: EngineSink
  let attachments: Attachments
  let ticker: NodeJS.Timeout | undefined
  let isClosed = false
  const routes = createRoutes({ ...deps, onChange: routed })
  const reach = createReach(deps)
  const shared = {
    nodeId: deps.nodeId,
    identity,
    hop: reach.hop,
    clock,
    log: deps.log,
    metrics,
    up,
    down,
    letter,
    room,
  }
  const loads = new WeakMap<WorkerLink, { load: Load; waiting: number; countedAt: number }>()
  const links = new Links(clock, addr => createLink({ addr, ...shared }))

  // --- load ----------------------------------------------------------------------------------------------------------

  function loadOf(link: WorkerLink) {
    let found = loads.get(link)
    if (!found) loads.set(link, (found = { load: new Load(), waiting: 0, countedAt: Number.NEGATIVE_INFINITY }))
    return found
  }

  /** Whether the owner of this conversation answers less than it is asked. One that is away or changes is waited for. */
  function isBehind(conversation: string): boolean {
    const route = routes.get(shardOf(conversation))
    const link = route && links.at(route.addr)
    if (!link) return false
    const mono = clock.mono()
    const at = loadOf(link)
    if (mono - at.countedAt >= countEveryMs) {
      at.countedAt = mono
      at.waiting = waitingAt(link.addr)
    }
    return at.load.refuses(at.waiting, mono)
  }

  /** Letters without an answer, of all shards at this address. A loop without arrays: it comes again every few ms. */
  function waitingAt(addr: string): number {
    let waiting = 0
    for (let shard = 0; shard < shardCount; shard++) {
      const letters = pending.lettersOf(shard)
      if (letters > 0 && routes.get(shard)?.addr === addr) waiting += letters
    }
    return waiting
  }

  // --- links -------------------------------------------------------------------------------------------------------

  function look(): void {
    reach.look(links.all(), routes.addrs(), routes.isFresh())
  }

  function shardsAt(addr: string): number[] {
    return allShards.filter(shard => routes.get(shard)?.addr === addr)
  }

  function up(link: WorkerLink): void {
    metrics.parley_links.inc()
    loadOf(link).load.took(clock.mono())
    const shards = shardsAt(link.addr)
    attachments.renew(shards)
    attachments.flushNow()
    for (const shard of shards) pumpShard(shard)
    sink.usersDoubtful()
  }

  function down(link: WorkerLink): void {
    metrics.parley_links.dec()
    attachments.linkDown(link)
    metrics.parley_link_reroutes_total.inc(pending.recall(allShards, lost => lost === link))
    if (!isClosed) routes.refresh()
  }

  function room(link: WorkerLink): void {
    attachments.flush()
    for (const shard of shardsAt(link.addr)) pumpShard(shard)
  }

  function routed(changes: RouteChange[]): void {
    if (isClosed) return
    links.name(routes.addrs())
    // Before the sends that were held: what these commit is then pushed, instead of read from the log by every gateway.
    attachments.renew(changes.filter(c => c.after).map(c => c.shard))
    attachments.flushNow()
    for (const { shard, after } of changes) {
      if (!after) continue
      // Under the new owner's epoch the old one can store nothing more: what it holds is replayed at once.
      metrics.parley_link_reroutes_total.inc(pending.recall([shard], link => link.addr !== after.addr))
      const link = links.at(after.addr)
      if (link) loadOf(link).load.took(clock.mono())
      pumpShard(shard)
    }
    // The last facts to users may have died with the owner that had stored them; no link need have broken here.
    if (changes.some(({ before, after }) => after && before?.addr !== after.addr)) sink.usersDoubtful()
  }

  // --- commands up ---------------------------------------------------------------------------------------------------

  function pumpShard(shard: number): void {
    for (const pair of pending.ofShard(shard)) pump(pair)
  }

  /** Sends what is held of a pair, in order, as far as order, route, link and credit allow. */
  function pump(pair: Pair): void {
    if (pair.isStalled) {
      if (pair.sentCount > 0) return
      pair.isStalled = false
      pair.needsRestart = true
    }
    const route = routes.get(pair.shard)
    const link = route && links.at(route.addr)
    if (!route || !link) return
    // What is sent is always the front of a pair that does not stand still.
    for (let next = pair.entries[pair.sentCount]; next; next = pair.entries[pair.sentCount]) {
      if (!link.hasRoom) return
      forward(next, link, route)
    }
  }

  function forward(entry: Entry, link: WorkerLink, route: Route): void {
    const { command, pair } = entry
    const flags =
      (entry.isDoubtful ? letterFlags.resend : 0) |
      (pair.isOrdered && pair.needsRestart ? letterFlags.restart : 0) |
      (pair.isOrdered ? 0 : letterFlags.loose)
    // A replay is young again: only what its socket no longer waits for may die of age.
    const age = entry.wasSent ? 0 : clock.mono() - command.readAt
    write(command, pair.shard, flags, age, link, route)
    pair.needsRestart = false
    if (pair.isKept) pending.markSent(entry, link, route)
    else {
      pending.remove(entry)
      remember(command.attempt)
    }
  }

  function write(
    command: Omit<CommandIn, 'readAt'>,
    shard: number,
    flags: number,
    age: number,
    link: WorkerLink,
    { epoch }: Route,
  ): void {
    const { socket, conversation, principal, attempt, trace } = command
    const on = { flags, shard, socket, age, epoch, conversation, principal, attempt, trace }
    link.send(label(letterKinds.command, on), command.body)
  }

  /** Typing and receipts, where nothing holds them up: they are sent once and forgotten. */
  function sendFleeting(command: CommandIn): boolean {
    const shard = shardOf(command.conversation)
    const route = routes.get(shard)
    const link = route && links.at(route.addr)
    if (!route || !link?.hasRoom) return false
    write(command, shard, letterFlags.loose, clock.mono() - command.readAt, link, route)
    remember(command.attempt)
    return true
  }

  function remember(attempt: string): void {
    if (loose.size >= looseAttemptsMax) {
      looseBefore = loose
      loose = new Set()
    }
    loose.add(attempt)
  }

  function giveUp(entry: Entry, message: string): void {
    const { command, pair } = entry
    const failure = { code: 'UNAVAILABLE', message, retryAfterMs: unavailableRetryMs } as const
    const frame = failureFrame(command.body, command.conversation, clock.now(), failure, command.trace)
    if (entry.answer) entry.answer(frame)
    else if (pair.isKept) {
      const { socket, attempt, conversation } = command
      const l = label(letterKinds.answer, { flags: letterFlags.restart, socket, attempt, conversation })
      sink.answer(l, frame, command.note)
    }
  }

  function tick(): void {
    for (const entry of pending.expire(clock.mono())) giveUp(entry, 'no owner could be reached in time')
    metrics.parley_sends_pending.set(pending.letters)
    links.name(routes.addrs())
    look()
    // A dead owner is replaced within a second; somebody waits for the news.
    if (links.all().some(link => !link.isUp)) routes.refresh()
  }

  // --- letters down ----------------------------------------------------------------------------------------------------

  function letter(link: WorkerLink, { label: l, body }: Letter): void {
    const { kind } = l
    if (kind === letterKinds.fact) sink.fact(l, body)
    else if (kind === letterKinds.answer) answered(link, { label: l, body })
    else if (kind === letterKinds.delta) sink.delta(l, body)
    else if (kind === letterKinds.done) sink.done(l, body)
    else if (kind === letterKinds.typing || kind === letterKinds.receipt) {
      if (isOutdated(link, l)) return
      if (kind === letterKinds.typing) sink.typing(l, body)
      else sink.receipt(l, body)
    } else if (kind === letterKinds.user) sink.user(l, body)
    else if (kind === letterKinds.replay) replayed(link, { label: l, body })
    else if (kind === letterKinds.refused) refused(link, { label: l, body })
    else if (kind === letterKinds.attached) attachments.attached({ label: l, body })
    else if (kind === letterKinds.lagged) {
      attachments.renew(shardsAt(link.addr))
      sink.usersDoubtful()
    } else if (kind === letterKinds.moved) moved(body)
  }

  /** A former owner that stood still and does not know it yet: what it says from memory is older than what was told. */
  function isOutdated(link: WorkerLink, { shard, epoch }: Letter['label']): boolean {
    const route = routes.get(shard)
    return route !== undefined && route.addr !== link.addr && epoch < route.epoch
  }

  /** Only the owner that was asked last is believed: an older one's error may be followed by a stored replay. */
  function current(link: WorkerLink, l: Letter['label']): Entry | undefined {
    const entry = pending.get(l)
    return entry?.sent?.link === link ? entry : undefined
  }

  function answered(link: WorkerLink, { label: l, body }: Letter): void {
    loadOf(link).load.answered(clock.mono())
    const entry = current(link, l)
    if (!entry) {
      if (loose.has(l.attempt) || looseBefore.has(l.attempt)) sink.answer(l, body)
      return
    }
    if ((l.flags & letterFlags.restart) !== 0) entry.pair.needsRestart = true
    else routes.settled(entry.pair.shard)
    pending.remove(entry)
    if (entry.answer) entry.answer(body)
    else sink.answer(l, body, entry.command.note)
    pump(entry.pair)
  }

  function replayed(link: WorkerLink, { label: l, body }: Letter): void {
    const entry = current(link, l)
    if (!entry || l.seq <= entry.replayed) return
    entry.replayed = l.seq
    sink.replay(l, body)
  }

  function refused(link: WorkerLink, { label: l, body }: Letter): void {
    const entry = current(link, l)
    if (!entry?.sent) return
    const { pair } = entry
    const { route } = entry.sent
    const { reason, addr } = JSON.parse(Buffer.from(body).toString()) as { reason: string; addr?: string }
    pending.refused(entry, (l.flags & letterFlags.resend) !== 0)
    if (reason === 'expired' && !entry.isDoubtful) {
      pending.remove(entry)
      giveUp(entry, 'it waited too long to be stored')
    }
    metrics.parley_link_reroutes_total.inc()
    if (l.epoch > route.epoch) routes.hint(pair.shard, { addr: addr ?? link.addr, epoch: l.epoch })
    else routes.refuse(pair.shard, route)
    pump(pair)
  }

  function moved(body: Uint8Array): void {
    const { shards } = JSON.parse(Buffer.from(body).toString()) as { shards: [number, string, number][] }
    for (const [shard, addr, epoch] of shards) if (addr !== '') routes.hint(shard, { addr, epoch })
    routes.refresh()
  }

  return {
    async start(to) {
      sink = to
      const refusedSome = () => routes.refresh()
      const linkOf = (shard: number) => {
        const route = routes.get(shard)
        const link = route && links.at(route.addr)
        return link?.hasRoom ? link : undefined
      }
      attachments = createAttachments({ clock, linkOf, refused: refusedSome }, to)
      await routes.start()
      ticker = setInterval(tick, tickMs)
    },
    command(command) {
      if (!command.durable && sendFleeting(command)) return { taken: true }
      if (command.isSend && isBehind(command.conversation)) return { taken: false, reason: 'gateway' }
      const taken = pending.add(command)
      if (taken.entry) pump(taken.entry.pair)
      return taken.taken ? { taken: true } : taken
    },
    request(command, timeoutMs) {
      return new Promise(resolve => {
        const asked = { ...command, socket: 0, readAt: clock.mono() }
        const answer = (frame: Uint8Array) => {
          clearTimeout(timer)
          resolve(Buffer.from(frame).toString())
        }
        const taken = pending.add(asked, answer)
        const timer = setTimeout(() => {
          const entry = taken.entry
          if (!entry) return
          pending.remove(entry)
          if (entry.sent || entry.isDoubtful) resolve(undefined)
          else giveUp(entry, 'no owner could be reached in time')
        }, timeoutMs)
        if (taken.entry) pump(taken.entry.pair)
        else {
          const failure = {
            code: 'OVERLOADED',
            message: 'too much is waiting',
            retryAfterMs: unavailableRetryMs,
          } as const
          answer(failureFrame(asked.body, asked.conversation, clock.now(), failure, asked.trace))
        }
      })
    },
    attach: items => attachments.attach(items),
    detach: conversation => attachments.detach(conversation),
    closeSocket: socket => pending.closeSocket(socket),
    isReady: () => !reach.isCutOff() && (links.all().some(link => link.isUp) || routes.isComplete()),
    isCutOff: () => reach.isCutOff(),
    pending: () => ({ letters: pending.letters, bytes: pending.bytes }),
    async close() {
      isClosed = true
      clearInterval(ticker)
      routes.close()
      attachments?.close()
      links.close()
    },
  }
}
