/**
 * Routes of tasks: one's own list, and the tools over Streamable HTTP. Each change goes through the tools' one
 * implementation; an Idempotency-Key makes it safe to ask again. Refuses to keep sessions: every request stands alone.
 */
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import { Type } from 'typebox'
import { createMcpServer, isKey } from '#engine/assistant/mcp-server.ts'
import {
  createTasks,
  isFailure,
  KeyConflict,
  listTasks,
  type TaskRequest,
  type ToolResult,
} from '#engine/assistant/tasks.ts'
import { type TaskStatus, type ToolFailure, taskStatuses } from '#engine/assistant/tools.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Db } from '#gateway/auth/db.ts'
import { conflict, invalid, notFound, Refusal } from '#gateway/auth/failure.ts'
import {
  taskDescriptionCharsMax,
  taskQueryCharsMax,
  tasksPageDefault,
  tasksPageMax,
  taskTitleCharsMax,
} from '#protos/limits.ts'
import { exampleTask } from './examples.ts'
import { type Context, type RouteSpec, route, strict } from './route.ts'
import { pageSize } from './routes-people.ts'
import * as s from './schemas.ts'

const Title = Type.String({ minLength: 1, maxLength: taskTitleCharsMax })
const Description = Type.Unsafe<string | null>({ type: ['string', 'null'], maxLength: taskDescriptionCharsMax })
const Status = Type.Unsafe<TaskStatus>({ type: 'string', enum: [...taskStatuses] })

