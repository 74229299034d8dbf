/**
 * Errands of the built-in model on the task list: from what was said and what the tools answered so far, the next calls or
 * the words that end the turn. Pure. Never claims an effect that no result shows; asks where more than one task fits.
 */
import { type Intent, intentOf, replyOf } from './intents.ts'
import { similarTitles } from './similar.ts'

/** One thing that was said, oldest first; the last one is the question. */
export interface Said {
  /** Undefined: the assistant itself. */
  by: string | undefined
  text: string
}

export interface CallMade {
  name: string
  arguments: Record<string, unknown>
  /** The tool's structured answer; undefined when it cannot be read. */
  result: Record<string, unknown> | undefined
}

export type Next = { say: string } | { calls: { name: string; arguments: Record<string, unknown> }[] }

interface Task {
  id: string
  title: string
  description?: string | null
  completed: boolean
}

type Wish = Intent & {
  /** Of several that fit, the one that was chosen: 1 is the first, -1 the last. */ ordinal?: number
}

const whichOne = 'Which one do you mean?'
const whichDescription = 'What should the description say?'
const whichTitle = 'What should it be called?'
const whichChange = 'What should I change: the title or the description, and to what?'
const manyMax = 20

/** Undefined: nobody wants anything of the list. `rounds`: what was called in this turn, round by round. */
export function errand(said: readonly Said[], rounds: readonly (readonly CallMade[])[]): Next | undefined {
  const wish = wishAt(said, said.length - 1)
  if (!wish) return undefined
  const [first, second] = rounds
  switch (wish.kind) {
    case 'clarify':
      return {
        say: `What would you like to do with ${quote(wish.about)}: see what is on it, add something, or mark something done?`,
      }
    case 'create':
      if (!first)
        return { calls: wish.titles.slice(0, manyMax).map(title => ({ name: 'add_task', arguments: { title } })) }
      return { say: toldAdded(first) }
    case 'list':
      if (!first) {
        const query = wish.query === undefined ? {} : { query: wish.query }
        return { calls: [{ name: 'list_tasks', arguments: { status: wish.status, ...query } }] }
      }
      return { say: toldList(first[0], wish) }
    case 'purge':
      if (!first) return list(wish.status)
      return second ? { say: toldDeleted(second) } : purge(first[0], wish.status)
    case 'complete':
    case 'delete':
      if (!first) return list(wish.kind === 'complete' ? 'pending' : 'all')
      if (second) return { say: wish.kind === 'complete' ? toldDone(second[0], first[0]) : toldDeleted(second) }
      return onOne(first[0], wish, id => ({ name: `${wish.kind}_task`, arguments: { task_id: id } }))
    case 'update': {
      if (wish.wants === 'description') return { say: whichDescription }
      if (wish.wants === 'title') return { say: whichTitle }
      if (wish.wants === 'change') return { say: whichChange }
      if (!first) return list('all')
      if (second) return { say: toldUpdated(second[0]) }
      const { title, description } = wish
      const changes = {
        ...(title === undefined ? {} : { title }),
        ...(description === undefined ? {} : { description }),
      }
      return onOne(first[0], wish, id => ({ name: 'update_task', arguments: { task_id: id, ...changes } }))
    }
    default:
      return wish satisfies never
  }
}

// --- what is wanted, with what was said before ------------------------------------------------------------------------------

/** The wish of the person's message at `index`; an answer to a question of ours completes the wish before it. */
function wishAt(said: readonly Said[], index: number): Wish | undefined {
  const { by, text } = said[index] ?? { by: undefined, text: '' }
  if (by === undefined) return undefined
  const before = said.slice(0, index).findLastIndex(one => one.by === by)
  const asked = said.slice(before + 1, index).find(one => one.by === undefined)?.text ?? ''
  if (before >= 0 && asked !== '') {
    const completed = completedWish(said, before, asked, text)
    if (completed) return completed
  }
  const wish = intentOf(text)
  if (!wish || !('what' in wish) || !pronoun.test(wish.what)) return wish
  // "it" is what we spoke of last, if that was one thing.
  const spoken = said.slice(0, index).findLast(one => one.by === undefined)?.text ?? ''
  const titles = boldIn(spoken)
  return { ...wish, what: titles.length === 1 ? titles[0]! : '' }
}

const pronoun = /^(?:it|that|this|(?:that|this) one|(?:that|this)(?: old)?)$/iu

