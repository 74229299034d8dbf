/** What the doubles of production's edges reach: network, database, listeners, the script of the assistant's model. */
import type { EventEmitter } from 'node:events'
import type { Kernel, Proc } from './kernel.ts'
import type { Net } from './network.ts'
import type { PostgresServer } from './postgres-server.ts'

/** What listens at an address: takes a stream for a method, and the message with which the stream came. */
export interface Listening {
  accept(path: string, stream: EventEmitter): void
  replay(end: unknown, data: Buffer): void
}

export interface Services {
  kernel: Kernel
  net: Net
  postgres: PostgresServer
  /** The process and the server that listen at an address. */
  listeners: Map<string, { proc: Proc; server: Listening }>
}

let current: Services | undefined

export function services(): Services {
  if (!current) throw new Error('no simulated world')
  return current
}

export function setServices(to: Services): void {
  current = to
}
