/**
 * How a gateway leaves: clients are told when to come back, sends are served meanwhile, then sockets close in batches, all
 * within 10 s. Refuses to wait for clients that do not go.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '#engine/ops/clock.ts'
import { closeBatchMs, closeBatchSockets, drainMsMax } from '#protos/limits.ts'
import type { Connection } from './connection.ts'
import { frameText } from './framing.ts'

/** Time at the end for the batches and for acks under way. */
const tailMs = 3000
const lookMs = 50

export async function drainSockets(
  open: ReadonlyMap<number, Connection>,
  spreadMs: number,
  clock: Clock,
): Promise<void> {
  const start = clock.mono()
  for (const connection of open.values()) {
    if (connection.session.phase !== 'live') continue
    const reconnectInMs = Math.floor(clock.random() * (spreadMs + 1))
    const ts = new Date(clock.now()).toISOString()
    connection.outbox.control(frameText(JSON.stringify({ type: 'server.draining', ts, reconnectInMs })))
  }
  const serveMs = Math.min(spreadMs, drainMsMax - tailMs)
  while (open.size > 0 && clock.mono() - start < serveMs) await sleep(lookMs)
  let inBatch = 0
  for (const connection of open.values()) {
    connection.end(1012)
    if (++inBatch % closeBatchSockets === 0) await sleep(closeBatchMs)
  }
  while (open.size > 0 && clock.mono() - start < drainMsMax - 500) await sleep(lookMs)
  for (const connection of open.values()) connection.ws.terminate()
}
