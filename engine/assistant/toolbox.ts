/**
 * The tools of the assistant's own turns: what is offered, which calls need a person's word, and each call within its time.
 * The operator's table decides about approval; nothing that a model or a tool says does. Effects are in tasks.ts.
 */
import type { ModelCall, Toolbox } from '#engine/actor/ports.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import {
  jsonDepthMax,
  toolArgumentsBytesMax,
  toolNameCharsMax,
  toolResultBytesMax,
  toolTimeoutMs,
} from '#protos/limits.ts'
import { parseToolPermission, type ToolName, type ToolPermission } from '#protos/tools.ts'
import { isFailure, type Tasks, type ToolResult } from './tasks.ts'
import { canonicalHash, describeTools, failure, isToolName } from './tools.ts'

/** A call tries again this often while the database is away. */
const retryMs = 250

/** `given`: entries `name=permission` of the operator, checked with the settings, over the defaults. */
export function readPolicies(given: readonly string[]): Record<ToolName, ToolPermission> {
  const policies: Record<ToolName, ToolPermission> = {
    add_task: 'auto',
    list_tasks: 'auto',
    complete_task: 'auto',
    delete_task: 'ask',
    update_task: 'auto',
  }
  for (const entry of given) {
    const parsed = parseToolPermission(entry)
    if (parsed) policies[parsed[0]] = parsed[1]
  }
  return policies
}

export function createToolbox(deps: {
  tasks: Tasks
  policies: Record<ToolName, ToolPermission>
  clock: Clock
  log: Log
  metrics: Metrics
}): Toolbox {
  const { tasks, policies, clock, log, metrics } = deps
  const policyOf = (name: string): ToolPermission => (isToolName(name) ? policies[name] : 'off')

  return {
    offers: describeTools(false)
      .filter(tool => policies[tool.name] !== 'off')
      .map(({ name, description, inputSchema }) => ({ name, description, parameters: inputSchema })),

    read(call) {
      const name = fit(call.name, toolNameCharsMax)
      const args = argumentsOf(call)
      return {
        name,
        arguments: JSON.stringify(args),
        hash: canonicalHash(name, args).toString('hex'),
        approval: policyOf(name) === 'ask' ? 'required' : 'auto',
      }
    },

    async run({ runId, callId, requester, name, arguments: json, hint, trace }) {
      const startedAt = clock.mono()
      const request = {
        userId: requester,
        name,
        args: JSON.parse(json) as unknown,
        door: 'turn' as const,
        key: { kind: 'call' as const, runId, callId },
        requestId: trace,
        hint,
        isOff: isToolName(name) && policyOf(name) === 'off',
      }
      let isOver = false
      const work = async (): Promise<ToolResult> => {
        for (;;) {
          try {
            return await tasks.run(request)
          } catch (error) {
            log.warn('a tool call failed and is made again', { traceId: trace, err: error })
            await new Promise(go => setTimeout(go, retryMs).unref())
            if (isOver) return unknownOutcome
          }
        }
      }
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<ToolResult>(resolve => {
        timer = setTimeout(() => resolve(unknownOutcome), toolTimeoutMs)
      })
      const result = await Promise.race([work(), late])
      isOver = true
      clearTimeout(timer)
      const tool = isToolName(name) ? name : 'unknown'
      metrics.parley_tool_ms.observe({ tool }, clock.mono() - startedAt)
      metrics.parley_tool_calls_total.inc({ tool, outcome: isFailure(result) ? result.error : 'success' })
      return { status: isFailure(result) ? 'error' : 'success', result: cut(result) }
    },
  }
}

const unknownOutcome = failure('OperationFailed', 'It is not known whether this was done.')

/** What the model wrote as a value that can be stored; what is no JSON object stays the text that it is. */
function argumentsOf(call: ModelCall): unknown {
  const text = call.arguments
  if (Buffer.byteLength(text) > toolArgumentsBytesMax) return '(too long)'
  if (text.trim() === '') return {}
  try {
    const value = JSON.parse(text) as unknown
    if (typeof value === 'object' && value !== null && isPlain(value, 0)) return value
  } catch {}
  return fit(text, 1000)
}

/** Nothing in it that the log cannot hold, and not nested deep. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value === 'string') return value.isWellFormed() && !value.includes('\0')
  if (typeof value !== 'object' || value === null) return true
  // The frame around it is nested too.
  if (depth > jsonDepthMax - 4) return false
  return Object.entries(value).every(([key, inner]) => isPlain(key, depth) && isPlain(inner, depth + 1))
}

function fit(text: string, charsMax: number): string {
  return Array.from(text.toWellFormed().replaceAll('\0', '\ufffd')).slice(0, charsMax).join('')
}

/** JSON within the limit: a list loses its end, and says so. */
function cut(result: ToolResult): string {
  let json = JSON.stringify(result)
  if (!('tasks' in result)) return json
  for (let keep = result.tasks.length; Buffer.byteLength(json) > toolResultBytesMax; ) {
    keep = Math.floor(keep * 0.8)
    json = JSON.stringify({ ...result, tasks: result.tasks.slice(0, keep), truncated: true })
  }
  return json
}
