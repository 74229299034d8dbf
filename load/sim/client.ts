/**
 * A person with the web app open: production's own connection shell and machine, and under it one fold per conversation as
 * the app keeps it. Does what the run's chance says. Refuses to repair what it is given: a hole is a finding.
 */
import type { DurableFrame, ServerFrame } from '#protos/catalogue.ts'
import { emptyTimeline, foldDelta, foldFact, foldJoined, type Timeline } from '#protos/timeline.ts'
import { Connection, type ConnectionOwner } from '../../web/wire/connection.ts'
import type { WireEffect, WireEvent } from '../../web/wire/wire.ts'
import { type Kernel, Proc } from './kernel.ts'
import { SimWebSocket } from './socket.ts'

/** Reads a conversation by REST from where a gateway stands: frames after a position; rejects when it cannot. */
export type ReadHistory = (conversation: string, after: number) => Promise<DurableFrame[]>

export interface Outgoing {
  conversationId: string
  clientMessageId: string
  content: string
  type: 'message.send' | 'chat.send'
}

export class SimClient {
  readonly user: string
  readonly proc: Proc
  readonly timelines = new Map<string, Timeline>()
  /** Conversations that the server says it is a member of. */
  readonly members = new Set<string>()
  /** Sends without an answer yet. */
  readonly unanswered = new Map<string, Outgoing>()
  readonly recent: Outgoing[] = []
  isReady = false
  isOffline = false
  readonly #kernel: Kernel
  readonly #read: ReadHistory
  #connection: Connection | undefined
  #sent = 0

  constructor(kernel: Kernel, name: string, user: string, read: ReadHistory) {
    this.#kernel = kernel
    this.#read = read
    this.user = user
    this.proc = new Proc(name)
  }

