/**
 * The statement that stores a batch: fences of its shards, share-locked in order of id, then only rows of shards whose
 * epoch matched. One prepared text per set of parts, so that a plain batch of messages carries nothing else.
 */
import type { Contribution } from '#engine/actor/ports.ts'
import { commitTextsMax } from '#protos/limits.ts'
import { foldSides, type SidePart, sideParts } from './sides.ts'

/** A time in ms as a JSON or array column. */
const time = (column: string) => `to_timestamp(${column} / 1000.0)`

/** Each part reads its one parameter `$n` as rows and joins them to the fence. */
const sideSql: Record<SidePart, (n: number) => string> = {
  conversationsAdded: n => `
    insert into conversation (id, shard_id, kind, title, tool_policy, created_by, created_at, deleted_at, deleted_by)
    select r.conversation, r.shard, r.kind, r.title, r.tool_policy, r.created_by, ${time('r.at')}, ${time('r.deleted_at')}, r.deleted_by
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, kind text, title text, tool_policy text,
           created_by uuid, at bigint, deleted_at bigint, deleted_by uuid)
      join fence on fence.shard_id = r.shard`,
  conversationsChanged: n => `
    update conversation c
       set title = case when r.set_title then r.title else c.title end,
           tool_policy = coalesce(r.tool_policy, c.tool_policy),
           deleted_at = coalesce(${time('r.deleted_at')}, c.deleted_at),
           deleted_by = coalesce(r.deleted_by, c.deleted_by)
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, set_title boolean, title text, tool_policy text,
           deleted_at bigint, deleted_by uuid)
      join fence on fence.shard_id = r.shard
     where c.id = r.conversation`,
  membersPut: n => `
    insert into conversation_member (conversation_id, user_id, role, joined_at, joined_seq)
    select r.conversation, r.user_id, r.role, ${time('r.joined_at')}, r.joined_seq
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, user_id uuid, role text, joined_at bigint, joined_seq bigint)
      join fence on fence.shard_id = r.shard
        on conflict (conversation_id, user_id)
        do update set role = excluded.role, joined_at = excluded.joined_at, joined_seq = excluded.joined_seq`,
  membersChanged: n => `
    update conversation_member m set role = r.role
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, user_id uuid, role text)
      join fence on fence.shard_id = r.shard
     where m.conversation_id = r.conversation and m.user_id = r.user_id`,
  membersGone: n => `
    delete from conversation_member m
     using jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, user_id uuid)
      join fence on fence.shard_id = r.shard
     where m.conversation_id = r.conversation and m.user_id = r.user_id`,
  blocksPut: n => `
    insert into blocks (blocker_id, blocked_id, created_at)
    select r.blocker, r.blocked, ${time('r.at')}
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, blocker uuid, blocked uuid, at bigint)
      join fence on fence.shard_id = r.shard
        on conflict (blocker_id, blocked_id) do nothing`,
  blocksGone: n => `
    delete from blocks b
     using jsonb_to_recordset($${n}::jsonb) as r(shard int, blocker uuid, blocked uuid)
      join fence on fence.shard_id = r.shard
     where b.blocker_id = r.blocker and b.blocked_id = r.blocked`,
  runsAdded: n => `
    insert into ai_run (id, conversation_id, shard_id, requester, question_id, question_seq, client_message_id, answer_id,
                        status, trace, created_at, model, started_at, finish, bytes, ended_at)
    select r.id, r.conversation, r.shard, r.requester, r.question_id, r.question_seq, r.client_message_id, r.answer_id,
           r.status, r.trace, ${time('r.created_at')}, r.model, ${time('r.started_at')}, r.finish, r.bytes, ${time('r.ended_at')}
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, id uuid, requester uuid, question_id uuid,
           question_seq bigint, client_message_id uuid, answer_id uuid, status text, trace text, created_at bigint, model text,
           started_at bigint, finish text, bytes bigint, ended_at bigint)
      join fence on fence.shard_id = r.shard`,
  runsStarted: n => `
    update ai_run a set status = r.status, model = r.model, started_at = ${time('r.started_at')}
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, id uuid, status text, model text, started_at bigint)
      join fence on fence.shard_id = r.shard
     where a.id = r.id`,
  runsEnded: n => `
    update ai_run a set status = 'ended', finish = r.finish, bytes = r.bytes, ended_at = ${time('r.ended_at')},
           model = coalesce(r.model, a.model)
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, id uuid, model text, finish text, bytes bigint, ended_at bigint)
      join fence on fence.shard_id = r.shard
     where a.id = r.id`,
  runsStatus: n => `
    update ai_run a set status = r.status
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, id uuid, status text)
      join fence on fence.shard_id = r.shard
     where a.id = r.id`,
  toolsAdded: n => `
    insert into tool_call (run_id, call_id, conversation_id, answer_id, requester, round, ordinal, at_bytes, name, arguments,
                           arguments_hash, approval, expires_at, called_at, decision, decided_by, decided_at, status, result,
                           returned_at)
    select r.run_id, r.call_id, r.conversation, r.answer_id, r.requester, r.round, r.ordinal, r.at_bytes, r.name, r.arguments,
           decode(r.hash, 'hex'), r.approval, ${time('r.expires_at')}, ${time('r.called_at')}, r.decision, r.decided_by,
           ${time('r.decided_at')}, r.status, r.result::jsonb, ${time('r.returned_at')}
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, conversation uuid, run_id uuid, call_id text, answer_id uuid,
           requester uuid, round int, ordinal int, at_bytes bigint, name text, arguments text, hash text, approval text,
           expires_at bigint, called_at bigint, decision text, decided_by uuid, decided_at bigint, status text, result text,
           returned_at bigint)
      join fence on fence.shard_id = r.shard`,
  // What a tool stored with its effect is the result, whatever the log was told.
  toolsChanged: n => `
    update tool_call t
       set decision = coalesce(t.decision, r.decision), decided_by = coalesce(t.decided_by, r.decided_by),
           decided_at = coalesce(t.decided_at, ${time('r.decided_at')}), status = coalesce(r.status, t.status),
           result = coalesce(t.result, r.result::jsonb), returned_at = coalesce(${time('r.returned_at')}, t.returned_at)
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, run_id uuid, call_id text, decision text, decided_by uuid,
           decided_at bigint, status text, result text, returned_at bigint)
      join fence on fence.shard_id = r.shard
     where t.run_id = r.run_id and t.call_id = r.call_id`,
}

