/**
 * The engine's end of a hop in a process of its own: the real listener and the real relay, and actors that answer each command at
 * once. Told by IPC how much CPU it has used. Refuses to do anything with a command.
 */
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { openListener } from '#engine/server/listener.ts'
import { createRelay } from '#engine/server/relay.ts'
import { label, letterKinds } from '#protos/letter.ts'

export type FromWorker = { kind: 'listening'; addr: string } | { kind: 'cpu'; us: number } | { kind: 'broken' }

const relay = createRelay({
  clock: systemClock,
  log: silentLog,
  metrics: openMetrics(),
  directory: { heads: async () => new Map() },
  epochOf: () => 1,
  nodeId: 'hop',
  incarnation: systemClock.id(),
  worker: 0,
})
/** As long as an ack with its times and ids. */
const body = Buffer.from(
  `{"type":"ack","conversationId":"${'0'.repeat(36)}","clientMessageId":"${'0'.repeat(36)}","messageId":"${'0'.repeat(36)}","seq":12345,"duplicate":false,"ts":"2026-01-01T00:00:00.000Z"}`,
)
relay.serve({
  deliver({ origin, label: l }) {
    const { attempt, socket, conversation } = l
    relay.fanout.answer(origin, label(letterKinds.answer, { attempt, socket, conversation }), body)
    return true
  },
})
const { addr } = await openListener(relay, silentLog, '127.0.0.1', 0)
const say = (message: FromWorker) => process.send!(message)
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  say({ kind: 'cpu', us: user + system })
})
process.on('disconnect', () => process.exit(0))
say({ kind: 'listening', addr })
