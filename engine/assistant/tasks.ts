/**
 * Effects of the task tools: each call, its record in the audit trail and its kept result are one transaction, so that a
 * call which comes again finds the first result and does nothing. Refuses to read raw arguments (tools.ts) and to take an
 * owner from anywhere but its caller.
 */
import { tasksPerUserMax, tasksSimilarMax, tasksSimilarScanMax, toolKeyHours } from '#protos/limits.ts'
import { similarTitles } from './similar.ts'
import {
  canonicalHash,
  type Door,
  failure,
  isToolName,
  parseCall,
  type TaskCall,
  type TaskStatus,
  type ToolFailure,
} from './tools.ts'

/** What is needed of Postgres; a pg.Pool fits. */
export interface Sql {
  // biome-ignore lint/suspicious/noExplicitAny: rows are typed by the statement that asks for them
  query<R = any>(text: string, values?: unknown[]): Promise<{ rows: R[]; rowCount: number | null }>
}
export interface TaskDb extends Sql {
  connect(): Promise<Sql & { release(destroy?: boolean): void }>
}

export interface TaskView {
  id: string
  title: string
  description: string | null
  completed: boolean
  created_at: string
  updated_at: string
  completed_at: string | null
}

export type ToolResult =
  | ToolFailure
  | { success: true; task_id: string; title: string; description: string | null; created_at: string }
  | { success: true; task_id: string; title: string; completed: true; completed_at: string }
  | { success: true; task_id: string; title: string; deleted_at: string }
  | {
      success: true
      task_id: string
      title: string
      description: string | null
      updated_at: string
      /** For REST, whose answer is the task as it was then, also when the same key comes again. */
      rest?: Pick<TaskView, 'completed' | 'created_at' | 'completed_at'>
    }
  | { tasks: Omit<TaskView, 'updated_at'>[]; total: number; status_filter: TaskStatus }

export function isFailure(result: ToolResult): result is ToolFailure {
  return 'error' in result
}

export interface TaskRequest {
  userId: string
  name: string
  args: unknown
  /** Where it came from; in the audit trail. */
  door: Door
  /** The same key again gives the first result. A turn's call must stand in the ledger before it is made. */
  key?: { kind: 'call'; runId: string; callId: string } | { kind: 'own'; key: string }
  requestId?: string
  /** The operator has switched the tool off: nothing is done, and the refusal is recorded. */
  isOff?: boolean
  /** What the person said, to find similar titles by. */
  hint?: string
}

export interface Tasks {
  /** Throws only when the database does; nothing is known of the effect then, and the same key may be used again. */
  run(request: TaskRequest): Promise<ToolResult>
}

/** A key that was used for something else. */
export class KeyConflict extends Error {
  override name = 'KeyConflict'
}

const iso = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
/** Columns of a TaskView. */
export const taskColumns = `id, title, description, completed_at is not null as completed, ${iso('created_at')} as created_at,
  ${iso('updated_at')} as updated_at, ${iso('completed_at')} as completed_at`

export function createTasks(db: TaskDb): Tasks {
  return {
    async run(request) {
      const { userId, name, args, door } = request
      const parsed = request.isOff
        ? { failure: failure('Unauthorized', 'This tool is switched off here.') }
        : isToolName(name)
          ? parseCall(name, args, userId, door)
          : { failure: failure('InvalidInput', 'There is no such tool.') }
      return transaction(db, async sql => {
        const kept = request.key && (await claim(sql, request, request.key))
        if (kept?.result) return shown(kept.result, door)
        const result =
          kept?.refusal ??
          ('failure' in parsed ? parsed.failure : await effect(sql, userId, parsed.call, request.hint, kept?.at))
        // A key may come again by another door; a call of a turn has one.
        const whole = request.key?.kind === 'own' ? result : shown(result, door)
        if (request.key && !kept?.refusal) await keep(sql, userId, request.key, whole)
        await record(sql, request, result)
        return shown(result, door)
      })
    },
  }
}

function shown(result: ToolResult, door: Door): ToolResult {
  if (door === 'rest' || !('rest' in result)) return result
  const { rest: _rest, ...plain } = result
  return plain
}

async function transaction<T>(db: TaskDb, work: (sql: Sql) => Promise<T>): Promise<T> {
  const connection = await db.connect()
  let isClean = false
  try {
    await connection.query('begin')
    const result = await work(connection)
    await connection.query('commit')
    isClean = true
    return result
  } catch (error) {
    isClean = await connection.query('rollback').then(
      () => true,
      () => false,
    )
    throw error
  } finally {
    connection.release(!isClean)
  }
}

