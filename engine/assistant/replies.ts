/**
 * What the built-in model says: a pure function from the messages of a request to the deltas of its answer and their pace.
 * Deterministic: the same messages give the same bytes. Refuses to know HTTP; rules of dialogue are in dialogue.ts.
 */
import { createHash } from 'node:crypto'
import { answerTo, asSaid, type ChatMessage, withoutAddress } from './dialogue.ts'
import { type CallMade, errand, type Said } from './errands.ts'

export interface Reply {
  /** One delta each; at least one, unless there are calls. */
  deltas: string[]
  /** Tools to call, in order; `arguments` is JSON. */
  calls: { id: string; name: string; arguments: string }[]
  /** Whether an output limit applies: a test's stream is exactly as long as it was asked for. */
  isExact: boolean
  /** Pause before delta n (n ≥ 1), ms; the first leaves at once. */
  delayMs: (n: number) => number
}

/** A turn that asks for more is answered with this many: it is a test's tool, not a way to fill memory. */
const streamWordsMax = 100_000
const streamDelayMsMax = 60_000

/** `tools`: names of those that the request offers; without them there is nothing to call. */
export function replyTo(messages: readonly ChatMessage[], tools: readonly string[] = []): Reply {
  const last = messages.findLast(m => m.role === 'user')?.content ?? ''
  const order = /^#stream words=(\d{1,9}) delay_ms=(\d{1,9})(?!\S)/.exec(withoutAddress(last))
  if (order) {
    const delayMs = Math.min(Number(order[2]), streamDelayMsMax)
    return {
      deltas: streamWords(Math.min(Number(order[1]), streamWordsMax)),
      calls: [],
      isExact: true,
      delayMs: () => delayMs,
    }
  }
  const named = messages[0]?.role === 'system' && /^Give this conversation a title\b/.test(messages[0].content)
  if (named) return { deltas: wordDeltas(titleFor(last)), calls: [], isExact: false, delayMs: () => 0 }
  const delayMs = (n: number) => 15 + ((n * 7) % 11)
  const next = tools.includes('list_tasks') ? errandIn(messages) : undefined
  if (next && 'calls' in next) {
    const seed = createHash('sha256').update(JSON.stringify(messages)).digest('hex').slice(0, 16)
    const calls = next.calls.map((call, i) => ({
      id: `call_${seed}_${i}`,
      name: call.name,
      arguments: JSON.stringify(call.arguments),
    }))
    return { deltas: [], calls, isExact: false, delayMs }
  }
  return { deltas: wordDeltas(next?.say ?? answerTo(messages)), calls: [], isExact: false, delayMs }
}

/** A title out of the first words of what was asked. */
function titleFor(exchange: string): string {
  const question = /^Question: ([^\n]*)/.exec(exchange)?.[1] ?? exchange
  const words = withoutAddress(question).match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}'’-]*/gu) ?? []
  const title = words.slice(0, 6).join(' ')
  return title === '' ? 'A conversation' : `${title.charAt(0).toUpperCase()}${title.slice(1)}`
}

/** A misbehaviour that the last message asks for: `#fault cut`. For tests, and for people who want to see it. */
export function faultIn(messages: readonly ChatMessage[]): string | undefined {
  const last = messages.findLast(m => m.role === 'user')?.content ?? ''
  return /^#fault ([a-z0-9]{1,16})(?!\S)/.exec(withoutAddress(last))?.[1]
}

/** What the tasks' rules make of it: what was said up to the question, and the rounds of calls after it. */
function errandIn(messages: readonly ChatMessage[]) {
  const question = messages.findLastIndex(m => m.role === 'user')
  const said = messages.slice(0, question + 1).flatMap((m): Said[] => {
    if (m.role === 'assistant') return m.content === '' ? [] : [{ by: undefined, text: m.content }]
    if (m.role !== 'user') return []
    const { speaker, text } = asSaid(m)
    return [{ by: speaker ?? 'you', text }]
  })
  const after = messages.slice(question + 1)
  const rounds = after.flatMap(m => {
    if (m.role !== 'assistant' || !m.calls) return []
    return [
      m.calls.map(
        (call): CallMade => ({
          name: call.name,
          arguments: objectIn(call.arguments) ?? {},
          result: objectIn(after.find(answer => answer.role === 'tool' && answer.callId === call.id)?.content ?? ''),
        }),
      ),
    ]
  })
  return errand(said, rounds)
}

function objectIn(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
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

/** The deltas that fit into so many tokens; the last one may be cut. */
export function clip(deltas: readonly string[], tokensMax: number): { deltas: string[]; isCut: boolean } {
  const kept: string[] = []
  let left = tokensMax * charsPerToken
  for (const delta of deltas) {
    if (delta.length > left) {
      // Never half a character.
      const part = delta
        .slice(0, left)
        .toWellFormed()
        .replace(/\ufffd$/u, '')
      if (part !== '') kept.push(part)
      return { deltas: kept, isCut: true }
    }
    kept.push(delta)
    left -= delta.length
  }
  return { deltas: kept, isCut: false }
}

const charsPerToken = 4

/** Tokens as the built-in model counts them: four characters each, at least one for any text. */
export function countTokens(text: string): number {
  return Math.ceil(text.length / charsPerToken)
}
