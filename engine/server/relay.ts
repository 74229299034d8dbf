/**
 * What a worker does with each letter of a gateway: checks label, epoch and order, hands commands to the actors, keeps the
 * interest table. Implements the actors' Refuser. Refuses to read a command's body beyond naming its request in an error.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Actors, Delivery, Directory, Fanout, Refuser } from '#engine/actor/ports.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { LetterSink } from '#engine/ops/letter-writer.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import type { Failure } from '#protos/errors.ts'
import { failureFrame } from '#protos/failure.ts'
import { nilId } from '#protos/ids.ts'
import { type Label, type Letter, LetterError, label, letterFlags, letterKinds, readBatch } from '#protos/letter.ts'
import { crowdedLookMs, linksPerWorkerMax, yieldMsMax } from '#protos/limits.ts'
import { type Hello, linkVersion } from '#protos/link.ts'
import { shardOf } from '#protos/shard.ts'
import { type Attach, readAttach, readDetach, readHello } from './bodies.ts'
import { createFanout, type LinkTable } from './fanout.ts'
import { GatewayLink } from './gateway-link.ts'
import { Interest } from './interest.ts'
import { isOrdered, type Refusal } from './order.ts'

export interface RelayDeps {
  clock: Clock
  log: Log
  metrics: Metrics
  directory: Pick<Directory, 'heads'>
  /** The epoch under which this worker holds a shard now, or undefined. */
  epochOf(shard: number): number | undefined
  nodeId: string
  incarnation: string
  worker: number
  /** Many sends wait for this worker: what nobody waits for lets them pass. Never when not given. */
  isCrowded?(): boolean
}

/** A new owner, as far as it is known; `addr` '' when it is not. */
export interface Moved {
  shard: number
  addr: string
  epoch: number
}

/** What the relay needs of the actors. */
type Served = Pick<Actors, 'deliver'> & Partial<Pick<Actors, 'headOf'>>

export interface Relay extends Refuser {
  readonly fanout: Fanout
  /** Who takes the commands. Before this every command is refused. */
  serve(actors: Served): void
  /** A gateway's stream opened; undefined when there are too many. */
  open(sink: LetterSink): GatewayLink | undefined
  /** One gRPC message of a link. Throws LetterError when it cannot be read: the link must end. */
  receive(link: GatewayLink, bytes: Uint8Array): void
  gone(link: GatewayLink): void
  /** The shards are not this worker's any more: forgets their watchers and tells every gateway. */
  moved(shards: readonly Moved[]): void
  readonly links: number
}

/** Of one attach: what is watched now, from where, and what is not. */
interface Watched {
  asked: Map<string, number>
  refused: string[]
}

/** A retry sooner would meet the same queue; about the time that a full mailbox takes to empty. */
const overloadRetryMs = 500
/** An attach of so many conversations is a takeover's, and the sends that it held up are right behind it. */
const manyHeadsMin = 100
const text = new TextEncoder()
const json = (value: unknown) => text.encode(JSON.stringify(value))

