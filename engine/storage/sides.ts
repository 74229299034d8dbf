/**
 * Folds the side changes of a batch into one row per thing: the parts of one statement all see the same snapshot, so an
 * add and a removal of the same member in one batch must leave one row set, not two. Pure.
 */
import type { Contribution, SideChange } from '#engine/actor/ports.ts'

type Row = Record<string, string | number | boolean | null>

/** In the order in which their rows must be written where foreign keys point at each other. */
export const sideParts = [
  'conversationsAdded',
  'conversationsChanged',
  'membersPut',
  'membersChanged',
  'membersGone',
  'blocksPut',
  'blocksGone',
  'runsAdded',
  'runsStarted',
  'runsEnded',
  'runsStatus',
  'toolsAdded',
  'toolsChanged',
] as const
export type SidePart = (typeof sideParts)[number]
export type SideRows = Record<SidePart, Row[]>

export function foldSides(contributions: readonly Contribution[]): SideRows | undefined {
  if (contributions.every(c => c.sides.length === 0)) return undefined
  const rows = Object.fromEntries(sideParts.map(part => [part, [] as Row[]])) as SideRows
  for (const { shard, conversation, sides } of contributions) {
    const base = { shard, conversation }
    const ended = new Map<string, Row>()
    const statuses = new Map<string, Row>()
    const toolsAdded = new Map<string, Row>()
    const toolsChanged = new Map<string, Row>()
    /** The row of a call: its own where it is new in this batch. */
    const toolRow = (runId: string, callId: string): Row => {
      const known = toolsAdded.get(callId) ?? toolsChanged.get(callId)
      if (known) return known
      const row: Row = {
        ...base,
        run_id: runId,
        call_id: callId,
        decision: null,
        decided_by: null,
        decided_at: null,
        status: null,
        result: null,
        returned_at: null,
      }
      toolsChanged.set(callId, row)
      return row
    }
    const changed: Row = {
      ...base,
      set_title: false,
      title: null,
      tool_policy: null,
      deleted_at: null,
      deleted_by: null,
    }
    let isChanged = false
    let created: Row | undefined
    const members = new Map<string, { part: 'membersPut' | 'membersChanged' | 'membersGone'; row: Row }>()
    const blocks = new Map<string, { set: boolean; row: Row }>()
    const runs = new Map<string, { part: 'runsAdded' | 'runsStarted'; row: Row }>()
    const put = (userId: string, role: string, seq: number, at: number) =>
      members.set(userId, {
        part: 'membersPut',
        row: { ...base, user_id: userId, role, joined_seq: seq, joined_at: at },
      })
    for (const side of sides) {
      switch (side.kind) {
        case 'conversation.created':
          created = {
            ...base,
            kind: side.conversationKind,
            title: side.title,
            tool_policy: 'requester',
            created_by: side.createdBy,
            at: side.at,
            deleted_at: null,
            deleted_by: null,
          }
          for (const m of side.members) put(m.userId, m.role, m.seq, side.at)
          break
        case 'conversation.updated': {
          const target = created ?? changed
          isChanged ||= !created
          if (side.title !== undefined) {
            target['title'] = side.title
            if (!created) target['set_title'] = true
          }
          if (side.toolPolicy !== undefined) target['tool_policy'] = side.toolPolicy
          break
        }
        case 'conversation.deleted': {
          const target = created ?? changed
          isChanged ||= !created
          target['deleted_at'] = side.at
          target['deleted_by'] = side.by
          break
        }
        case 'member.added':
          put(side.userId, side.role, side.seq, side.at)
          break
        case 'member.role': {
          const known = members.get(side.userId)
          if (known?.part === 'membersPut') known.row['role'] = side.role
          else {
            const row = { ...base, user_id: side.userId, role: side.role }
            members.set(side.userId, { part: 'membersChanged', row })
          }
          break
        }
        case 'member.removed':
          members.set(side.userId, { part: 'membersGone', row: { ...base, user_id: side.userId } })
          break
        case 'block':
          blocks.set(`${side.blocker}>${side.blocked}`, {
            set: side.set,
            row: { shard, blocker: side.blocker, blocked: side.blocked, at: side.at },
          })
          break
        case 'run.queued': {
          const { run } = side
          runs.set(run.id, { part: 'runsAdded', row: runRow(base, run) })
          break
        }
        case 'run.started': {
          const known = runs.get(side.runId)
          const started = { status: 'running', model: side.model, started_at: side.at }
          if (known) Object.assign(known.row, started)
          else runs.set(side.runId, { part: 'runsStarted', row: { ...base, id: side.runId, ...started } })
          break
        }
        case 'run.status': {
          const known = runs.get(side.runId)
          if (known) known.row['status'] = side.status
          else statuses.set(side.runId, { ...base, id: side.runId, status: side.status })
          break
        }
        case 'tool.called':
          toolsAdded.set(side.call.callId, {
            ...base,
            run_id: side.runId,
            call_id: side.call.callId,
            answer_id: side.answerId,
            requester: side.requester,
            round: side.call.round,
            ordinal: side.call.ordinal,
            at_bytes: side.call.atBytes,
            name: side.call.name,
            arguments: side.call.arguments,
            hash: side.call.hash,
            approval: side.call.approval,
            expires_at: side.call.expiresAt,
            called_at: side.at,
            decision: null,
            decided_by: null,
            decided_at: null,
            status: 'pending',
            result: null,
            returned_at: null,
          })
          break
        case 'tool.decided':
          Object.assign(toolRow(side.runId, side.callId), {
            decision: side.decision,
            decided_by: side.by,
            decided_at: side.at,
          })
          break
        case 'tool.returned':
          Object.assign(toolRow(side.runId, side.callId), {
            status: side.status,
            result: side.result,
            returned_at: side.at,
          })
          break
        case 'run.ended': {
          statuses.delete(side.runId)
          const known = runs.get(side.runId)
          const end = { finish: side.finish, bytes: side.bytes, ended_at: side.at }
          if (known?.part === 'runsAdded') Object.assign(known.row, { status: 'ended', ...end })
          else runs.delete(side.runId)
          // Also when the run began in this very batch: its slot was taken before.
          ended.set(side.runId, { ...base, id: side.runId, model: known?.row['model'] ?? null, ...end })
          break
        }
        default:
          side satisfies never
      }
    }
    if (created) rows.conversationsAdded.push(created)
    if (isChanged) rows.conversationsChanged.push(changed)
    for (const { part, row } of members.values()) rows[part].push(row)
    for (const { set, row } of blocks.values()) rows[set ? 'blocksPut' : 'blocksGone'].push(row)
    for (const { part, row } of runs.values()) rows[part].push(row)
    rows.runsEnded.push(...ended.values())
    rows.runsStatus.push(...statuses.values())
    rows.toolsAdded.push(...toolsAdded.values())
    rows.toolsChanged.push(...toolsChanged.values())
  }
  return rows
}

function runRow(base: Row, run: Extract<SideChange, { kind: 'run.queued' }>['run']): Row {
  return {
    ...base,
    id: run.id,
    requester: run.requester,
    question_id: run.questionId,
    question_seq: run.questionSeq,
    client_message_id: run.clientMessageId,
    answer_id: run.answerId,
    status: run.status,
    trace: run.trace,
    created_at: run.createdAt,
    model: null,
    started_at: null,
    finish: null,
    bytes: 0,
    ended_at: null,
  }
}