/** The first result under this key; none: the key is ours until the transaction ends. */
async function claim(
  sql: Sql,
  { userId, name, args }: TaskRequest,
  key: NonNullable<TaskRequest['key']>,
): Promise<{ result?: ToolResult; refusal?: ToolFailure; at?: string } | undefined> {
  const hash = canonicalHash(name, args)
  if (key.kind === 'own') {
    await sql.query(
      `delete from tool_key where user_id = $1 and created_at < clock_timestamp() - make_interval(hours => $2)`,
      [userId, toolKeyHours],
    )
    const made = await sql.query(
      'insert into tool_key (user_id, key, request_hash) values ($1, $2, $3) on conflict do nothing',
      [userId, key.key, hash],
    )
    if (made.rowCount === 1) return undefined
    const { rows } = await sql.query<{ request_hash: Buffer; result: string }>(
      'select request_hash, result::text from tool_key where user_id = $1 and key = $2',
      [userId, key.key],
    )
    if (!rows[0] || !hash.equals(rows[0].request_hash)) throw new KeyConflict()
    return { result: JSON.parse(rows[0].result) as ToolResult }
  }
  const { rows } = await sql.query<{
    hash: Buffer
    result: string | null
    is_allowed: boolean
    is_open: boolean
    at: string
  }>(
    // Calls of one round are made together; what they make keeps the order in which it was asked for.
    `select (c.called_at + c.ordinal * interval '1 microsecond')::text as at, c.arguments_hash as hash, c.result::text, r.status <> 'ended' as is_open,
            c.requester = $3 and r.requester = $3 and (c.approval = 'auto' or c.decision is not distinct from 'approve') as is_allowed
       from tool_call c join ai_run r on r.id = c.run_id where c.run_id = $1 and c.call_id = $2 for update of c`,
    [key.runId, key.callId, userId],
  )
  const row = rows[0]
  if (row?.result) return { result: JSON.parse(row.result) as ToolResult }
  // What was recorded, approved and asked for must be one and the same; a turn that has ended does nothing any more.
  if (!row?.is_open || !row.is_allowed || !hash.equals(row.hash))
    return { refusal: failure('Unauthorized', 'This call may not be made.') }
  return { at: row.at }
}

async function keep(sql: Sql, userId: string, key: NonNullable<TaskRequest['key']>, result: ToolResult): Promise<void> {
  const json = JSON.stringify(result)
  if (key.kind === 'own')
    await sql.query('update tool_key set result = $3 where user_id = $1 and key = $2', [userId, key.key, json])
  else
    await sql.query('update tool_call set result = $3 where run_id = $1 and call_id = $2', [
      key.runId,
      key.callId,
      json,
    ])
}

/** Every execution leaves a record, refused ones too; never the texts. */
async function record(sql: Sql, request: TaskRequest, result: ToolResult): Promise<void> {
  const { userId, name, args, door, key, requestId } = request
  const detail = {
    door,
    arguments_hash: canonicalHash(name, args).toString('hex'),
    outcome: isFailure(result) ? result.error : 'success',
    ...(key?.kind === 'call' ? { run_id: key.runId, call_id: key.callId } : {}),
  }
  const target = 'task_id' in result ? result.task_id : null
  await sql.query(
    `insert into audit (actor_id, action, target_type, target_id, request_id, detail) values ($1, $2, $3, $4, $5, $6)`,
    [userId, `tool.${name.slice(0, 128)}`, target ? 'task' : null, target, requestId ?? null, JSON.stringify(detail)],
  )
}

