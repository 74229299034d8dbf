/** The gRPC service between gateways and workers, as grpc-js wants it: raw bytes both ways (link.proto says why). */
import type { MethodDefinition } from '@grpc/grpc-js'

/** Moves when a letter's meaning changes; a peer one version older must still be understood. */
export const linkVersion = 1

const raw = (bytes: Buffer) => bytes

const stream = {
  requestStream: true,
  responseStream: true,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw,
} as const

export const linkService = {
  link: { path: '/parley.link.v1.LinkService/Link', ...stream } satisfies MethodDefinition<Buffer, Buffer>,
  /** The same stream to another worker, named by its address in the metadata, passed on byte for byte. */
  relay: { path: '/parley.link.v1.LinkService/Relay', ...stream } satisfies MethodDefinition<Buffer, Buffer>,
}
/** Metadata of `relay`: host:port as the route map has it. */
export const relayTarget = 'parley-target'

/** The standard health check; SERVING is the two bytes 08 01 (field 1, value 1). */
export const healthService = {
  check: {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  } satisfies MethodDefinition<Buffer, Buffer>,
}
export const healthServing = Buffer.from([0x08, 0x01])
export const healthNotServing = Buffer.from([0x08, 0x02])

/** The first letter's body, both ways. */
export interface Hello {
  version: number
  nodeId: string
  role: 'gateway' | 'engine'
  incarnation?: string
  worker?: number
}
