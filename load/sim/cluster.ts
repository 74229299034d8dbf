/** The parts of one simulated cluster, as faults and checks reach them. Holds no behaviour. */
import type { SimClient } from './client.ts'
import type { EngineNode } from './engine-node.ts'
import type { GatewayNode } from './gateway-node.ts'
import type { Kernel } from './kernel.ts'
import type { Net } from './network.ts'
import type { Plan } from './plan.ts'
import type { PostgresServer } from './postgres-server.ts'
import type { Recorder } from './recorder.ts'

export interface World {
  plan: Plan
  kernel: Kernel
  net: Net
  postgres: PostgresServer
  engines: EngineNode[]
  gateways: GatewayNode[]
  clients: SimClient[]
  recorder: Recorder
  /** Ids of the plan's rooms. */
  rooms: string[]
}
