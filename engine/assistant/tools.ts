/**
 * The five task tools as a model or a program sees them: names, schemas, and the strict reading of arguments. Pure.
 * Refuses what it does not know; identity never comes from arguments. Effects are in tasks.ts.
 */
import { createHash } from 'node:crypto'
import { codePoints, isStorable } from '#protos/field.ts'
import { parseId } from '#protos/ids.ts'
import {
  taskDescriptionCharsMax,
  taskQueryCharsMax,
  tasksPageDefault,
  tasksPageMax,
  taskTitleCharsMax,
} from '#protos/limits.ts'
import { type ToolName, toolNames } from '#protos/tools.ts'

export type ToolErrorKind =
  | 'InvalidTitle'
  | 'InvalidStatus'
  | 'InvalidInput'
  | 'Unauthorized'
  | 'TaskNotFound'
  | 'AlreadyCompleted'
  | 'OperationFailed'

export interface ToolFailure {
  success: false
  error: ToolErrorKind
  message: string
  /** Of TaskNotFound: one's own tasks that may have been meant. */
  similar_tasks?: { id: string; title: string }[]
}

export const taskStatuses = ['all', 'pending', 'completed'] as const
export type TaskStatus = (typeof taskStatuses)[number]

/** A call whose arguments hold. Texts are trimmed; an empty description means none. */
export type TaskCall =
  | { name: 'add_task'; title: string; description: string | null }
  | { name: 'list_tasks'; status: TaskStatus; limit: number; query: string | undefined }
  | { name: 'complete_task'; taskId: string | undefined }
  | { name: 'delete_task'; taskId: string | undefined }
  | {
      name: 'update_task'
      taskId: string | undefined
      title: string | undefined
      description: string | null | undefined
      /** From REST alone: whether it shall count as done. */
      completed: boolean | undefined
    }

/** Where a call comes from: a turn of the assistant, a program over HTTP or stdio, REST. */
export type Door = 'turn' | 'mcp' | 'stdio' | 'rest'

interface Spec {
  description: string
  properties: Record<string, Record<string, unknown>>
  required: readonly string[]
}

const taskId = { type: 'string', format: 'uuid', description: 'The id of the task, as list_tasks gives it.' }
const title = { type: 'string', minLength: 1, maxLength: taskTitleCharsMax, description: 'What is to be done.' }
const description = { type: 'string', maxLength: taskDescriptionCharsMax, description: 'More about it.' }

const specs: Record<ToolName, Spec> = {
  add_task: {
    description: 'Adds one task to the list of the person who asks. Call it once for each item.',
    properties: { title, description },
    required: ['title'],
  },
  list_tasks: {
    description: 'Lists the tasks of the person who asks, oldest first.',
    properties: {
      status: { type: 'string', enum: [...taskStatuses], description: 'Which tasks; all by default.' },
      limit: { type: 'integer', minimum: 1, maximum: tasksPageMax, description: `${tasksPageDefault} by default.` },
      query: { type: 'string', maxLength: taskQueryCharsMax, description: 'Words of the title or the description.' },
    },
    required: [],
  },
  complete_task: {
    description: 'Marks one task as done. Look up its id with list_tasks first.',
    properties: { task_id: taskId },
    required: ['task_id'],
  },
  delete_task: {
    description: 'Deletes one task for good. The person is asked before it happens.',
    properties: { task_id: taskId },
    required: ['task_id'],
  },
  update_task: {
    description: 'Changes the title or the description of one task; what is not given stays.',
    properties: { task_id: taskId, title, description },
    required: ['task_id'],
  },
}

export interface ToolDescription {
  name: ToolName
  description: string
  inputSchema: {
    type: 'object'
    properties: Record<string, Record<string, unknown>>
    required: string[]
    additionalProperties: false
  }
}

/** `isPublic`: with the optional `user_id` that outside programs may send; a model is shown none. */
export function describeTools(isPublic: boolean): ToolDescription[] {
  const userId = { type: 'string', description: 'Your own id; it may be left out.' }
  return toolNames.map(name => ({
    name,
    description: specs[name].description,
    inputSchema: {
      type: 'object',
      properties: { ...specs[name].properties, ...(isPublic ? { user_id: userId } : {}) },
      required: [...specs[name].required],
      additionalProperties: false,
    },
  }))
}

export function isToolName(name: string): name is ToolName {
  return (toolNames as readonly string[]).includes(name)
}

export const failure = (error: ToolErrorKind, message: string): ToolFailure => ({ success: false, error, message })

