/**
 * The task tools as a server of the Model Context Protocol, by the official SDK: one server per caller, over whatever
 * transport its opener connects. Identity is the opener's word. Refuses to keep sessions and to know HTTP or processes.
 */
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import {
  CallToolRequestSchema,
  type CallToolResult,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
} from '@modelcontextprotocol/sdk/types.js'
import { toolKeyCharsMax } from '#protos/limits.ts'
import { isFailure, KeyConflict, type Tasks, type ToolResult } from './tasks.ts'
import { describeTools, failure, isToolName } from './tools.ts'

export interface McpCaller {
  userId: string
  door: 'mcp' | 'stdio'
  requestId?: string
  /** From the Idempotency-Key header; a call's own `_meta.idempotencyKey` goes before it. */
  idempotencyKey?: string
  /** Told of a call that failed through no fault of its arguments. */
  onError(error: unknown): void
}

export function createMcpServer(tasks: Tasks, caller: McpCaller): Server {
  const server = new Server(
    { name: 'parley', version: '0.1.0' },
    {
      capabilities: { tools: {} },
      instructions: 'The task list of one person. Look up ids with list_tasks before you change a task.',
    },
  )
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: describeTools(true).map(tool => ({
      ...tool,
      annotations: {
        readOnlyHint: tool.name === 'list_tasks',
        destructiveHint: tool.name === 'delete_task',
        openWorldHint: false,
      },
    })),
  }))
  server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
    const { name, arguments: args = {}, _meta } = params
    if (!isToolName(name)) throw new McpError(ErrorCode.InvalidParams, 'There is no such tool.')
    const key = _meta?.['idempotencyKey'] ?? caller.idempotencyKey
    if (key !== undefined && !isKey(key)) {
      return resultOf(failure('InvalidInput', `An idempotency key has 1 to ${toolKeyCharsMax} visible characters.`))
    }
    const { userId, door, requestId } = caller
    try {
      return resultOf(
        await tasks.run({
          userId,
          name,
          args,
          door,
          ...(key === undefined ? {} : { key: { kind: 'own', key } }),
          ...(requestId === undefined ? {} : { requestId }),
        }),
      )
    } catch (error) {
      if (error instanceof KeyConflict)
        return resultOf(failure('InvalidInput', 'This idempotency key was used for something else.'))
      caller.onError(error)
      return resultOf(failure('OperationFailed', 'It is not known whether this was done. Try again with the same key.'))
    }
  })
  return server
}

export function isKey(key: unknown): key is string {
  return typeof key === 'string' && key.length <= toolKeyCharsMax && /^[\x21-\x7e]+$/.test(key)
}

function resultOf(result: ToolResult): CallToolResult {
  return {
    content: [{ type: 'text', text: textOf(result) }],
    structuredContent: { ...result },
    ...(isFailure(result) ? { isError: true } : {}),
  }
}

/** The same for people, in a line. */
function textOf(result: ToolResult): string {
  if (isFailure(result)) return `${result.error}: ${result.message}`
  if ('tasks' in result) {
    const lines = result.tasks.map(task => `${task.completed ? '[x]' : '[ ]'} ${task.title} (${task.id})`)
    return [`${result.tasks.length} of ${result.total} tasks (${result.status_filter})`, ...lines].join('\n')
  }
  const verb =
    'deleted_at' in result
      ? 'Deleted'
      : 'completed_at' in result
        ? 'Done'
        : 'updated_at' in result
          ? 'Changed'
          : 'Added'
  return `${verb}: ${result.title} (${result.task_id})`
}
