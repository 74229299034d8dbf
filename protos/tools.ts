/** Names of the task tools and what an operator may say of each: for settings and for the tools themselves. Owns no schema. */

export const toolNames = ['add_task', 'list_tasks', 'complete_task', 'delete_task', 'update_task'] as const
export type ToolName = (typeof toolNames)[number]

/** auto: runs at once; ask: a person allows it first; off: it is not offered. */
export const toolPermissions = ['auto', 'ask', 'off'] as const
export type ToolPermission = (typeof toolPermissions)[number]

/** An entry `name=permission` of a list; undefined when it is none. */
export function parseToolPermission(entry: string): [name: ToolName, permission: ToolPermission] | undefined {
  const [name, permission, more] = entry.split('=').map(part => part.trim())
  const isKnown = (toolNames as readonly (string | undefined)[]).includes(name)
  const isWord = (toolPermissions as readonly (string | undefined)[]).includes(permission)
  return isKnown && isWord && more === undefined ? [name as ToolName, permission as ToolPermission] : undefined
}
