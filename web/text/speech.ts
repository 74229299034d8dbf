/**
 * What of a growing answer a screen reader says: whole sentences, without marks, code and tables. Pure.
 * Refuses to say a thing twice: what was said is known by how far into the prose it reached.
 */
import { plain } from './gist.ts'

/** Sentences that wait to be said; an answer that comes faster than speech loses its older ones. */
export const backlogMax = 3

const sentences = new Intl.Segmenter(undefined, { granularity: 'sentence' })

/** The text without fenced code and tables; a part once given stays as it is while the text grows. */
export function proseOf(text: string): string {
  let fence = ''
  let prose = ''
  for (const line of text.split(/(?<=\n)/)) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1]
    if (fence) fence = mark?.startsWith(fence) ? '' : fence
    else if (mark) fence = mark
    else if (!/^ {0,3}\|/.test(line)) prose += line
  }
  return prose
}

/** What is new to say after `from` characters of prose, and how far that reaches. The last sentence waits until it has ended. */
export function toSay(text: string, from: number, isDone: boolean): { said: string[]; upTo: number } {
  const parts = [...sentences.segment(proseOf(text).slice(from))].map(part => part.segment)
  const whole = isDone ? parts : parts.slice(0, -1)
  const said = whole.map(plain).filter(sentence => /[\p{L}\p{N}]/u.test(sentence))
  return { said, upTo: from + whole.reduce((sum, part) => sum + part.length, 0) }
}

/** The queue after more was added: the oldest are dropped. */
export const queued = (waiting: readonly string[], more: readonly string[]) => [...waiting, ...more].slice(-backlogMax)
