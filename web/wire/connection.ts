/**
 * The thin shell around the connection machine: one WebSocket and one timer.
 * Decides nothing; what it cannot do by itself (refresh a token, show a frame) it hands to its owner.
 */
import type { ServerFrame } from '#protos/catalogue.ts'
import { dueAt, transition } from './machine.ts'
import { newWire, type Phase, type Wire, type WireEffect, type WireEvent } from './wire.ts'

export interface ConnectionOwner {
  refresh(): Promise<{ token: string } | { isFinal: boolean }>
  effect(effect: Exclude<WireEffect, { type: 'open' | 'close' | 'write' | 'refresh' }>): void
  changed(line: Line): void
}

/** What the interface shows of the connection. */
export interface Line {
  phase: Phase
  lostAt?: number
  isOffline: boolean
}

export class Connection {
  readonly #owner: ConnectionOwner
  readonly #url: string
  #wire: Wire = newWire
  #socket: WebSocket | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(url: string, owner: ConnectionOwner) {
    this.#url = url
    this.#owner = owner
  }

  tell(event: WireEvent): void {
    const turned = transition(this.#wire, event, { now: performance.now(), random: Math.random() })
    this.#wire = turned.wire
    for (const effect of turned.effects) this.#act(effect)
    this.#schedule()
    const { phase, lostAt, isOffline } = this.#wire
    this.#owner.changed({ phase, isOffline, ...(lostAt === undefined ? {} : { lostAt }) })
  }

  dispose(): void {
    this.tell({ type: 'stop' })
    clearTimeout(this.#timer)
  }

  #act(effect: WireEffect): void {
    switch (effect.type) {
      case 'open':
        this.#open(effect.token)
        return
      case 'close':
        this.#drop()
        return
      case 'write':
        if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(effect.frame))
        return
      case 'refresh':
        void this.#owner
          .refresh()
          .then(answer =>
            this.tell(
              'token' in answer
                ? { type: 'refreshed', token: answer.token }
                : { type: 'refresh_failed', isFinal: answer.isFinal },
            ),
          )
        return
      default:
        this.#owner.effect(effect)
    }
  }

  #open(token: string): void {
    this.#drop()
    const socket = new WebSocket(this.#url, ['parley.v1', `bearer.${token}`])
    this.#socket = socket
    const current = () => this.#socket === socket
    socket.onopen = () => current() && this.tell({ type: 'opened' })
    socket.onmessage = e => current() && this.tell({ type: 'received', frame: JSON.parse(e.data) as ServerFrame })
    socket.onclose = e => {
      if (!current()) return
      this.#socket = undefined
      this.tell({ type: 'closed', code: e.code })
    }
  }

  #drop(): void {
    const socket = this.#socket
    this.#socket = undefined
    socket?.close(1000)
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    const due = dueAt(this.#wire)
    if (due === undefined) return
    this.#timer = setTimeout(() => this.tell({ type: 'woke' }), Math.max(0, due - performance.now()) + 1)
  }
}
