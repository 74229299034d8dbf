/**
 * Commands without an answer: in order per (socket, conversation), within limits, each either held or sent on one link. Keeps
 * what go-back-n needs: which pair stands still, which letter may have reached an owner. Refuses to send; engine.ts does.
 */
import { nilId } from '#protos/ids.ts'
import type { Label } from '#protos/letter.ts'
import {
  holdMs,
  sendsPendingPerConversationMax,
  sendsPendingPerGatewayBytesMax,
  sendsPendingPerSocketBytesMax,
  sendsPendingPerSocketMax,
  shardCount,
} from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import type { WorkerLink } from './link.ts'
import type { CommandIn, Taken } from './port.ts'
import type { Route } from './routes.ts'

export interface Entry {
  readonly command: CommandIn
  readonly pair: Pair
  readonly bytes: number
  /** The link and route that it was sent by; undefined while it is held. */
  sent: { link: WorkerLink; route: Route } | undefined
  wasSent: boolean
  /** It may have reached an owner and be stored: it is never given up, and its id is looked up. */
  isDoubtful: boolean
  /** Highest seq replayed for this join: a second owner begins again at the start. */
  replayed: number
  /** Takes the answer instead of the sink; for commands without a socket. */
  answer?: (frame: Uint8Array) => void
}

/** Entries of one socket and conversation in order; a command that stands alone is a pair of its own. */
export interface Pair {
  readonly conversation: string
  readonly socket: number
  readonly shard: number
  /** Order is kept: a socket's durable commands. False for a command that stands alone. */
  readonly isOrdered: boolean
  /** False for typing and receipts: sent once, then forgotten. */
  readonly isKept: boolean
  entries: Entry[]
  sentCount: number
  /** A refusal came: nothing leaves until all that is under way is answered or refused. */
  isStalled: boolean
  /** The next letter carries the restart mark. */
  needsRestart: boolean
  /** Nothing was added since the last look. */
  isIdle: boolean
}

interface SocketUse {
  letters: number
  bytes: number
  /** In order, by conversation. */
  pairs: Map<string, Pair>
  /** How many commands of it stand alone. */
  alone: number
}

/** What an entry costs beside its body. */
const entryBytes = 256

export class Pending {
  letters = 0
  bytes = 0
  #pairs = new Set<Pair>()
  /**
   * Those that stand alone, by attempt. The others are found by socket and conversation: a map with an entry for each send
   * would be made anew all the time.
   */
  #alone = new Map<string, Entry>()
  #sockets = new Map<number, SocketUse>()
  readonly #lettersOf = new Float64Array(shardCount)
  #shards: Set<Pair>[] = Array.from({ length: shardCount }, () => new Set())

  /** Keeps a command, held. */
  add(command: CommandIn, answer?: (frame: Uint8Array) => void): Taken & { entry?: Entry } {
    const isOrdered = command.socket !== 0 && command.durable
    const bytes = command.body.length + entryBytes
    const use = command.socket === 0 ? undefined : this.#sockets.get(command.socket)
    const known = isOrdered ? use?.pairs.get(command.conversation) : undefined
    if (known && known.entries.length >= sendsPendingPerConversationMax) {
      return { taken: false, reason: 'conversation' }
    }
    if (use && (use.letters >= sendsPendingPerSocketMax || use.bytes + bytes > sendsPendingPerSocketBytesMax)) {
      return { taken: false, reason: 'socket' }
    }
    if (this.bytes + bytes > sendsPendingPerGatewayBytesMax) return { taken: false, reason: 'gateway' }

    const pair = known ?? this.#open(command, isOrdered)
    pair.isIdle = false
    const held = { sent: undefined, wasSent: false, isDoubtful: false, replayed: 0 }
    const entry: Entry = { command, pair, bytes, ...held, ...(answer ? { answer } : {}) }
    pair.entries.push(entry)
    if (!isOrdered) this.#alone.set(command.attempt, entry)
    this.#count(entry, 1)
    return { taken: true, entry }
  }

  /** What a letter from an owner answers. */
  get({ socket, conversation, attempt }: Pick<Label, 'socket' | 'conversation' | 'attempt'>): Entry | undefined {
    // Answers come in the order of the commands: it is the first, most often.
    const pair = this.#sockets.get(socket)?.pairs.get(conversation === '' ? nilId : conversation)
    return pair?.entries.find(e => e.command.attempt === attempt) ?? this.#alone.get(attempt)
  }

  /** Pairs of a shard, in the order in which they came to be. */
  ofShard(shard: number): ReadonlySet<Pair> {
    return this.#shards[shard]!
  }

  /** Letters without an answer of this shard, sent or held. */
  lettersOf(shard: number): number {
    return this.#lettersOf[shard]!
  }