const fenceSql = `
  fence as materialized (
    select s.shard_id, s.epoch
      from shard s join unnest($1::int[], $2::bigint[]) as w(id, epoch) on s.shard_id = w.id and s.epoch = w.epoch
     order by s.shard_id for share of s)`

const eventsSql = (n: number) => `
  events as (
    insert into event (conversation_id, seq, message_id, kind, sender_id, client_id, body_hash, body, created_at, epoch)
    select m.conversation, m.seq, m.message, m.kind, m.sender, m.client, decode(m.hash, 'hex'), m.body, ${time('m.at')}, fence.epoch
      from rows from (unnest($${n}::int[], $${n + 1}::uuid[], $${n + 2}::bigint[], $${n + 3}::uuid[], $${n + 4}::text[],
                             $${n + 5}::uuid[], $${n + 6}::uuid[], $${n + 7}::text[], $${n + 8}::bigint[]),
                      jsonb_array_elements($${n + 9}::jsonb))
           as m(shard, conversation, seq, message, kind, sender, client, hash, at, body)
      join fence on fence.shard_id = m.shard)`

const segmentsSql = (n: number) => `
  segments as (
    insert into ai_segment (run_id, "offset", conversation_id, text)
    select g.run, g.at, g.conversation, g.text
      from unnest($${n}::int[], $${n + 1}::uuid[], $${n + 2}::bigint[], $${n + 3}::uuid[], $${n + 4}::text[])
           as g(shard, run, at, conversation, text)
      join fence on fence.shard_id = g.shard)`

/** The slot goes with the run's end, in its statement. */
const slotsSql = (n: number) => `
  slots as (
    delete from ai_slot s
     using jsonb_to_recordset($${n}::jsonb) as r(shard int, id uuid)
      join fence on fence.shard_id = r.shard
     where s.run_id = r.id)`

/** A turn that waits in the queue again holds none. */
const slotsGivenSql = (n: number) => `
  slotsgiven as (
    delete from ai_slot s
     using jsonb_to_recordset($${n}::jsonb) as r(shard int, id uuid, status text)
      join fence on fence.shard_id = r.shard
     where s.run_id = r.id and r.status = 'queued')`