export function taskRoutes(deps: { db: Db; log: Log }): RouteSpec[] {
  const { db, log } = deps
  const tasks = createTasks(db)

  async function run(
    c: Context,
    name: string,
    args: Record<string, unknown>,
  ): Promise<Exclude<ToolResult, ToolFailure>> {
    const key = keyOf(c)
    const request: TaskRequest = {
      userId: c.principal.userId,
      name,
      args,
      door: 'rest',
      requestId: c.requestId,
      ...(key === undefined ? {} : { key: { kind: 'own', key } }),
    }
    const result = await tasks.run(request).catch((error: unknown) => {
      if (error instanceof KeyConflict)
        throw conflict('This idempotency key was used for something else.', { code: 'IDEMPOTENCY_CONFLICT' })
      throw error
    })
    if (isFailure(result)) throw refusalOf(result)
    return result
  }

  return [
    route({
      method: 'GET',
      path: '/tasks',
      auth: 'bearer',
      tag: 'tasks',
      summary: 'One’s own tasks, oldest first.',
      query: strict({
        status: Type.Optional(Status),
        query: Type.Optional(Type.String({ maxLength: taskQueryCharsMax })),
        after: Type.Optional(s.Id),
        limit: s.pageLimit(tasksPageDefault, tasksPageMax),
      }),
      answers: {
        200: {
          schema: s.listOf(s.Task),
          example: { items: [exampleTask] },
          doc: 'A page; `next` is the `after` of the next one.',
        },
      },
      refusals: [],
      async handle(c) {
        const { status = 'all', query, after } = c.query
        const limit = pageSize(c.query.limit, tasksPageDefault, tasksPageMax)
        const page = { status, query, after: after?.toLowerCase(), limit: limit + 1 }
        const found = await listTasks(db, c.principal.userId, page)
        const items = found.tasks.slice(0, limit)
        return { status: 200, body: { items, ...(found.tasks.length > limit ? { next: items.at(-1)!.id } : {}) } }
      },
    }),
    route({
      method: 'POST',
      path: '/tasks',
      auth: 'bearer',
      tag: 'tasks',
      summary: 'Adds a task. The same Idempotency-Key within 24 h adds it once.',
      body: strict({ title: Title, description: Type.Optional(Description) }),
      bodyExample: { title: 'Buy milk', description: 'Two bottles' },
      answers: { 201: { schema: s.Task, example: exampleTask, doc: 'It is stored.' } },
      refusals: [404, 409],
      async handle(c) {
        const { title, description } = c.body
        const made = await run(c, 'add_task', { title, ...(description == null ? {} : { description }) })
        if (!('created_at' in made)) throw new Error('add_task gave no task')
        // What was made, not what has become of it: a request that comes again is answered as the first one was.
        const { task_id: id, created_at } = made
        const fresh = { completed: false, created_at, updated_at: created_at, completed_at: null }
        return { status: 201, body: { id, title: made.title, description: made.description, ...fresh } }
      },
    }),
    route({
      method: 'PATCH',
      path: '/tasks/:id',
      auth: 'bearer',
      tag: 'tasks',
      summary: 'Changes title, description or whether it is done; what is not given stays.',
      params: s.TaskPath,
      body: strict({
        title: Type.Optional(Title),
        description: Type.Optional(Description),
        completed: Type.Optional(Type.Boolean()),
      }),
      bodyExample: { completed: true },
      answers: { 200: { schema: s.Task, example: exampleTask, doc: 'As it is then.' } },
      refusals: [404, 409],
      async handle(c) {
        const { title, description, completed } = c.body
        const made = await run(c, 'update_task', {
          task_id: c.params.id,
          ...(title === undefined ? {} : { title }),
          ...(description === undefined ? {} : { description: description ?? '' }),
          ...(completed === undefined ? {} : { completed }),
        })
        if (!('updated_at' in made) || !made.rest) throw new Error('update_task gave no task')
        const { task_id, title: newTitle, description: newDescription, updated_at, rest } = made
        const body = { id: task_id, title: newTitle, description: newDescription, updated_at, ...rest }
        return { status: 200, body }
      },
    }),
    route({
      method: 'DELETE',
      path: '/tasks/:id',
      auth: 'bearer',
      tag: 'tasks',
      summary: 'Deletes a task for good.',
      params: s.TaskPath,
      answers: { 204: { doc: 'It is gone.' } },
      refusals: [404, 409],
      async handle(c) {
        await run(c, 'delete_task', { task_id: c.params.id })
        return { status: 204 }
      },
    }),
    route({
      method: 'POST',
      path: '/mcp',
      auth: 'bearer',
      checksOrigin: true,
      tag: 'tasks',
      summary: 'The tools over Streamable HTTP (Model Context Protocol), one JSON-RPC message or batch a request.',
      body: Type.Unsafe<unknown>({}),
      bodyExample: { jsonrpc: '2.0', id: 1, method: 'tools/list' },
      answers: {
        200: {
          schema: Type.Unsafe<unknown>({}),
          example: { jsonrpc: '2.0', id: 1, result: {} },
          doc: 'The answer, as JSON-RPC.',
        },
        202: { doc: 'Notifications and answers were taken.' },
      },
      refusals: [403, 404],
      async handle(c) {
        // No session was ever given out, so one that is named is somebody else's invention.
        if (c.raw.headers['mcp-session-id'] !== undefined) throw notFound('There is no such session.')
        const key = keyOf(c)
        const server = createMcpServer(tasks, {
          userId: c.principal.userId,
          door: 'mcp',
          requestId: c.requestId,
          ...(key === undefined ? {} : { idempotencyKey: key }),
          onError: error => log.error('a tool call failed', { requestId: c.requestId, err: error }),
        })
        const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true })
        try {
          await server.connect(transport as Parameters<typeof server.connect>[0])
          const response = await transport.handleRequest(
            new Request('http://mcp/', {
              method: 'POST',
              headers: {
                'content-type': 'application/json',
                // Only JSON is answered here, and who takes JSON is served.
                accept: 'application/json, text/event-stream',
                ...protocolVersionOf(c),
              },
              body: '{}',
            }),
            { parsedBody: c.body },
          )
          const text = await response.text()
          if (response.status >= 400) throw new Refusal(response.status, 'INVALID_REQUEST', reasonOf(text))
          return text === '' ? { status: response.status } : { status: response.status, json: text }
        } finally {
          await server.close()
        }
      },
    }),
  ]
}

function keyOf(c: Context): string | undefined {
  const key = c.raw.headers['idempotency-key']
  if (key === undefined) return undefined
  if (!isKey(key)) throw invalid('This idempotency key cannot be used.', 'idempotency-key')
  return key
}

function protocolVersionOf(c: Context): Record<string, string> {
  const version = c.raw.headers['mcp-protocol-version']
  return version === undefined ? {} : { 'mcp-protocol-version': String(version) }
}

function reasonOf(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: string } }
    if (typeof error?.message === 'string') return error.message.slice(0, 300)
  } catch {}
  return 'The request is not valid.'
}

function refusalOf({ error, message, similar_tasks }: ToolFailure): Refusal {
  switch (error) {
    case 'InvalidTitle':
      return invalid(message, 'title')
    case 'InvalidStatus':
      return invalid(message, 'status')
    case 'InvalidInput':
      return invalid(message)
    case 'Unauthorized':
      return new Refusal(403, 'FORBIDDEN', message)
    case 'TaskNotFound':
      return new Refusal(404, 'NOT_FOUND', message, { similar_tasks: similar_tasks ?? [] })
    case 'AlreadyCompleted':
    case 'OperationFailed':
      return conflict(message)
    default:
      return error satisfies never
  }
}