  /** Answered, or given up. */
  remove(entry: Entry): void {
    const { pair } = entry
    const at = pair.entries.indexOf(entry)
    if (at < 0) return
    pair.entries.splice(at, 1)
    if (entry.sent) pair.sentCount--
    this.#count(entry, -1)
    // One in order stays for the next send; `expire` looks after it.
    if (pair.isOrdered) return
    this.#alone.delete(entry.command.attempt)
    this.#close(pair)
  }

  markSent(entry: Entry, link: WorkerLink, route: Route): void {
    entry.sent = { link, route }
    entry.wasSent = true
    entry.pair.sentCount++
  }

  /** The owner would not take it. `mayBeStored`: it had gone further than the label check. */
  refused(entry: Entry, mayBeStored: boolean): void {
    if (!entry.sent) return
    entry.sent = undefined
    entry.isDoubtful ||= mayBeStored
    entry.pair.sentCount--
    entry.pair.isStalled = true
  }

  /**
   * The link of these pairs' letters is gone, or their shard has a new owner: all that was sent is held again. Behind a
   * letter that was refused unread nothing was taken either (go-back-n), so those are not in doubt.
   */
  recall(shards: Iterable<number>, isLost: (link: WorkerLink) => boolean): number {
    let recalled = 0
    for (const shard of shards) {
      for (const pair of this.#shards[shard]!) {
        let isBehindRefusal = false
        for (const entry of pair.entries) {
          if (!entry.sent) isBehindRefusal ||= pair.isStalled && !entry.isDoubtful
          else if (isLost(entry.sent.link)) {
            entry.sent = undefined
            entry.isDoubtful ||= !isBehindRefusal
            pair.sentCount--
            pair.needsRestart = true
            recalled++
          }
        }
      }
    }
    return recalled
  }

  /**
   * Removes what has been held for holdMs and provably reached no owner, with all that waits unsent behind it: a later send
   * must not pass one that was refused. Forgets pairs that nobody used since the last time; one that was refused is
   * remembered until its socket closes, for its next letter must carry the mark.
   */
  expire(mono: number): Entry[] {
    const out: Entry[] = []
    for (const pair of this.#pairs) {
      if (pair.entries.length === 0) {
        if (pair.isIdle && !pair.needsRestart && !pair.isStalled) this.#close(pair)
        pair.isIdle = true
        continue
      }
      const isFree = (e: Entry) => !e.sent && !e.isDoubtful
      const first = pair.entries.findIndex(e => isFree(e) && mono - e.command.readAt >= holdMs)
      if (first >= 0) out.push(...pair.entries.slice(first).filter(isFree))
    }
    for (const entry of out) this.remove(entry)
    return out
  }

  closeSocket(socket: number): void {
    const use = this.#sockets.get(socket)
    if (!use) return
    for (const pair of use.pairs.values()) {
      for (const entry of pair.entries) this.#count(entry, -1)
      pair.entries = []
      this.#close(pair)
    }
    if (use.alone > 0) {
      for (const entry of this.#alone.values()) if (entry.command.socket === socket) this.remove(entry)
    }
    this.#sockets.delete(socket)
  }

  #open(command: CommandIn, isOrdered: boolean): Pair {
    const { conversation, socket, durable } = command
    const shard = shardOf(conversation)
    const pair: Pair = {
      conversation,
      socket,
      shard,
      isOrdered,
      isKept: durable,
      entries: [],
      sentCount: 0,
      isStalled: false,
      needsRestart: false,
      isIdle: false,
    }
    this.#pairs.add(pair)
    this.#shards[shard]!.add(pair)
    if (socket !== 0) {
      const use = this.#sockets.get(socket) ?? { letters: 0, bytes: 0, pairs: new Map(), alone: 0 }
      if (isOrdered) use.pairs.set(conversation, pair)
      else use.alone++
      this.#sockets.set(socket, use)
    }
    return pair
  }

  #close(pair: Pair): void {
    this.#pairs.delete(pair)
    this.#shards[pair.shard]!.delete(pair)
    const use = this.#sockets.get(pair.socket)
    if (!use) return
    if (pair.isOrdered) use.pairs.delete(pair.conversation)
    else use.alone--
    if (use.pairs.size === 0 && use.alone === 0) this.#sockets.delete(pair.socket)
  }

  #count(entry: Entry, sign: 1 | -1): void {
    this.letters += sign
    this.bytes += sign * entry.bytes
    this.#lettersOf[entry.pair.shard]! += sign
    const use = this.#sockets.get(entry.pair.socket)
    if (!use) return
    use.letters += sign
    use.bytes += sign * entry.bytes
  }
}
