/**
 * The last questions of a run: the checkers of load/kit over what was recorded and what the model's tables hold, and whether
 * every fold equals a fresh snapshot. Pure but for reading the world.
 */
import { checkEpochs, checkLog, checkOrder, type Row } from '#load/kit/checkers.ts'
import { checkStreams } from '#load/kit/checkers-resume.ts'
import type { DurableFrame } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { emptyTimeline, foldFact, type Timeline } from '#protos/timeline.ts'
import type { World } from './cluster.ts'
import type { ConversationRecord } from './postgres-tables.ts'

function rowsOf(c: ConversationRecord): Row[] {
  return [...c.events.values()]
    .sort((a, b) => a.seq - b.seq)
    .map(e => ({
      ...{ conversation: c.id, seq: e.seq, kind: e.kind, senderId: e.senderId, clientId: e.clientId },
      ...{ messageId: e.messageId, content: (JSON.parse(e.body) as { content?: string }).content, epoch: e.epoch },
    }))
}

/** C1, C2, C3, C4, C6, C7. */
export function checkSafety(world: World): string[] {
  const { recorder, postgres, rooms } = world
  const { model } = postgres
  const rows = [...model.conversations.values()].flatMap(rowsOf)
  const restRows = rows.map(({ epoch: _e, clientId: _c, ...row }) => row)
  // The engine's own messages were invoked by no client.
  const answers = rows.filter(r => r.kind === 'message.new' && r.senderId === assistantId)
  const own = answers.map(r => ({
    ...{
      sender: r.senderId,
      connection: 0,
      conversation: r.conversation,
      clientId: r.clientId,
      content: r.content ?? '',
    },
    ...{ invokedAt: 0, outcome: { kind: 'unknown' as const } },
  }))
  const { attempts, deliveries } = recorder.history
  const history = { attempts: [...attempts, ...own], deliveries, joins: [], rows, restRows }
  const acks = attempts.flatMap(a =>
    a.outcome.kind === 'ok' ? [{ conversation: a.conversation, seq: a.outcome.seq, at: a.completedAt! }] : [],
  )
  const complete = new Set(world.clients.map(client => client.proc.name))
  const problems = [
    ...checkLog(history),
    ...checkOrder(history),
    ...checkStreams(recorder.raw, { rows, acks, complete }),
    ...checkEpochs(history),
  ]

  const epochs = new Set(model.history.map(h => `${h.shard} ${h.epoch}`))
  for (const c of model.conversations.values()) {
    for (const e of c.events.values()) {
      if (!epochs.has(`${c.shard} ${e.epoch}`))
        problems.push(`C7 ${c.id}: ${e.seq} has epoch ${e.epoch}, which its shard never had`)
    }
  }
  const finals = new Map(answers.map(r => [r.messageId, r.content ?? '']))
  for (const s of recorder.streams) {
    const final = finals.get(s.answerId)
    if (final === undefined) problems.push(`C4 connection ${s.connection}: the answer ${s.answerId} never ended`)
    else if (!final.startsWith(s.text))
      problems.push(`C4 connection ${s.connection}: ${s.answerId} is not what was streamed`)
  }
  for (const run of model.runs.values()) {
    const count = answers.filter(r => r.messageId === run['answer_id']).length
    if (count !== 1) problems.push(`C4 the run ${run.id} ended ${count} times`)
  }
  for (const id of rooms) {
    for (const m of model.conversations.get(id)?.members.values() ?? []) {
      const told = recorder.announced.get(`${id} ${m.userId}`) ?? 0
      const { head } = model.conversations.get(id)!
      if (m.readSeq > head) problems.push(`C6 ${id}: ${m.userId} has read ${m.readSeq} of ${head}`)
      void told
    }
  }
  return problems
}

/** What is not finished yet; nothing of it may stay open for long after everything was healed. */
export function openWork(world: World): string[] {
  const { clients, postgres, gateways, rooms } = world
  const open: string[] = []
  for (const id of rooms) if (!postgres.model.conversations.has(id)) open.push(`${id} was not created`)
  for (const client of clients) {
    const name = client.proc.name
    if (!client.isReady) open.push(`${name} is not ready`)
    if (client.unanswered.size > 0) open.push(`${name} waits for ${client.unanswered.size} answers`)
    for (const c of postgres.model.conversations.values()) {
      const head = client.timelines.get(c.id)?.head ?? 0
      if (c.members.has(client.user) && head < c.head) open.push(`${name} has ${head} of ${c.head} in ${c.id}`)
    }
  }
  for (const run of postgres.model.runs.values())
    if (run.status !== 'ended') open.push(`the run ${run.id} is ${run.status}`)
  for (const gateway of gateways) {
    const letters = gateway.running?.engine.pending().letters ?? 0
    if (letters > 0) open.push(`${gateway.name} holds ${letters} letters`)
  }
  return open
}

/** Every client's view against a fold of the whole log. */
export function differences({ clients, postgres }: World): string[] {
  const out: string[] = []
  for (const c of postgres.model.conversations.values()) {
    let fresh = emptyTimeline
    for (const e of [...c.events.values()].sort((a, b) => a.seq - b.seq)) {
      const frame = {
        ...{ type: e.kind, conversationId: c.id, seq: e.seq, ts: new Date(e.at).toISOString() },
        ...(JSON.parse(e.body) as object),
      } as DurableFrame
      const folded = foldFact(fresh, frame)
      if ('timeline' in folded) fresh = folded.timeline
    }
    const wanted = plain(fresh)
    for (const client of clients) {
      if (!c.members.has(client.user)) continue
      const view = client.timelines.get(c.id)
      const got = plain(view ?? emptyTimeline)
      if (got !== wanted) out.push(`FOLD ${client.proc.name} sees another ${c.id}\n  ${got}\n  ${wanted}`)
    }
  }
  return out
}

/** jsonb keeps no order of keys. */
function plain(t: Timeline): string {
  return JSON.stringify(t, (_key, value: unknown) => {
    if (value instanceof Map) return [...value].sort()
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    return Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)))
  })
}