function completedWish(said: readonly Said[], before: number, asked: string, text: string): Wish | undefined {
  const isAboutDescription = asked.includes(whichDescription)
  const isAboutTitle = asked.includes(whichTitle)
  const isChoice = asked.includes(whichOne)
  const meant = /Do you mean \*\*(.+?)\*\*\?/u.exec(asked)?.[1]
  if (!isAboutDescription && !isAboutTitle && !isChoice && meant === undefined) return undefined
  const reply = replyOf(text)
  if (reply?.kind === 'no') return undefined
  const open = wishAt(said, before)
  if (!open || !('what' in open)) return undefined
  if (isAboutDescription || isAboutTitle) {
    if (open.kind !== 'update' || intentOf(text)) return undefined
    const { wants: _, ...rest } = open
    const words = text.trim().replace(/^["“'](.*)["”']$/u, '$1')
    return isAboutDescription ? { ...rest, description: words } : { ...rest, title: words }
  }
  if (meant !== undefined) return reply?.kind === 'yes' ? { ...open, what: meant } : undefined
  if (reply?.kind === 'choose') return { ...open, ordinal: reply.ordinal }
  const named = boldIn(asked).filter(title => fits(title, text))
  return named.length === 1 ? { ...open, what: named[0]! } : undefined
}

// --- the tasks that are meant ---------------------------------------------------------------------------------------------------

const list = (status: string): Next => ({ calls: [{ name: 'list_tasks', arguments: { status, limit: 100 } }] })

function tasksIn(call: CallMade | undefined): Task[] | undefined {
  const tasks = call?.result?.['tasks']
  return Array.isArray(tasks) ? (tasks as Task[]) : undefined
}

function onOne(
  listed: CallMade | undefined,
  wish: Wish & { what: string },
  call: (id: string) => { name: string; arguments: Record<string, unknown> },
): Next {
  const tasks = tasksIn(listed)
  if (!tasks) return { say: toldFailure(listed) }
  const found = matching(tasks, wish.what)
  const chosen = wish.ordinal === undefined ? undefined : found.at(wish.ordinal > 0 ? wish.ordinal - 1 : wish.ordinal)
  if (chosen) return { calls: [call(chosen.id)] }
  if (found.length === 1) return { calls: [call(found[0]!.id)] }
  if (found.length > 1) {
    const lines = found.slice(0, manyMax).map((one, i) => `${i + 1}. **${one.title}**`)
    return { say: [`${number(found.length)} tasks fit. ${whichOne}`, '', ...lines].join('\n') }
  }
  if (tasks.length === 0) return { say: wish.kind === 'complete' ? 'You have no open tasks.' : 'Your list is empty.' }
  const [closest] = similarTitles(tasks, wish.what)
  const isNear = closest !== undefined && shares(closest.title, wish.what)
  return {
    say: `I found no task like ${quote(wish.what)}. ${isNear ? `Do you mean **${closest.title}**?` : 'Say *show my tasks* to see what there is.'}`,
  }
}

/** A whole title goes before titles that hold all the words; no words at all fit everything. */
function matching(tasks: readonly Task[], what: string): Task[] {
  const same = tasks.filter(one => one.title.toLowerCase() === what.toLowerCase())
  return same.length > 0 ? same : tasks.filter(one => fits(one.title, what))
}

function fits(title: string, what: string): boolean {
  const has = wordsOf(title)
  return wordsOf(what).every(word => has.includes(word))
}

function shares(title: string, what: string): boolean {
  const triples = (text: string) =>
    wordsOf(text).flatMap(w => Array.from({ length: Math.max(1, w.length - 2) }, (_, i) => w.slice(i, i + 3)))
  const has = new Set(triples(title))
  return triples(what).some(triple => has.has(triple))
}

/** Words without their plural, without articles. */
function wordsOf(text: string): string[] {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [])
    .filter(word => !['the', 'a', 'an', 'my', 'some', 'of', 'that', 'this', 'task', 'one', 'old'].includes(word))
    .map(word => word.replace(/ies$/u, 'y').replace(/(?<=\p{L}{2})e?s$/u, ''))
}

function purge(listed: CallMade | undefined, status: 'all' | 'completed'): Next {
  const tasks = tasksIn(listed)
  if (!tasks) return { say: toldFailure(listed) }
  if (tasks.length === 0)
    return {
      say:
        status === 'completed'
          ? 'You have no completed tasks, so there is nothing to delete.'
          : 'Your list is empty already.',
    }
  return { calls: tasks.slice(0, manyMax).map(one => ({ name: 'delete_task', arguments: { task_id: one.id } })) }
}

// --- what is told: only what results show ------------------------------------------------------------------------------------------

const succeeded = (call: CallMade | undefined) => call?.result?.['success'] === true
const textIn = (value: unknown) => (typeof value === 'string' ? value : '')
const titleOf = (call: CallMade | undefined) => textIn(call?.result?.['title'])

function toldAdded(calls: readonly CallMade[]): string {
  const added = calls.filter(succeeded).map(titleOf)
  const failed = calls.filter(call => !succeeded(call))
  const lines = added.length > 0 ? [`Added ${listed(added.map(bold))} to your list.`] : []
  for (const call of failed) lines.push(toldFailure(call, `add ${quote(textIn(call.arguments['title']))}`))
  return lines.join(' ')
}

function toldList(call: CallMade | undefined, wish: { status: string; query?: string }): string {
  const tasks = tasksIn(call)
  if (!tasks) return toldFailure(call)
  const about = wish.query === undefined ? '' : ` about ${quote(wish.query)}`
  if (tasks.length === 0) {
    const kind = wish.status === 'all' ? '' : wish.status === 'pending' ? 'open ' : 'completed '
    return about === '' && kind === '' ? 'Your list is empty.' : `I found no ${kind}tasks${about}.`
  }
  const line = (one: Task) => `- ${one.title}${one.description ? `: ${one.description}` : ''}`
  const open = tasks.filter(one => !one.completed)
  const done = tasks.filter(one => one.completed)
  const parts: string[] = []
  if (open.length > 0) parts.push(`Open${about}:`, '', ...open.map(line))
  if (done.length > 0)
    parts.push(...(parts.length > 0 ? [''] : []), `Done${open.length > 0 ? '' : about}:`, '', ...done.map(line))
  return parts.join('\n')
}

function toldDone(call: CallMade | undefined, listing: CallMade | undefined): string {
  if (!succeeded(call)) return toldFailure(call, 'mark that as done')
  const id = call!.result!['task_id']
  const rest = (tasksIn(listing) ?? []).filter(one => one.id !== id)
  const left =
    rest.length === 0
      ? 'Nothing is left.'
      : `${number(rest.length)} ${rest.length === 1 ? 'is' : 'are'} left: ${listed(rest.slice(0, 5).map(one => quote(one.title)))}${rest.length > 5 ? ' and more' : ''}.`
  return `Done: ${bold(titleOf(call))}. ${left}`
}

function toldUpdated(call: CallMade | undefined): string {
  if (!succeeded(call)) return toldFailure(call, 'change that')
  const description = textIn(call!.result!['description'])
  return `Changed: it is now ${bold(titleOf(call))}${description ? `, described as ${quote(description)}` : ''}.`
}

function toldDeleted(calls: readonly CallMade[]): string {
  const gone = calls.filter(succeeded).map(titleOf)
  const lines = gone.length > 0 ? [`Deleted ${listed(gone.map(bold))}.`] : []
  const refused = calls.filter(call => call.result?.['error'] === 'Unauthorized').length
  if (refused > 0) {
    lines.push(
      refused === calls.length
        ? 'It was not allowed, so nothing was deleted.'
        : `${number(refused)} not allowed and still there.`,
    )
  }
  for (const call of calls)
    if (!succeeded(call) && call.result?.['error'] !== 'Unauthorized') lines.push(toldFailure(call, 'delete that'))
  return lines.join(' ')
}

function toldFailure(call: CallMade | undefined, what = 'do that'): string {
  const error = call?.result?.['error']
  const message = call?.result?.['message']
  const similar = call?.result?.['similar_tasks']
  if (error === 'TaskNotFound') {
    const titles = Array.isArray(similar) ? (similar as Task[]).map(one => bold(one.title)) : []
    return `That task is not there any more.${titles.length > 0 ? ` Perhaps you mean ${listed(titles, 'or')}.` : ''}`
  }
  return `I could not ${what}${typeof message === 'string' ? `: ${message.slice(0, 200)}` : ' just now. Please try again.'}`
}

const bold = (title: string) => `**${title}**`
const quote = (text: string) => `“${text}”`
const boldIn = (text: string) => [...text.matchAll(/\*\*(.+?)\*\*/gu)].map(found => found[1]!)

function listed(items: readonly string[], word = 'and'): string {
  return items.length < 2 ? (items[0] ?? '') : `${items.slice(0, -1).join(', ')} ${word} ${items.at(-1)}`
}

function number(n: number): string {
  const words = ['None', 'One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight', 'Nine', 'Ten']
  return words[n] ?? String(n)
}
