/** What the doubles of production's edges reach: network, database, listeners, the script of the assistant's model. */
import type { Server } from './doubles/grpc.ts'
import type { Kernel, Proc } from './kernel.ts'
import type { Net } from './network.ts'
import type { PostgresServer } from './postgres-server.ts'

export interface Services {
  kernel: Kernel
  net: Net
  postgres: PostgresServer
  /** The process and the server that listen at an address. */
  listeners: Map<string, { proc: Proc; server: Server }>
}

let current: Services | undefined

export function services(): Services {
  if (!current) throw new Error('no simulated world')
  return current
}

export function setServices(to: Services): void {
  current = to
}
