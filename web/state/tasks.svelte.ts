/**
 * One's own task list: read by REST when somebody looks, then kept in step by what the assistant's tools returned and by
 * what is changed here. A change shows at once and is taken back if the server refuses. Refuses to guess: what it cannot
 * fold it reads again.
 */
import { SvelteMap } from 'svelte/reactivity'
import type { DurableFrame } from '#protos/catalogue.ts'
import { tasksPerUserMax } from '#protos/limits.ts'
import { reasonOf, t } from '../i18n/t.ts'
import type { Api, ApiFailure, TaskDto } from '../wire/api.ts'
import { dropped, foldResult, inserted, put } from './task-list.ts'

/** A deleted task can be brought back for this long; only then does the server hear of it. */
export const undoMs = 5000

export class Tasks {
  readonly #api: Api
  readonly #me: string
  items: readonly TaskDto[] = $state.raw([])
  loaded: 'no' | 'yes' | 'failed' = $state('no')
  /** Why the last change was not taken, in words. */
  problem = $state('')
  /** Tasks on their way out, by id. */
  readonly leaving = new SvelteMap<string, ReturnType<typeof setTimeout>>()
  #reading: Promise<void> | undefined
  #isStale = false

  constructor(api: Api, me: string) {
    this.#api = api
    this.#me = me
  }

  readonly open = $derived.by(() => this.items.filter(task => !task.completed))
  readonly done = $derived.by(() => this.items.filter(task => task.completed))

  /** Reads the list. Callers at the same time share one reading, and one more follows if something changed meanwhile. */
  read(): Promise<void> {
    this.#isStale = true
    this.#reading ??= this.#readAll().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  /** Reads it again if anybody has looked at it. */
  refresh(): void {
    if (this.loaded !== 'no') void this.read()
  }

  async #readAll(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false
      const items: TaskDto[] = []
      let after: string | undefined
      do {
        const page = await this.#api.tasks(after)
        if ('failure' in page) {
          if (this.loaded === 'no') this.loaded = 'failed'
          return
        }
        items.push(...page.value.items)
        after = page.value.next
      } while (after !== undefined && items.length < tasksPerUserMax)
      if (this.#isStale) continue
      this.#set(items)
      this.loaded = 'yes'
    }
  }

  /** A tool returned somewhere: `requestedBy` owns the tasks; undefined: it is not known here. */
  follow(frame: DurableFrame<'tool.returned'>, requestedBy: string | undefined): void {
    if (this.loaded === 'no' || frame.status !== 'success') return
    if (requestedBy !== undefined && requestedBy !== this.#me) return
    if (frame.name === 'list_tasks') return
    const isMine = requestedBy === this.#me
    const items = isMine ? foldResult(this.items, frame.name, frame.result, frame.ts) : undefined
    if (items) this.#set(items)
    // What is being read may be older than this.
    if (!items || this.#reading) void this.read()
  }

  async add(title: string): Promise<boolean> {
    const answer = await this.#api.addTask(title)
    if ('failure' in answer) return this.#failed(answer.failure)
    this.problem = ''
    this.#set(inserted(this.items, answer.value))
    return true
  }

  async change(task: TaskDto, change: { title?: string; completed?: boolean }): Promise<boolean> {
    this.#set(put(this.items, { ...task, ...change }))
    const answer = await this.#api.changeTask(task.id, change)
    if ('failure' in answer) {
      this.#set(answer.failure.status === 404 ? dropped(this.items, task.id) : put(this.items, task))
      return this.#failed(answer.failure)
    }
    this.problem = ''
    this.#set(put(this.items, answer.value))
    return true
  }

  /** Takes a task out after the time for second thoughts. */
  remove(task: TaskDto): void {
    if (this.leaving.has(task.id)) return
    this.leaving.set(
      task.id,
      setTimeout(() => void this.#delete(task), undoMs),
    )
  }

  undo(id: string): void {
    clearTimeout(this.leaving.get(id))
    this.leaving.delete(id)
  }

  async #delete(task: TaskDto): Promise<void> {
    const answer = await this.#api.deleteTask(task.id)
    this.leaving.delete(task.id)
    if ('failure' in answer && answer.failure.status !== 404) this.#failed(answer.failure)
    else this.#set(dropped(this.items, task.id))
  }

  /** What was still to be deleted stays: nobody sees any more that it would go. */
  dispose(): void {
    for (const timer of this.leaving.values()) clearTimeout(timer)
    this.leaving.clear()
  }

  #set(items: readonly TaskDto[]): void {
    this.items = items
    for (const id of this.leaving.keys()) if (!items.some(task => task.id === id)) this.undo(id)
  }

  #failed({ status, code }: ApiFailure): false {
    this.problem = t('find.failed', { reason: status === 404 ? t('tasks.gone') : reasonOf(code) })
    return false
  }
}