  start(): void {
    this.#as(() => {
      const owner: ConnectionOwner = {
        refresh: async () => ({ token: this.token }),
        effect: effect => this.#effect(effect),
        changed: line => {
          this.isReady = line.phase === 'ready'
        },
      }
      this.#connection = new Connection('ws://any/ws', owner)
      this.#connection.tell({ type: 'start', token: this.token })
    })
  }

  get token(): string {
    return `${this.user} ${this.user}`
  }

  send(conversationId: string, type: Outgoing['type']): void {
    this.#as(() => {
      const clientMessageId = this.#kernel.id()
      const content = `${this.proc.name} says ${++this.#sent}`
      const letter = { type, conversationId, clientMessageId, content }
      this.unanswered.set(clientMessageId, letter)
      this.recent.push(letter)
      if (this.recent.length > 10) this.recent.shift()
      this.#kernel.note(`${this.proc.name} sends ${clientMessageId.slice(-6)} to ${conversationId.slice(-4)}`)
      this.#connection!.tell({ type: 'send', letter })
    })
  }

  read(conversationId: string): void {
    const seq = this.timelines.get(conversationId)?.head ?? 0
    if (seq > 0) this.#as(() => this.#say({ type: 'receipt.read', conversationId, seq }))
  }

  type(conversationId: string): void {
    this.#as(() => this.#say({ type: 'typing.start', conversationId }))
  }

  stop(conversationId: string): void {
    const answer = this.timelines.get(conversationId)?.answers[0]
    if (answer) this.#as(() => this.#say({ type: 'chat.stop', conversationId, messageId: answer.messageId }))
  }

  offline(): void {
    this.isOffline = true
    this.#as(() => this.#connection!.tell({ type: 'offline' }))
  }

  online(): void {
    this.isOffline = false
    this.#as(() => this.#connection!.tell({ type: 'online' }))
  }

  /** The network drops the socket under it. */
  cut(): void {
    this.#as(() => {
      for (const socket of SimWebSocket.open) if (socket.proc === this.proc) socket.cut()
    })
  }

  /** Another device of the same user sends the same message through another gateway. */
  duplicate(letter: Outgoing, gateway: string): void {
    this.#as(() => {
      const socket = new SimWebSocket(`ws://${gateway}/ws`, ['parley.v1', `bearer.${this.token}`])
      socket.onmessage = ({ data }) => {
        if (!data.startsWith('{"type":"ready"')) return
        socket.send(JSON.stringify({ ...letter, requestId: letter.clientMessageId }))
        setTimeout(() => socket.close(), 4000)
      }
    })
  }

  #as(run: () => void): void {
    this.#kernel.at(this.proc, 0, run)
  }

  #say(frame: Extract<WireEvent, { type: 'say' }>['frame']): void {
    this.#connection!.tell({ type: 'say', frame })
  }

  #effect(effect: Exclude<WireEffect, { type: 'open' | 'close' | 'write' | 'refresh' }>): void {
    switch (effect.type) {
      case 'deliver':
        this.#deliver(effect.frame)
        return
      case 'stored':
      case 'refused':
        this.unanswered.delete(effect.letter.clientMessageId)
        return
      case 'ended':
        this.#kernel.broken(`${this.proc.name} was told not to come back: ${effect.code}`)
        return
      case 'held':
        return
      default:
        effect satisfies never
    }
  }

  #deliver(frame: ServerFrame): void {
    switch (frame.type) {
      case 'ready': {
        const ids = [...frame.conversations, ...frame.others].map(c => c.id)
        for (const id of this.members) if (!ids.includes(id)) this.#leave(id)
        for (const id of ids) this.#enter(id)
        return
      }
      case 'conversation.added':
        // Also for one that it knows: numbering on this socket begins anew, what lies before comes with a join.
        this.members.delete(frame.conversationId)
        return this.#enter(frame.conversationId)
      case 'conversation.removed':
        return this.#leave(frame.conversationId)
      case 'error':
        // Without the replay what is pushed continues nothing; whoever is added again is told so.
        if (frame.code === 'NOT_FOUND' && frame.requestId?.startsWith('join:')) this.#leave(frame.conversationId!)
        return
      case 'resync_required':
        return void this.#resync(frame.conversationId)
      case 'room.joined':
        return this.#fold(frame.conversationId, t => foldJoined(t, frame))
      case 'chat.stream':
        return this.#fold(frame.conversationId, t => foldDelta(t, frame))
      case 'chat.queued':
      case 'chat.done':
      case 'typing':
      case 'receipt.updated':
      case 'presence':
      case 'ack':
      case 'pong':
      case 'server.draining':
        return
      default:
        this.#fold(frame.conversationId, t => {
          const folded = foldFact(t, frame)
          if ('timeline' in folded) return folded.timeline
          const { after, got } = folded.hole
          this.#kernel.broken(`R3 ${this.proc.name}: ${frame.conversationId} went from ${after} to ${got}`)
          return t
        })
    }
  }

  /** Joins from what is folded already: the rest comes with the replay. */
  #enter(id: string): void {
    if (this.members.has(id)) return
    this.members.add(id)
    queueMicrotask(() => {
      const head = this.timelines.get(id)?.head ?? 0
      this.#connection!.tell({ type: 'join', conversationId: id, head })
    })
  }

  #leave(id: string): void {
    this.members.delete(id)
    queueMicrotask(() => this.#connection!.tell({ type: 'leave', conversationId: id }))
  }

  #fold(id: string, change: (t: Timeline) => Timeline): void {
    if (!this.members.has(id)) return
    this.timelines.set(id, change(this.timelines.get(id) ?? emptyTimeline))
  }

  async #resync(id: string): Promise<void> {
    try {
      let timeline = emptyTimeline
      for (const frame of await this.#read(id, 0)) {
        const folded = foldFact(timeline, frame)
        if ('timeline' in folded) timeline = folded.timeline
      }
      if (!this.members.has(id)) return
      this.timelines.set(id, timeline)
      this.#connection!.tell({ type: 'join', conversationId: id, head: timeline.head })
    } catch {
      setTimeout(() => void this.#resync(id), 500)
    }
  }
}
