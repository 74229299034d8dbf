/**
 * Which conversations this gateway watches, and at which owner each was last asked for. Asks again, in batches, whenever a
 * link came up, a shard moved or a link fell behind; the hub's position then says what is missing. Never gives up.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { type Letter, label, letterKinds } from '#protos/letter.ts'
import { attachItemsMax, linkBackoffMaxMs, shardCount } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import type { WorkerLink } from './link.ts'
import type { EngineSink } from './port.ts'

export interface AttachmentsDeps {
  clock: Clock
  /** The link to a shard's owner, if it is up and has room now. */
  linkOf(shard: number): WorkerLink | undefined
  /** Owners refused some: read the route map soon. */
  refused(): void
}

export interface Attachments {
  attach(items: readonly (readonly [conversation: string, lastSeq: number])[]): void
  detach(conversation: string): void
  /** Everything of these shards has to be asked for again. */
  renew(shards: Iterable<number>): void
  /** A link has room, or a route is known: ask for what waits. */
  flush(): void
  /** The same at once: what is sent after this finds the interest there. */
  flushNow(): void
  attached(letter: Letter): void
  linkDown(link: WorkerLink): void
  readonly size: number
  close(): void
}

const text = new TextEncoder()

export function createAttachments(deps: AttachmentsDeps, sink: Pick<EngineSink, 'head' | 'position'>): Attachments {
  /** By shard: conversation → the seq to ask from at first; −1: ask the hub. */
  const watched: Map<string, number>[] = Array.from({ length: shardCount }, () => new Map())
  const waiting: Set<string>[] = Array.from({ length: shardCount }, () => new Set())
  const leaving: Set<string>[] = Array.from({ length: shardCount }, () => new Set())
  const asked = new Map<string, { link: WorkerLink; conversations: string[] }>()
  const busy = new Set<number>()
  let isScheduled = false
  let retry: NodeJS.Timeout | undefined
  let size = 0

  function schedule(): void {
    if (isScheduled) return
    isScheduled = true
    setImmediate(flush)
  }

  function flush(): void {
    isScheduled = false
    const attach = new Map<WorkerLink, [string, number][]>()
    const detach = new Map<WorkerLink, string[]>()
    for (const shard of busy) {
      const link = deps.linkOf(shard)
      if (link === undefined) continue
      for (const conversation of leaving[shard]!) push(detach, link, conversation, sendDetach)
      leaving[shard]!.clear()
      for (const conversation of waiting[shard]!) {
        if (!link.hasRoom) break
        const first = watched[shard]!.get(conversation)
        waiting[shard]!.delete(conversation)
        if (first === undefined) continue
        watched[shard]!.set(conversation, -1)
        push(attach, link, [conversation, first >= 0 ? first : sink.position(conversation)], sendAttach)
      }
      if (waiting[shard]!.size === 0) busy.delete(shard)
    }
    for (const [link, items] of detach) sendDetach(link, items)
    for (const [link, items] of attach) sendAttach(link, items)
  }

  function sendAttach(link: WorkerLink, items: [string, number][]): void {
    const attempt = deps.clock.id()
    asked.set(attempt, { link, conversations: items.map(([conversation]) => conversation) })
    link.send(label(letterKinds.attach, { attempt }), text.encode(JSON.stringify({ items })))
  }

  function sendDetach(link: WorkerLink, items: string[]): void {
    link.send(label(letterKinds.detach), text.encode(JSON.stringify({ items })))
  }

  function wait(conversation: string, shard: number): void {
    waiting[shard]!.add(conversation)
    leaving[shard]!.delete(conversation)
    busy.add(shard)
  }

  return {
    get size() {
      return size
    },
    attach(items) {
      for (const [conversation, lastSeq] of items) {
        const shard = shardOf(conversation)
        if (watched[shard]!.has(conversation)) continue
        watched[shard]!.set(conversation, lastSeq)
        size++
        wait(conversation, shard)
      }
      schedule()
    },
    detach(conversation) {
      const shard = shardOf(conversation)
      if (!watched[shard]!.delete(conversation)) return
      size--
      waiting[shard]!.delete(conversation)
      leaving[shard]!.add(conversation)
      busy.add(shard)
      schedule()
    },
    renew(shards) {
      for (const shard of shards) {
        // A new owner, or a new link, knows of no interest that would have to be taken back.
        leaving[shard]!.clear()
        for (const conversation of watched[shard]!.keys()) wait(conversation, shard)
      }
      schedule()
    },
    flush: schedule,
    flushNow: flush,
    attached(letter) {
      const batch = asked.get(letter.label.attempt)
      if (batch === undefined) return
      asked.delete(letter.label.attempt)
      const { heads, refused } = JSON.parse(Buffer.from(letter.body).toString()) as {
        heads: [string, number][]
        refused: string[]
      }
      for (const [conversation, head] of heads) {
        if (watched[shardOf(conversation)]!.has(conversation)) sink.head(conversation, head)
      }
      if (refused.length === 0) return
      deps.refused()
      for (const conversation of refused) {
        const shard = shardOf(conversation)
        if (watched[shard]!.has(conversation)) wait(conversation, shard)
      }
      // Not at once: the owner is still changing, or its database is away. A changed route asks sooner.
      retry ??= setTimeout(
        () => {
          retry = undefined
          flush()
        },
        linkBackoffMaxMs * (0.2 + deps.clock.random() * 0.3),
      )
    },
    linkDown(link) {
      for (const [attempt, batch] of asked) if (batch.link === link) asked.delete(attempt)
    },
    close() {
      clearTimeout(retry)
      busy.clear()
    },
  }
}

/** Gathers per link and sends a full batch at once. */
function push<T>(
  to: Map<WorkerLink, T[]>,
  link: WorkerLink,
  item: T,
  send: (link: WorkerLink, items: T[]) => void,
): void {
  const items = to.get(link) ?? []
  items.push(item)
  to.set(link, items)
  if (items.length < attachItemsMax) return
  to.delete(link)
  send(link, items)
}
