/**
 * What the built-in model says: a pure function from the messages of a request to the deltas of its answer and their pace.
 * Deterministic: the same messages give the same bytes. Refuses to know HTTP; rules of dialogue are in dialogue.ts.
 */
import { answerTo, type ChatMessage, withoutAddress } from './dialogue.ts'

export interface Reply {
  /** One delta each; at least one. */
  deltas: string[]
  /** Pause before delta n (n ≥ 1), ms; the first leaves at once. */
  delayMs: (n: number) => number
}

/** A turn that asks for more is answered with this many: it is a test's tool, not a way to fill memory. */
const streamWordsMax = 100_000
const streamDelayMsMax = 60_000

export function replyTo(messages: readonly ChatMessage[]): Reply {
  const last = messages.findLast(m => m.role === 'user')?.content ?? ''
  const order = /^#stream words=(\d{1,9}) delay_ms=(\d{1,9})(?!\S)/.exec(withoutAddress(last))
  if (order) {
    const delayMs = Math.min(Number(order[2]), streamDelayMsMax)
    return { deltas: streamWords(Math.min(Number(order[1]), streamWordsMax)), delayMs: () => delayMs }
  }
  return { deltas: wordDeltas(answerTo(messages)), delayMs: n => 15 + ((n * 7) % 11) }
}

/** Exactly `n` words, one delta each, every third with characters of two, three and four bytes. */
export function streamWords(n: number): string[] {
  const plain = ['alpha', 'river', 'stone', 'cloud', 'maple']
  const wide = ['größe', '日本語', 'naïve🙂', 'žluť', 'мир🚀']
  return Array.from({ length: Math.max(n, 1) }, (_, i) => {
    if (n === 0) return ''
    const word = i % 3 === 2 ? wide[Math.floor(i / 3) % wide.length] : plain[i % plain.length]
    return `${word}${i + 1}${i + 1 < n ? ' ' : ''}`
  })
}

/** A text as deltas of one word each, white space kept, so that they add up to the text. */
export function wordDeltas(text: string): string[] {
  return text.match(/\s*\S+|\s+$/gu) ?? ['']
}

/** Tokens as the built-in model counts them: four characters each, at least one for any text. */
export function countTokens(text: string): number {
  return Math.ceil(text.length / 4)
}
