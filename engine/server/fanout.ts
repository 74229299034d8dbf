/**
 * Where acks and facts leave a worker: each fact once to each gateway that watches the conversation, all of one turn in one
 * gRPC message per gateway. Refuses to wait for anybody.
 */
import type { Fanout, Origin } from '#engine/actor/ports.ts'
import type { Label } from '#protos/letter.ts'
import { shardOf } from '#protos/shard.ts'
import type { GatewayLink } from './gateway-link.ts'
import type { Interest } from './interest.ts'

/** The open links of a worker, by number. */
export type LinkTable = Map<number, GatewayLink>

export function createFanout(links: LinkTable, interest: Interest<GatewayLink>): Fanout {
  return {
    answer(to: Origin, label: Label, body: Uint8Array) {
      links.get(to.linkId)?.answer(label, body)
    },
    publish(label: Label, body: Uint8Array) {
      const watching = interest.of(shardOf(label.conversation), label.conversation)
      if (watching === undefined) return
      for (const link of watching) link.publish(label, body)
    },
    toUser(label: Label, body: Uint8Array) {
      for (const link of links.values()) if (link.isGreeted) link.publish(label, body)
    },
  }
}
