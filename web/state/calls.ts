/**
 * What a call of a tool looks like to a person: its state, the words for it, who may decide, and which calls fold. Pure.
 * Refuses to believe a call done that no result shows.
 */
import type { MemberRole, ToolPolicy } from '#protos/catalogue.ts'
import type { TimelineCall } from '#protos/timeline.ts'
import { t } from '../i18n/t.ts'
import { exactTime } from '../i18n/time.ts'
import { isolated, visible } from '../text/values.ts'

export type CallState = 'running' | 'waiting' | 'done' | 'failed' | 'refused'

/** `isLive`: its answer is still being written. A call that outlived its answer did nothing that anybody knows of. */
export function stateOf(call: TimelineCall, isLive: boolean): CallState {
  if (call.status === 'success') return 'done'
  const isUndecided = call.approval === 'required' && call.decision === undefined
  if (call.decision === 'reject') return 'refused'
  if (!isLive || call.status === 'error') return isUndecided ? 'refused' : 'failed'
  return isUndecided ? 'waiting' : 'running'
}

export type Decided = 'allowed' | 'refused' | 'expired' | 'over'

/** How an approval ended; undefined while it waits. `over`: its answer ended before anyone decided. */
export function decidedOf(call: TimelineCall, isLive: boolean): Decided | undefined {
  if (call.decision === 'approve') return 'allowed'
  if (call.decision === 'reject') return call.by === undefined ? 'expired' : 'refused'
  return isLive && call.status === undefined ? undefined : 'over'
}

export interface Decider {
  policy: ToolPolicy
  me: string
  myRole: MemberRole
  /** Unknown where the question lies before what is loaded. */
  requestedBy: string | undefined
}

/** Whether the buttons are shown. The server decides again. */
export function mayDecide({ policy, me, myRole, requestedBy }: Decider): boolean {
  if (requestedBy === me || policy === 'members') return true
  return policy === 'admins' && myRole !== 'member'
}

/** Done calls in a row, from this many on, are shown as one line. */
export const foldFrom = 4

export type Segment = { kind: 'call'; call: TimelineCall } | { kind: 'fold'; calls: readonly TimelineCall[] }

/** Calls in order; runs of finished ones that nobody had to decide become one, save those opened. */
export function segmentsOf(calls: readonly TimelineCall[], isLive: boolean, opened: ReadonlySet<string>): Segment[] {
  const segments: Segment[] = []
  let run: TimelineCall[] = []
  const close = () => {
    if (run.length >= foldFrom) segments.push({ kind: 'fold', calls: run })
    else segments.push(...run.map(call => ({ kind: 'call' as const, call })))
    run = []
  }
  for (const call of calls) {
    if (call.approval === 'auto' && !opened.has(call.callId) && stateOf(call, isLive) === 'done') run.push(call)
    else {
      close()
      segments.push({ kind: 'call', call })
    }
  }
  close()
  return segments
}

// --- words ---------------------------------------------------------------------------------------------------------

export const knownTools = ['add_task', 'list_tasks', 'complete_task', 'delete_task', 'update_task'] as const
export type KnownTool = (typeof knownTools)[number]

export const toolOf = (name: string): KnownTool | 'other' => knownTools.find(known => known === name) ?? 'other'

/** A tool of another server, as people know it: `server__tool`, told apart. */
export function foreignOf(name: string): { server: string; tool: string } | undefined {
  const at = name.indexOf('__')
  return at > 0 ? { server: visible(name.slice(0, at)), tool: visible(name.slice(at + 2)) } : undefined
}

/** What a tool is called in a sentence. */
export function nameOf(name: string): string {
  const foreign = foreignOf(name)
  return foreign ? t('tool.from', foreign) : visible(name)
}

/** Task id → title, as the calls' results told them; later ones win. */
export function titlesOf(calls: readonly TimelineCall[]): ReadonlyMap<string, string> {
  const titles = new Map<string, string>()
  const add = (id: unknown, title: unknown) => {
    if (typeof id === 'string' && typeof title === 'string') titles.set(id, title)
  }
  for (const { result } of calls) {
    const told = record(result)
    add(told['task_id'], told['title'])
    if (Array.isArray(told['tasks'])) for (const task of told['tasks']) add(record(task)['id'], record(task)['title'])
  }
  return titles
}

/** The title of the task that a call is about, isolated so that its direction stays its own. */
export function titleOf(call: TimelineCall, titles: ReadonlyMap<string, string>): string | undefined {
  const args = record(call.arguments)
  const known = call.name === 'add_task' ? args['title'] : titles.get(String(args['task_id']))
  const title = record(call.result)['title'] ?? known
  return typeof title === 'string' && title !== '' ? isolated(visible(title)) : undefined
}

/** How many tasks a list call found. */
export function countOf(call: TimelineCall): number | undefined {
  const { total, tasks } = record(call.result)
  return typeof total === 'number' ? total : Array.isArray(tasks) ? tasks.length : undefined
}

/** A result as it is shown: without what the card says by itself, and without a name where only a text is left. */
export function shownResult({ name, result }: TimelineCall): unknown {
  if (typeof result !== 'object' || result === null || Array.isArray(result)) return result
  const said = new Set(['success', 'truncated'])
  if ('message' in result) for (const key of ['error', 'message']) said.add(key)
  if (foreignOf(name)) for (const key of ['from', 'untrusted']) said.add(key)
  const left = Object.entries(result).filter(([key]) => !said.has(key))
  if (left.length === 1 && left[0]![0] === 'text') return left[0]![1]
  const shown = toolOf(name) === 'other' ? left : left.flatMap(ours)
  return shown.length === 0 ? undefined : Object.fromEntries(shown)
}

/** A part of a result of our own tools in plain words: what is about one task, or the tasks of a list. */
function ours([key, value]: [string, unknown]): [string, unknown][] {
  if (key === 'tasks' && Array.isArray(value)) return value.map((task, i) => [`${i + 1}`, taskLine(record(task))])
  if (value === null || key === 'task_id' || key === 'total' || key === 'status_filter') return []
  const isTime = key.endsWith('_at') && typeof value === 'string' && !Number.isNaN(Date.parse(value))
  return [[key.replaceAll('_', ' '), isTime ? exactTime(value) : value]]
}

function taskLine({ title, completed }: Record<string, unknown>): string {
  return completed === true ? t('tool.taskDone', { title: String(title) }) : String(title)
}

/** Whether the end of a result is missing. */
export const isCut = (call: TimelineCall): boolean => record(call.result)['truncated'] === true

/** A failed call's own words. */
export function messageOfFailure(call: TimelineCall): string | undefined {
  const { message } = record(call.result)
  return typeof message === 'string' ? visible(message) : undefined
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}