async function effect(
  sql: Sql,
  userId: string,
  call: TaskCall,
  hint: string | undefined,
  at: string | undefined,
): Promise<ToolResult> {
  switch (call.name) {
    case 'add_task': {
      const { rows } = await sql.query(
        `insert into task (user_id, title, description, created_at, updated_at)
         select $1, $2, $3, m.at, m.at from (select coalesce($5::timestamptz, clock_timestamp()) as at) m where (select count(*) from task where user_id = $1) < $4
         returning id as task_id, title, description, ${iso('created_at')} as created_at`,
        [userId, call.title, call.description, tasksPerUserMax, at ?? null],
      )
      if (!rows[0]) return failure('OperationFailed', `A list holds ${tasksPerUserMax} tasks; delete some first.`)
      return { success: true, ...rows[0] }
    }
    case 'list_tasks': {
      const { tasks, total } = await listTasks(sql, userId, call)
      return { tasks: tasks.map(({ updated_at: _updated, ...task }) => task), total, status_filter: call.status }
    }
    case 'complete_task': {
      const { rows } = await sql.query(
        `with old as (select id, completed_at from task where id = $2 and user_id = $1 for update)
         update task t set completed_at = coalesce(t.completed_at, clock_timestamp()),
                updated_at = case when t.completed_at is null then clock_timestamp() else t.updated_at end
           from old where t.id = old.id
         returning t.id as task_id, t.title, true as completed, ${iso('t.completed_at')} as completed_at,
                   old.completed_at is not null as was_done`,
        [userId, call.taskId ?? null],
      )
      if (!rows[0]) return missing(sql, userId, hint)
      const { was_done, ...task } = rows[0]
      if (was_done) return failure('AlreadyCompleted', `"${task.title}" is done already.`)
      return { success: true, ...task }
    }
    case 'delete_task': {
      const { rows } = await sql.query(
        `delete from task where id = $2 and user_id = $1
         returning id as task_id, title, ${iso('clock_timestamp()')} as deleted_at`,
        [userId, call.taskId ?? null],
      )
      return rows[0] ? { success: true, ...rows[0] } : missing(sql, userId, hint)
    }
    case 'update_task': {
      const { rows } = await sql.query(
        `update task set title = coalesce($3, title), description = case when $4 then $5 else description end,
                completed_at = case when $6::boolean is null then completed_at
                                    when $6 then coalesce(completed_at, clock_timestamp()) end,
                updated_at = clock_timestamp()
          where id = $2 and user_id = $1
         returning id as task_id, title, description, ${iso('updated_at')} as updated_at,
                   completed_at is not null as completed, ${iso('created_at')} as created_at, ${iso('completed_at')} as completed_at`,
        [
          userId,
          call.taskId ?? null,
          call.title ?? null,
          call.description !== undefined,
          call.description ?? null,
          call.completed ?? null,
        ],
      )
      if (!rows[0]) return missing(sql, userId, hint)
      const { completed, created_at, completed_at, ...task } = rows[0]
      return { success: true, ...task, rest: { completed, created_at, completed_at } }
    }
    default:
      return call satisfies never
  }
}

/** Oldest first. `total`: all that match, whatever the limit. `after`: the id of the last one of the page before. */
export async function listTasks(
  sql: Sql,
  userId: string,
  page: { status: TaskStatus; limit: number; query?: string | undefined; after?: string | undefined },
): Promise<{ tasks: TaskView[]; total: number }> {
  const words = (page.query ?? '').split(/\s+/u).filter(Boolean)
  const patterns = words.map(word => `%${word.replace(/[\\%_]/g, '\\$&')}%`)
  const filter = `user_id = $1 and ($2 = 'all' or (completed_at is not null) = ($2 = 'completed'))
    and not exists (select 1 from unnest($3::text[]) w(p) where title || ' ' || coalesce(description, '') not ilike p)`
  const { rows } = await sql.query<TaskView & { total: number }>(
    `select ${taskColumns}, (select count(*)::int from task where ${filter}) as total from task t
      where ${filter} and ($5::uuid is null or (t.created_at, t.id) >
            (select a.created_at, a.id from task a where a.id = $5 and a.user_id = $1))
      order by t.created_at, t.id limit $4`,
    [userId, page.status, patterns, page.limit, page.after ?? null],
  )
  if (rows.length > 0) return { tasks: rows.map(({ total: _total, ...task }) => task), total: rows[0]!.total }
  return { tasks: [], total: 0 }
}

/** Another person's task is missing like any other. */
async function missing(sql: Sql, userId: string, hint: string | undefined): Promise<ToolFailure> {
  const { rows } = await sql.query<{ id: string; title: string }>(
    'select id, title from task where user_id = $1 order by completed_at is not null, created_at desc limit $2',
    [userId, tasksSimilarScanMax],
  )
  return {
    ...failure('TaskNotFound', 'There is no such task.'),
    similar_tasks: similarTitles(rows, hint ?? '').slice(0, tasksSimilarMax),
  }
}
