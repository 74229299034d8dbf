/**
 * C12: what a fault left behind. Compares counts from before with counts after quiet: sockets, links, descriptors, connections,
 * keys exactly; memory within a factor. Pure; refuses to say where a leak is.
 */
import { Problems } from './checkers.ts'

/** Name of a resource → how many there are. */
export type Resources = Record<string, number>

export interface ResourceRule {
  match: RegExp
  /** exact: the same count. A number: at most so many times as much. */
  allow: 'exact' | number
}

export const resourceRules: ResourceRule[] = [
  { match: / rss$/, allow: 1.5 },
  { match: / heap$/, allow: 1.2 },
  { match: /./, allow: 'exact' },
]

export function checkResources(
  when: string,
  before: Resources,
  after: Resources,
  rules: readonly ResourceRule[] = resourceRules,
): string[] {
  const problems = new Problems('C12')
  for (const [name, count] of Object.entries(before)) {
    const now = after[name]
    const rule = rules.find(r => r.match.test(name))
    if (now === undefined) problems.add(`${when}: ${name} cannot be counted any more`)
    else if (rule?.allow === 'exact' && now !== count) problems.add(`${when}: ${name} was ${count} and is ${now}`)
    else if (typeof rule?.allow === 'number' && now > count * rule.allow)
      problems.add(`${when}: ${name} grew from ${count} to ${now}`)
  }
  return problems.list
}

/** Lines of a service's log that must not be there. */
export function checkLogs(lines: readonly string[]): string[] {
  const problems = new Problems('C12')
  for (const line of lines) {
    if (/nobody handled a failure|unhandledRejection|UnhandledPromiseRejection/.test(line))
      problems.add(`an unhandled rejection: ${line.slice(0, 300)}`)
    if (/parley_bad_commands|a position was taken already/.test(line))
      problems.add(`a broken rule: ${line.slice(0, 300)}`)
  }
  return problems.list
}
