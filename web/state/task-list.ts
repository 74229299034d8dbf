/**
 * The task list as the tools' results change it. Pure. Refuses to guess: a result that does not say what it did is
 * answered with nothing, and the list has to be read again.
 */
import type { TaskDto } from '../wire/api.ts'

type Items = readonly TaskDto[]

/** What one successful call did to the list; undefined: that cannot be told from its result. */
export function foldResult(items: Items, name: string | undefined, result: unknown, ts: string): Items | undefined {
  const told = (typeof result === 'object' && result !== null ? result : {}) as Partial<Record<string, string | null>>
  const { task_id: id, title, description = null } = told
  if (!id || !title) return undefined
  const known = items.find(task => task.id === id)
  switch (name) {
    case 'add_task': {
      const createdAt = told['created_at'] ?? ts
      const times = { created_at: createdAt, updated_at: createdAt, completed_at: null }
      return known ? items : inserted(items, { id, title, description, completed: false, ...times })
    }
    case 'complete_task':
      return known && put(items, { ...known, completed: true, completed_at: told['completed_at'] ?? ts })
    case 'update_task':
      return known && put(items, { ...known, title, description, updated_at: told['updated_at'] ?? ts })
    case 'delete_task':
      return dropped(items, id)
    default:
      return undefined
  }
}

/** In the server's order, oldest first. Calls of one round return in any. */
export function inserted(items: Items, task: TaskDto): Items {
  if (items.some(one => one.id === task.id)) return put(items, task)
  const rank = ({ created_at, id }: TaskDto) => created_at + id
  const at = items.findIndex(one => rank(one) > rank(task))
  return at < 0 ? [...items, task] : items.toSpliced(at, 0, task)
}

/** A task that is not in the list is not put into it. */
export function put(items: Items, task: TaskDto): Items {
  const at = items.findIndex(one => one.id === task.id)
  return at < 0 ? items : items.with(at, task)
}

export const dropped = (items: Items, id: string): Items => items.filter(task => task.id !== id)
