/**
 * What a sentence asks the task list for, by rule. Pure and deterministic; knows English. Refuses to look at the list or at
 * what was said before: errands.ts does.
 */

export type Intent =
  | { kind: 'create'; titles: string[] }
  | { kind: 'list'; status: 'all' | 'pending' | 'completed'; query?: string }
  | { kind: 'complete'; what: string }
  | { kind: 'delete'; what: string }
  /** Everything of this status. */
  | { kind: 'purge'; status: 'all' | 'completed' }
  /** `wants`: something is missing and has to be asked for. */
  | { kind: 'update'; what: string; title?: string; description?: string; wants?: 'title' | 'description' | 'change' }
  /** About the list, but not what shall be done with it. */
  | { kind: 'clarify'; about: string }

export type Reply = { kind: 'choose'; ordinal: number } | { kind: 'yes' } | { kind: 'no' }

const opening =
  /^(?:please|can you|could you|would you|will you|hey|hi|ok(?:ay)?|so|now|then|and|also|oh|well|i want you to|i(?:'d| would) like (?:you )?to|i want to|let'?s)(?![\w'])[\s,]*/iu
const task = `(?:task|to-?do|item|reminder)s?`
const buying = `(?:buy|get|pick up|purchase|grab)`

/** Undefined: the sentence is not about tasks. */
export function intentOf(said: string): Intent | undefined {
  let text = said.replace(/\s+/gu, ' ').replace(/[’‘]/gu, "'").trim()
  for (let before = ''; before !== text; ) {
    before = text
    text = text.replace(opening, '')
  }
  const isQuestion = text.endsWith('?')
  text = text.replace(/[\s.!?]+$/u, '')
  return purge(text) ?? remove(text) ?? update(text) ?? complete(text) ?? look(text) ?? create(text, isQuestion)
}

/** A short answer to a question of ours. */
export function replyOf(said: string): Reply | undefined {
  const text = said
    .trim()
    .toLowerCase()
    .replace(/[.!?]+$/u, '')
  if (/^(?:yes|yeah|yep|sure|ok|okay|right|exactly|that one|please do)\b/u.test(text)) return { kind: 'yes' }
  if (/^(?:no|nope|neither|none|never mind|forget it)\b/u.test(text)) return { kind: 'no' }
  const found =
    /^(?:the |number |no\. ?|#)*(first|second|third|fourth|fifth|last|\d{1,3})(?:st|nd|rd|th)?(?: one| task)?$/u.exec(
      text,
    )
  if (!found) return undefined
  const word = ['first', 'second', 'third', 'fourth', 'fifth'].indexOf(found[1]!)
  return { kind: 'choose', ordinal: word >= 0 ? word + 1 : found[1] === 'last' ? -1 : Number(found[1]) }
}

function purge(text: string): Intent | undefined {
  const rest = /^(?:delete|remove|clear|erase|drop|get rid of) (.+)$/iu.exec(text)?.[1]
  // "delete the task X" means X, whatever X says.
  if (rest === undefined || /^(?:the )?(?:task|item|to-?do|reminder)s?:? (?!i\b|that\b)\S/iu.test(rest))
    return undefined
  const isDone = /\b(?:completed|finished|done)\b/iu.test(rest)
  const isMany = /\b(?:all|everything|every|each)\b/iu.test(rest)
  if (isDone && (isMany || new RegExp(`\\b${task}$|\\bones$|^what `, 'iu').test(rest)))
    return { kind: 'purge', status: 'completed' }
  if (isMany && new RegExp(`^(?:everything|all)(?: (?:of )?(?:my|the))?(?: ${task}| on my list)?$`, 'iu').test(rest))
    return { kind: 'purge', status: 'all' }
  return undefined
}

function remove(text: string): Intent | undefined {
  const what = /^(?:delete|remove|erase|drop|get rid of|take) (.+?)(?: (?:from|off) (?:my|the) (?:\w+ )?list)?$/iu.exec(
    text,
  )?.[1]
  if (what === undefined || (/^take/iu.test(text) && !/list$/iu.test(text))) return undefined
  return { kind: 'delete', what: nameOf(what) }
}

function update(text: string): Intent | undefined {
  const described =
    /^(?:change|update|set|edit) (?:the )?description (?:of|for) (.+?) (?:to|as) (.+)$/iu.exec(text) ??
    /^describe (.+?) as (.+)$/iu.exec(text) ??
    /^add (?:a|the) description (?:to|for) ([^:]+?)(?:: ?(.+))?$/iu.exec(text)
  if (described) {
    const [, what = '', description] = described
    if (description === undefined) return { kind: 'update', what: nameOf(what), wants: 'description' }
    return { kind: 'update', what: nameOf(what), description: unquoted(description) }
  }
  const renamed = /^(?:rename|change|update|edit) (.+?) (?:to|into) (.+)$/iu.exec(text)
  if (renamed) {
    const [, what = '', rest = ''] = renamed
    const more =
      /^(.+?),? (?:and (?:add|give it|set)|with) (?:a|the) description(?: of|:| saying| that says)?(?: (.+))?$/iu.exec(
        rest,
      )
    if (!more) return { kind: 'update', what: nameOf(what), title: unquoted(rest) }
    const [, title = '', description] = more
    const named = { kind: 'update' as const, what: nameOf(what), title: unquoted(title) }
    return description === undefined
      ? { ...named, wants: 'description' }
      : { ...named, description: unquoted(description) }
  }
  const bare = new RegExp(`^(?:rename|update|edit|change) ((?:the )?(?:${task} )?.+)$`, 'iu').exec(text)
  if (!bare) return undefined
  return { kind: 'update', what: nameOf(bare[1]!), wants: /^rename/iu.test(text) ? 'title' : 'change' }
}

function complete(text: string): Intent | undefined {
  const done = '(?:done|complete|completed|finished)'
  const found =
    new RegExp(`^(?:mark|set) (.+?) (?:as |to )?${done}$`, 'iu').exec(text) ??
    /^(?:tick|check|cross) (.+?) off(?: (?:my|the) list)?$/iu.exec(text) ??
    /^(?:complete|finish|close|(?:check|tick|cross) off|done with|mark off) (.+)$/iu.exec(text) ??
    /^(?:i|we)(?:'ve| have)? (?:just |already )*(?:finished|completed|done|did|bought|got) (?:with )?(.+)$/iu.exec(
      text,
    ) ??
    new RegExp(`^(.+?) (?:is|are) (?:now |already )?${done}$`, 'iu').exec(text)
  return found ? { kind: 'complete', what: nameOf(found[1]!) } : undefined
}

function look(text: string): Intent | undefined {
  const about = /^what about (.+)$/iu.exec(text)?.[1]
  if (about !== undefined) return { kind: 'clarify', about: unquoted(about).replace(/^(?:my|the) /iu, '') }
  const lists = `(?:(?:to-?do |task |shopping )?lists?|tasks|to-?dos?|items)`
  if (
    new RegExp(
      `^(?:what(?:'s| is| are| do i have| did i put)|show|list|see|view|display|give|tell|read|which|get|all)\\b.*\\b${lists}\\b`,
      'iu',
    ).test(text) ||
    new RegExp(`^(?:my|the) ${lists}$`, 'iu').test(text)
  ) {
    const named = /\b(?:about|with|containing|for) (?:the |my )?(.+)$/iu.exec(text)?.[1]
    return named
      ? { kind: 'list', status: statusOf(text), query: nameOf(named) }
      : { kind: 'list', status: statusOf(text) }
  }
  if (
    /^what(?:'s| is| do i| have i| must i| should i| are).*\b(?:left|to do|still open|pending|remaining|unfinished)\b/iu.test(
      text,
    )
  )
    return { kind: 'list', status: 'pending' }
  const sought =
    /^(?:find|search(?: for)?|look (?:for|up)) (?:me )?(?:my |the |any |all |everything |anything )*(?:about |for |with )?(.+)$/iu.exec(
      text,
    ) ??
    /^(?:is there |do i have |have i got )?(?:anything|something|any (?:tasks?|items?|to-?dos?)) (?:about|for|with|on|to do with) (.+)$/iu.exec(
      text,
    )
  if (!sought) return undefined
  const status = statusOf(sought[1]!)
  const query = nameOf(sought[1]!.replace(new RegExp(`\\b(?:${openWords}|${doneWords}|${task}|ones)\\b`, 'giu'), ''))
  return query === '' ? { kind: 'list', status } : { kind: 'list', status, query }
}

function create(text: string, isQuestion: boolean): Intent | undefined {
  const one =
    new RegExp(
      `^(?:add|create|make|put|note|new)(?: down)? (?:a |an |another |one |the )?(?:new )?${task}(?: on my list)?(?: ?:| called| named| to| for| saying| -)? (.+)$`,
      'iu',
    ).exec(text) ?? new RegExp(`^(?:new )?${task}: ?(.+)$`, 'iu').exec(text)
  if (one) return made([unquoted(one[1]!)])
  const many =
    /^(?:add|put) (.+?)(?: (?:to|on|onto|in|into) (?:my|the|our) (?:[\w-]+ )?(?:list|tasks|to-?dos?))?(?: too| as well)?$/iu.exec(
      text,
    )
  if (many && !/^(?:it|that|them|this)$/iu.test(many[1]!)) return made(itemsOf(many[1]!))
  if (isQuestion) return undefined
  const needed =
    /^(?:i|we)(?:'ve| have)? (?:also |still |really )*(?:need|have|must|got|gotta|should)(?: to)? (.+)$/iu.exec(text)
  const reminded = /^(?:remind me|remember|don't (?:let me )?forget) to (.+)$/iu.exec(text)
  const rest = (needed ?? reminded)?.[1]
  if (rest === undefined) return undefined
  const bought = new RegExp(`^${buying} (.+)$`, 'iu').exec(rest)
  if (bought) return made(itemsOf(bought[1]!))
  // Not everything that people need is a task.
  if (!reminded && (!/^(?:i|we)\b.*\b(?:need|have|got|must|gotta) to /iu.test(text) || notTasks.test(rest)))
    return undefined
  return made(rest.includes(',') ? itemsOf(rest) : [unquoted(rest)])
}

const openWords = 'unfinished|open|pending|incomplete|remaining|undone'
const doneWords = 'completed|finished|done'
const notTasks = /^(?:know|understand|ask|talk|think|see|say|tell|admit|be)\b/iu

function statusOf(text: string): 'all' | 'pending' | 'completed' {
  if (new RegExp(`\\b(?:${openWords}|left|not done|still)\\b`, 'iu').test(text)) return 'pending'
  return new RegExp(`\\b(?:${doneWords})\\b`, 'iu').test(text) ? 'completed' : 'all'
}

function made(titles: string[]): Intent | undefined {
  const named = titles.filter(title => title !== '')
  return named.length > 0 ? { kind: 'create', titles: named } : undefined
}

/** "milk, eggs, and bread" → three. */
function itemsOf(text: string): string[] {
  return text
    .split(/\s*,\s*(?:and\s+)?|\s+and\s+(?:also\s+)?|\s*&\s*/iu)
    .map(item => unquoted(item).replace(/^(?:some|a|an|the|also)\s+/iu, ''))
}

/** What a task is called in a sentence, without what is said around it. */
function nameOf(text: string): string {
  return unquoted(
    unquoted(text)
      .replace(new RegExp(`^(?:the |my |that |this )?(?:${task})(?: called| named|:)? (?=\\S)`, 'iu'), '')
      .replace(/^(?:the|my|some|a|an) /iu, '')
      .replace(new RegExp(` ${task}$`, 'iu'), ''),
  )
}

function unquoted(text: string): string {
  const bare = text.trim().replace(/[\s.,;!]+$/u, '')
  const inner = /^(?:["“„«](.*)["”“»]|'(.*)'|\*\*(.*)\*\*)$/u.exec(bare)
  return (inner?.[1] ?? inner?.[2] ?? inner?.[3] ?? bare).trim()
}