export function createRelay(deps: RelayDeps): Relay {
  const { clock, log, metrics } = deps
  const epochOf = (shard: number) => deps.epochOf(shard)
  const links: LinkTable = new Map()
  const interest = new Interest<GatewayLink>()
  const fanout = createFanout(links, interest)
  const successors = new Map<number, Moved>()
  const attaching = new WeakMap<GatewayLink, Promise<void>>()
  let actors: Served | undefined
  let lastLinkId = 0

  /** Back to the gateway, to be routed and sent again. */
  function giveBack(link: GatewayLink, l: Label, reason: 'not_owner' | 'behind' | 'busy', mayBeStored: boolean): void {
    if (isOrdered(l)) link.order.refuse(l, { kind: 'epoch' })
    metrics.parley_refusals_total.inc({ reason })
    const ours = epochOf(l.shard)
    const next = ours === undefined ? successors.get(l.shard) : undefined
    link.answer(
      label(letterKinds.refused, {
        flags: mayBeStored ? letterFlags.resend : 0,
        shard: l.shard,
        epoch: ours ?? next?.epoch ?? 0,
        attempt: l.attempt,
        socket: l.socket,
        conversation: l.conversation,
      }),
      json({ reason, ...(next?.addr ? { addr: next.addr } : {}) }),
    )
  }

  function refuseLoad(link: GatewayLink, delivery: Delivery, refusal: Refusal & { kind: 'load' }): void {
    const l = delivery.label
    // An earlier copy of it may be stored: an error would be a lie. It goes back and comes again.
    if ((l.flags & letterFlags.resend) !== 0) {
      giveBack(link, l, 'busy', true)
      return
    }
    if (isOrdered(l)) link.order.refuse(l, refusal)
    metrics.parley_refusals_total.inc({ reason: refusal.code.toLowerCase() })
    link.answer(
      label(letterKinds.answer, {
        flags: letterFlags.restart,
        attempt: l.attempt,
        socket: l.socket,
        conversation: l.conversation,
      }),
      failureFrame(
        delivery.body,
        l.conversation,
        clock.now(),
        {
          code: refusal.code,
          message: refusal.code === 'UNAVAILABLE' ? 'it cannot be stored now' : 'too much is waiting, try again later',
          retryAfterMs: refusal.retryAfterMs,
        },
        l.trace,
      ),
    )
  }

  function refuse(link: GatewayLink, { label: l, body }: Letter, failure: Failure): void {
    const what = label(letterKinds.answer, { attempt: l.attempt, socket: l.socket, conversation: l.conversation })
    link.answer(what, failureFrame(body, l.conversation || nilId, clock.now(), failure, l.trace))
  }

  function command(link: GatewayLink, letter: Letter, arrivedAt: number): void {
    const l = letter.label
    const delivery: Delivery = { label: l, body: letter.body, origin: link, arrivedAt }
    if (l.principal === '' || l.attempt === '') {
      metrics.parley_bad_commands_total.inc()
      refuse(link, letter, { code: 'SERVER', message: 'a command without principal or attempt' })
      return
    }
    // A client may name the nil id, which a label does not tell from none: no conversation has it.
    if (l.conversation === '') {
      refuse(link, letter, { code: 'NOT_FOUND', message: 'no such conversation' })
      return
    }
    const behind = isOrdered(l) ? link.order.arrive(l) : undefined
    const epoch = epochOf(l.shard)
    if (behind?.kind === 'epoch') giveBack(link, l, 'behind', false)
    else if (behind?.kind === 'load') refuseLoad(link, delivery, behind)
    else if (actors === undefined || epoch === undefined || epoch !== l.epoch || shardOf(l.conversation) !== l.shard) {
      giveBack(link, l, 'not_owner', false)
    } else if (link.isClogged || !actors.deliver(delivery)) {
      refuseLoad(link, delivery, { kind: 'load', code: 'OVERLOADED', retryAfterMs: overloadRetryMs })
    }
  }

  /** Interest first, heads afterwards: a fact committed in between is pushed, one before is in the heads. */
  function watch(link: GatewayLink, items: Attach): Watched {
    const refused: string[] = []
    const asked = new Map<string, number>()
    for (const [conversation, lastSeq] of items) {
      const shard = shardOf(conversation)
      if (epochOf(shard) !== undefined && interest.add(shard, conversation, link)) asked.set(conversation, lastSeq)
      else refused.push(conversation)
    }
    metrics.parley_interest.set(interest.size)
    return { asked, refused }
  }

  async function tellHeads(link: GatewayLink, attempt: string, { asked, refused }: Watched): Promise<void> {
    const heads: [string, number][] = []
    // After a takeover every gateway asks for everything, before the sends that waited. What is committed from now on is
    // pushed; heads heal what was lost before. They wait for those sends, and most conversations are in memory then.
    let isWaiting = asked.size >= manyHeadsMin || deps.isCrowded?.() === true
    for (const until = clock.mono() + yieldMsMax; isWaiting && clock.mono() < until && !link.isClosed; ) {
      await sleep(crowdedLookMs)
      isWaiting = deps.isCrowded?.() === true
    }
    const unknown: string[] = []
    for (const [conversation, last] of asked) {
      const head = epochOf(shardOf(conversation)) === undefined ? undefined : actors?.headOf?.(conversation)
      if (head === undefined) unknown.push(conversation)
      else if (head !== last) heads.push([conversation, head])
    }
    try {
      const found = unknown.length === 0 ? undefined : await deps.directory.heads(unknown)
      for (const [conversation, { head, epoch }] of found ?? []) {
        // Under another epoch than ours the head may be old news: the gateway asks the next owner.
        if (epoch !== epochOf(shardOf(conversation))) refused.push(conversation)
        else if (head !== asked.get(conversation)) heads.push([conversation, head])
      }
    } catch (error) {
      log.warn('heads could not be read for an attach', { count: unknown.length, err: error })
      refused.push(...unknown)
    }
    if (link.isClosed) return
    link.answer(label(letterKinds.attached, { attempt }), json({ heads, refused }))
  }

  function detach(link: GatewayLink, conversations: readonly string[]): void {
    for (const conversation of conversations) interest.remove(shardOf(conversation), conversation, link)
    metrics.parley_interest.set(interest.size)
  }

  function greet(link: GatewayLink, hello: Hello): void {
    link.nodeId = hello.nodeId
    const { nodeId, incarnation, worker } = deps
    const own: Hello = { version: linkVersion, nodeId, role: 'engine', incarnation, worker }
    link.signal(label(letterKinds.hello), json(own))
  }

  function take(link: GatewayLink, letter: Letter, arrivedAt: number): void {
    const { kind, attempt, seq, age } = letter.label
    if (!link.isGreeted) {
      if (kind !== letterKinds.hello) throw new LetterError('no hello')
      greet(link, readHello(letter.body))
      return
    }
    if (kind === letterKinds.credit) {
      link.credit(seq, age)
      return
    }
    link.read(letter)
    if (kind === letterKinds.command) command(link, letter, arrivedAt)
    else if (kind === letterKinds.detach) detach(link, readDetach(letter.body))
    else if (kind === letterKinds.attach) {
      // At once, so that a detach that comes behind it takes it back.
      const watched = watch(link, readAttach(letter.body))
      // Heads for one attach of a link at a time: a reconnecting gateway sends many, and the pool has few connections.
      const before = attaching.get(link) ?? Promise.resolve()
      const next = before.then(() => (link.isClosed ? undefined : tellHeads(link, attempt, watched)))
      attaching.set(link, next)
    } else throw new LetterError(`kind ${kind} does not come from a gateway`)
  }

  return {
    fanout,
    get links() {
      return links.size
    },
    serve(to) {
      actors = to
    },
    open(sink) {
      if (links.size >= linksPerWorkerMax) return undefined
      const link = new GatewayLink(++lastLinkId, sink, metrics)
      links.set(link.linkId, link)
      metrics.parley_links.set(links.size)
      return link
    },
    receive(link, bytes) {
      const letters = readBatch(bytes)
      const arrivedAt = clock.mono()
      metrics.parley_link_batches_total.inc({ direction: 'up' })
      metrics.parley_link_letters_total.inc({ direction: 'up' }, letters.length)
      for (const letter of letters) take(link, letter, arrivedAt)
    },
    gone(link) {
      if (!links.delete(link.linkId)) return
      link.close()
      interest.dropLink(link)
      metrics.parley_interest.set(interest.size)
      metrics.parley_links.set(links.size)
    },
    moved(shards) {
      for (const to of shards) {
        interest.dropShard(to.shard)
        if (to.addr === '') successors.delete(to.shard)
        else successors.set(to.shard, to)
      }
      metrics.parley_interest.set(interest.size)
      const body = json({ shards: shards.map(to => [to.shard, to.addr, to.epoch]) })
      for (const link of links.values()) if (link.isGreeted) link.answer(label(letterKinds.moved), body)
    },
    notOwner(delivery) {
      const link = links.get(delivery.origin.linkId)
      if (link) giveBack(link, delivery.label, 'not_owner', true)
    },
    overloaded(delivery, code, retryAfterMs) {
      const link = links.get(delivery.origin.linkId)
      if (link) refuseLoad(link, delivery, { kind: 'load', code, retryAfterMs })
    },
  }
}
