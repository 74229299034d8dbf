/**
 * Cuts Markdown into its top-level blocks and renders each to HTML of its own. While a text grows only its open tail is
 * parsed again; blocks that are closed keep their key and are never touched. The HTML is not safe yet: sanitize.ts is next.
 */
import MarkdownIt, { type Token } from 'markdown-it'
import { mend } from './mend.ts'

type Md = InstanceType<typeof MarkdownIt>

export type Flavour = 'answer' | 'person'

export interface Block {
  /** Where its first line starts in the text: the key for the life of the text. */
  offset: number
  source: string
  html: string
}

export interface Doc {
  text: string
  flavour: Flavour
  isDone: boolean
  blocks: readonly Block[]
  /** Blocks before this index are closed. */
  openFrom: number
}

export const emptyDoc = (flavour: Flavour): Doc => ({ text: '', flavour, isDone: false, blocks: [], openFrom: 0 })

/** The document for a text that is usually the former one and a little more. */
export function grow(doc: Doc, text: string, isDone: boolean): Doc {
  if (doc.text === text && doc.isDone === isDone) return doc
  if (isDone) return finish(doc, text)
  const base = text.startsWith(doc.text) && !doc.isDone ? doc : emptyDoc(doc.flavour)
  const closed = base.blocks.slice(0, base.openFrom)
  const tailAt = base.blocks[base.openFrom]?.offset ?? endOf(closed)
  const tail = text.slice(tailAt)
  // Only complete lines decide where blocks end: "#" at the end may become "#tag", which ends nothing.
  const pieces = cut(tail.slice(0, tail.lastIndexOf('\n') + 1), base.flavour)
  const open = pieces.at(-1)
  const blocks = [...closed, ...pieces.slice(0, -1).map(p => ({ ...p, offset: p.offset + tailAt }))]
  const openAt = tailAt + (open?.offset ?? 0)
  const source = text.slice(openAt)
  const html = renderer(base.flavour).render(mend(source))
  return { ...base, text, isDone, openFrom: blocks.length, blocks: [...blocks, { offset: openAt, source, html }] }
}

/** At the end the text is parsed whole; blocks that came out the same stay the same objects. */
function finish(doc: Doc, text: string): Doc {
  const known = new Map(doc.blocks.map(b => [b.offset, b]))
  const blocks = cut(text, doc.flavour).map(b => {
    const before = known.get(b.offset)
    return before?.html === b.html && before.source === b.source ? before : b
  })
  return { ...doc, text, isDone: true, blocks, openFrom: blocks.length }
}

function endOf(blocks: readonly Block[]): number {
  const last = blocks.at(-1)
  return last ? last.offset + last.source.length : 0
}

function cut(text: string, flavour: Flavour): Block[] {
  const md = renderer(flavour)
  const env = {}
  const tokens = md.parse(text, env)
  const lineAt = [0]
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) lineAt.push(i + 1)
  const groups: { from: number; tokens: Token[] }[] = []
  let depth = 0
  for (const token of tokens) {
    if (depth === 0 && token.nesting >= 0) groups.push({ from: lineAt[token.map?.[0] ?? 0] ?? 0, tokens: [] })
    groups.at(-1)?.tokens.push(token)
    depth += token.nesting
  }
  return groups.map((group, i) => ({
    offset: group.from,
    source: text.slice(group.from, groups[i + 1]?.from),
    html: md.renderer.render(group.tokens, md.options, env),
  }))
}

// --- the two flavours ----------------------------------------------------------------------------------------------

/** Answers are Markdown. Setext headings and indented code are off: both change what stood there before. */
function forAnswers(): Md {
  return tame(new MarkdownIt({ html: false, linkify: true, breaks: false }).disable(['lheading', 'code']))
}

/** People write text: line breaks count, and only what cannot surprise them is formatted. */
function forPeople(): Md {
  const md = new MarkdownIt('zero', { html: false, linkify: true, breaks: true })
  return tame(md.enable(['newline', 'linkify', 'backticks', 'fence', 'emphasis', 'strikethrough']))
}

let made: Record<Flavour, Md> | undefined

function renderer(flavour: Flavour): Md {
  made ??= { answer: forAnswers(), person: forPeople() }
  return made[flavour]
}

function tame(md: Md): Md {
  md.linkify.set({ fuzzyLink: false, fuzzyEmail: false })
  // A picture from anywhere could carry data out of the page: it becomes a link that a person may follow.
  md.renderer.rules['image'] = (tokens, at) => {
    const token = tokens[at]!
    const href = md.utils.escapeHtml(String(token.attrGet('src') ?? ''))
    return `<a href="${href}">${md.utils.escapeHtml(token.content || String(token.attrGet('src') ?? ''))}</a>`
  }
  // The policy forbids inline style; alignment is an attribute instead.
  for (const name of ['th_open', 'td_open']) {
    md.renderer.rules[name] = (tokens, at, options, _env, self) => {
      const token = tokens[at]!
      const align = /text-align:\s*(\w+)/.exec(String(token.attrGet('style') ?? ''))?.[1]
      token.attrs = align ? [['align', align]] : null
      return self.renderToken(tokens, at, options)
    }
  }
  return md
}