/** Who allowed what is part of the audit trail, whichever door the decision came by; the call's own row goes with its conversation. */
const decisionsSql = (n: number) => `
  decisions as (
    insert into audit (actor_id, action, target_type, target_id, detail)
    select r.decided_by, case r.decision when 'approve' then 'tool.approved' else 'tool.rejected' end, 'tool_call', r.call_id,
           jsonb_build_object('run_id', r.run_id, 'tool', t.name, 'arguments_hash', encode(t.arguments_hash, 'hex'))
      from jsonb_to_recordset($${n}::jsonb) as r(shard int, run_id uuid, call_id text, decision text, decided_by uuid)
      join fence on fence.shard_id = r.shard
      left join lateral (select c.name, c.arguments_hash from tool_call c where c.run_id = r.run_id and c.call_id = r.call_id limit 1) t on true
     where r.decision is not null)`

export interface CommitStatement {
  name: string
  text: string
  values: unknown[]
}

const texts = new Map<number, string>()

export function commitStatement(contributions: readonly Contribution[]): CommitStatement {
  const epochs = new Map<number, number>()
  let eventCount = 0
  let segmentCount = 0
  for (const c of contributions) {
    epochs.set(c.shard, c.epoch)
    eventCount += c.events.length
    segmentCount += c.segments.length
  }
  const sides = foldSides(contributions)
  let mask = (eventCount > 0 ? 1 : 0) | (segmentCount > 0 ? 2 : 0)
  sideParts.forEach((part, i) => {
    if (sides && sides[part].length > 0) mask |= 4 << i
  })
  // The server keeps each text that it has seen by name: a set of parts that comes late goes with all of them, some empty.
  if (!texts.has(mask) && texts.size >= commitTextsMax) mask = allParts
  const values: unknown[] = [array([...epochs.keys()]), array([...epochs.values()])]
  if (mask & 1) values.push(...eventColumns(contributions))
  if (mask & 2) values.push(...segmentColumns(contributions))
  sideParts.forEach((part, i) => {
    if (mask & (4 << i)) values.push(JSON.stringify(sides?.[part] ?? []))
  })
  let text = texts.get(mask)
  if (text === undefined) {
    text = textOf(mask)
    texts.set(mask, text)
  }
  return { name: `parley_commit_${mask}`, text, values }
}

const allParts = (4 << sideParts.length) - 1

function textOf(mask: number): string {
  const parts = [fenceSql]
  let n = 3
  if (mask & 1) {
    parts.push(eventsSql(n))
    n += 10
  }
  if (mask & 2) {
    parts.push(segmentsSql(n))
    n += 5
  }
  for (const [i, part] of sideParts.entries()) {
    if (!(mask & (4 << i))) continue
    parts.push(`
  ${part.toLowerCase()} as (${sideSql[part](n)})`)
    if (part === 'runsEnded') parts.push(slotsSql(n))
    if (part === 'runsStatus') parts.push(slotsGivenSql(n))
    if (part === 'toolsChanged') parts.push(decisionsSql(n))
    n++
  }
  return `with${parts.join(',')}
select shard_id from fence`
}

/** An array's text form, for values that need no quotes in it: numbers, ids, kinds, hex. */
function array(values: readonly (string | number)[]): string {
  return `{${values.join(',')}}`
}

/** Bodies are JSON already: as one array of theirs they are quoted nowhere and read once. */
function eventColumns(contributions: readonly Contribution[]): string[] {
  const shards: number[] = []
  const conversations: string[] = []
  const seqs: number[] = []
  const messages: string[] = []
  const kinds: string[] = []
  const senders: string[] = []
  const clients: string[] = []
  const hashes: string[] = []
  const times: number[] = []
  const bodies: string[] = []
  for (const c of contributions) {
    for (const e of c.events) {
      shards.push(c.shard)
      conversations.push(c.conversation)
      seqs.push(e.seq)
      messages.push(e.messageId)
      kinds.push(e.kind)
      senders.push(e.senderId)
      clients.push(e.clientId)
      hashes.push(e.bodyHash)
      times.push(Math.round(e.at))
      bodies.push(e.body)
    }
  }
  const columns = [shards, conversations, seqs, messages, kinds, senders, clients, hashes, times]
  return [...columns.map(array), `[${bodies.join(',')}]`]
}

function segmentColumns(contributions: readonly Contribution[]): unknown[][] {
  const columns: unknown[][] = Array.from({ length: 5 }, () => [])
  for (const c of contributions) {
    for (const s of c.segments) {
      columns[0]!.push(c.shard)
      columns[1]!.push(s.runId)
      columns[2]!.push(s.offset)
      columns[3]!.push(c.conversation)
      columns[4]!.push(s.text)
    }
  }
  return columns
}