/** Reads arguments for `userId`. From programs a `user_id` may be there and must be the caller's own. */
export function parseCall(
  name: ToolName,
  args: unknown,
  userId: string,
  door: Door,
): { call: TaskCall } | { failure: ToolFailure } {
  const wrong = (message: string, error: ToolErrorKind = 'InvalidInput') => ({ failure: failure(error, message) })
  if (typeof args !== 'object' || args === null || Array.isArray(args)) return wrong('The arguments must be an object.')
  const given = args as Record<string, unknown>
  const known = specs[name].properties
  const isPublic = door === 'mcp' || door === 'stdio'
  const isRestUpdate = door === 'rest' && name === 'update_task'
  // Somebody else's id is refused as that wherever it comes from; one's own only where a program may send it.
  if (given['user_id'] !== undefined) {
    const id = given['user_id']
    if (typeof id !== 'string' || id.toLowerCase() !== userId) return wrong('This is not your id.', 'Unauthorized')
  }
  for (const key of Object.keys(given)) {
    if ((isPublic && key === 'user_id') || (isRestUpdate && key === 'completed')) continue
    if (!Object.hasOwn(known, key)) return wrong(`There is no argument "${key.slice(0, 64)}".`)
  }
  const read = readers[name](given)
  return typeof read === 'object' && 'success' in read ? { failure: read } : { call: read }
}

const readers: Record<ToolName, (given: Record<string, unknown>) => TaskCall | ToolFailure> = {
  add_task(given) {
    const title = readTitle(given['title'])
    if (title === undefined) return failure('InvalidTitle', titleRule)
    const description = readText(given['description'] ?? '', taskDescriptionCharsMax)
    if (description === undefined) return failure('InvalidInput', descriptionRule)
    return { name: 'add_task', title, description: description || null }
  },
  list_tasks(given) {
    const status = given['status'] ?? 'all'
    if (!taskStatuses.includes(status as TaskStatus))
      return failure('InvalidStatus', `status is one of ${taskStatuses.join(', ')}.`)
    const limit = given['limit'] ?? tasksPageDefault
    if (!Number.isInteger(limit) || (limit as number) < 1 || (limit as number) > tasksPageMax)
      return failure('InvalidInput', `limit is a whole number from 1 to ${tasksPageMax}.`)
    const query = readText(given['query'] ?? '', taskQueryCharsMax)
    if (query === undefined)
      return failure('InvalidInput', `query is a text of at most ${taskQueryCharsMax} characters.`)
    return { name: 'list_tasks', status: status as TaskStatus, limit: limit as number, query: query || undefined }
  },
  complete_task: given => withTask(given, taskId => ({ name: 'complete_task', taskId })),
  delete_task: given => withTask(given, taskId => ({ name: 'delete_task', taskId })),
  update_task: given =>
    withTask(given, taskId => {
      const { title: rawTitle, description: rawDescription } = given
      // Only REST lets it come this far; see parseCall.
      const completed = typeof given['completed'] === 'boolean' ? given['completed'] : undefined
      if (rawTitle === undefined && rawDescription === undefined && completed === undefined)
        return failure('InvalidInput', 'Give a title or a description.')
      const title = rawTitle === undefined ? undefined : readTitle(rawTitle)
      if (rawTitle !== undefined && title === undefined) return failure('InvalidInput', titleRule)
      const description = rawDescription === undefined ? undefined : readText(rawDescription, taskDescriptionCharsMax)
      if (rawDescription !== undefined && description === undefined) return failure('InvalidInput', descriptionRule)
      return {
        name: 'update_task',
        taskId,
        title,
        description: description === undefined ? undefined : description || null,
        completed,
      }
    }),
}

const titleRule = `A title has 1 to ${taskTitleCharsMax} characters, not only white space.`
const descriptionRule = `A description has at most ${taskDescriptionCharsMax} characters.`

/** A text that is no id names no task; that is no other error than a missing one. */
function withTask(
  given: Record<string, unknown>,
  make: (taskId: string | undefined) => TaskCall | ToolFailure,
): TaskCall | ToolFailure {
  const id = given['task_id']
  if (typeof id !== 'string') return failure('InvalidInput', 'task_id is missing or no text.')
  return make(parseId(id))
}

function readTitle(value: unknown): string | undefined {
  return readText(value, taskTitleCharsMax) || undefined
}

/** Trimmed, in code points. */
function readText(value: unknown, charsMax: number): string | undefined {
  if (typeof value !== 'string' || value.length > charsMax * 8 || !isStorable(value)) return undefined
  const text = value.trim()
  return codePoints(text) <= charsMax ? text : undefined
}

/** SHA-256 over the tool's name and its arguments with sorted keys: what an approval and a key stand for. */
export function canonicalHash(name: string, args: unknown): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([name, sorted(args)]))
    .digest()
}

/** Objects with their keys in order, so that the same value is the same text. */
export function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([k, v]) => [k, sorted(v)]),
  )
}
