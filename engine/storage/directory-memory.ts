/** The directory on the in-memory log: same answers as on Postgres, by the same contract suite. For tests and simulation. */
import type { Directory, StoredSend } from '#engine/actor/ports.ts'
import { segmentsKeptMs, turnsRunningPerUserMax } from '#protos/limits.ts'
import { frameOf } from './frames.ts'
import { clientKey, type MemoryDatabase, type MemoryEvent } from './log-memory.ts'

export function createMemoryDirectory(database: MemoryDatabase): Directory {
  const sendOf = (conversation: string, event: MemoryEvent): StoredSend => ({
    conversation,
    senderId: event.senderId,
    clientId: event.clientId,
    seq: event.seq,
    messageId: event.messageId,
    kind: event.kind,
    bodyHash: event.bodyHash,
  })
  const openRunsOf = (conversation: string) =>
    [...database.runs.values()].filter(
      run => run.status !== 'ended' && database.conversationOfRun.get(run.id) === conversation,
    )

  return {
    async activate(ids) {
      await turn()
      const found: Awaited<ReturnType<Directory['activate']>> = new Map()
      for (const id of ids) {
        const c = database.conversations.get(id)
        if (!c) continue
        const members = [...c.members.values()]
          .sort((a, b) => a.joinedSeq - b.joinedSeq || (a.userId < b.userId ? -1 : 1))
          .map(({ joinedAt: _joinedAt, ...member }) => member)
        const { kind, title, toolPolicy, createdBy, firstSeq } = c
        found.set(id, {
          id,
          kind,
          title,
          toolPolicy,
          createdBy,
          firstSeq,
          members,
          deleted: c.deletedAt !== null,
          head: database.events.get(id)?.length ?? firstSeq - 1,
          runs: openRunsOf(id)
            .sort((a, b) => a.questionSeq - b.questionSeq)
            .map(({ segments, model: _m, finish: _f, endedAt: _e, bytes: _b, ...run }) => ({
              ...run,
              calls: [...run.calls],
              prefix: [...segments]
                .sort(([a], [b]) => a - b)
                .map(([, text]) => text)
                .join(''),
            })),
          blocks:
            kind === 'dm'
              ? members.flatMap(a => members.map(b => `${a.userId}>${b.userId}`)).filter(p => database.blocks.has(p))
              : [],
        })
      }
      return found
    },

    async blocksBetween(a, b) {
      await turn()
      return [`${a}>${b}`, `${b}>${a}`].filter(pair => database.blocks.has(pair))
    },

    async lookup(keys) {
      await turn()
      return keys.flatMap(key => {
        const known = database.clients.get(clientKey(key.conversation, key.senderId, key.clientId))
        return known ? [sendOf(key.conversation, known.event)] : []
      })
    },

    async messages(keys) {
      await turn()
      return keys.flatMap(({ conversation, messageId }) =>
        (database.events.get(conversation) ?? [])
          .filter(e => e.kind === 'message.new' && e.messageId === messageId)
          .map(e => sendOf(conversation, e)),
      )
    },

    async requesters(keys) {
      await turn()
      return keys.flatMap(key => {
        const runs = [...database.runs.values()].filter(
          r => database.conversationOfRun.get(r.id) === key.conversation && r.calls.some(c => c.callId === key.callId),
        )
        return runs.map(({ requester }) => ({ ...key, requester }))
      })
    },

    async heads(ids) {
      await turn()
      return new Map(
        ids.flatMap(id => {
          const c = database.conversations.get(id)
          if (!c) return []
          const head = database.events.get(id)?.length ?? c.firstSeq - 1
          return [[id, { head, firstSeq: c.firstSeq, epoch: database.epochs.get(c.shard) ?? 0 }]] as const
        }),
      )
    },

    async events(conversation, after, limits) {
      await turn()
      const frames = []
      let bytes = 0
      for (const e of (database.events.get(conversation) ?? []).slice(after)) {
        const json = frameOf(conversation, { seq: e.seq, kind: e.kind, at: e.at, body: e.body, deleted: false })
        bytes += Buffer.byteLength(json)
        if (frames.length >= limits.events || (frames.length > 0 && bytes > limits.bytes)) return { frames, more: true }
        frames.push({ seq: e.seq, messageId: e.messageId, json })
      }
      return { frames, more: false }
    },

    async flushReceipts(receipts) {
      await turn()
      for (const r of receipts) {
        const member = database.conversations.get(r.conversation)?.members.get(r.userId)
        if (!member) continue
        member.readSeq = Math.max(member.readSeq, r.readSeq)
        member.deliveredSeq = Math.max(member.deliveredSeq, r.deliveredSeq, r.readSeq)
      }
    },

    async openRuns(shards) {
      await turn()
      const open = new Set<string>()
      for (const run of database.runs.values()) {
        const conversation = database.conversations.get(database.conversationOfRun.get(run.id) ?? '')
        if (conversation && run.status !== 'ended' && shards.includes(conversation.shard)) open.add(conversation.id)
      }
      return [...open]
    },

    async takeSlot(requester, runId) {
      await turn()
      for (const [slot, held] of database.slots) {
        if (held === runId) return true
        if (database.runs.get(held)?.status === 'ended') database.slots.delete(slot)
      }
      for (let n = 1; n <= turnsRunningPerUserMax; n++) {
        const slot = `${requester}/${n}`
        if (database.slots.has(slot)) continue
        database.slots.set(slot, runId)
        return true
      }
      return false
    },

    async names(userIds) {
      await turn()
      return new Map(
        userIds.flatMap(id => {
          const known = database.names.get(id)
          return known ? [[id, known] as const] : []
        }),
      )
    },

    async blockedBy(userId, others) {
      await turn()
      return others.filter(other => database.blocks.has(`${userId}>${other}`))
    },

    async noteContext({ runId, round, seqs }) {
      await turn()
      database.contexts.set(`${runId}/${round}`, seqs)
    },

    async purgeSegments(runIds) {
      await turn()
      for (const id of runIds) {
        const run = database.runs.get(id)
        if (run?.status === 'ended') run.segments.clear()
      }
    },

    async purgeLeftSegments(shards) {
      await turn()
      for (const [id, run] of database.runs) {
        const conversation = database.conversations.get(database.conversationOfRun.get(id) ?? '')
        const isOld = run.endedAt !== null && run.endedAt < Date.now() - segmentsKeptMs
        if (isOld && conversation && shards.includes(conversation.shard)) run.segments.clear()
      }
      return { isAll: true }
    },
  }
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
