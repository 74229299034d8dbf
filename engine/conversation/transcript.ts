/**
 * What the model is shown of a conversation: the system prompt, then messages up to the question, oldest first, trimmed
 * from the old end to a budget. Pure; reading the log and the names is the shell's. Rules X1–X4 of SPEC.md.
 */
import { assistantId } from '#protos/ids.ts'

export interface Line {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface Said {
  seq: number
  senderId: string
  content: string
  /** Of the edit that the words are from; absent: they are the first ones. */
  editSeq?: number
}

/** Of an event's frame, as far as it matters here. */
export interface Heard {
  type: string
  seq: number
  messageId: string
  senderId: string
  content: string
}

/** What was said by these events, in order of seq: the latest words of each message, and none of one that was deleted since. */
export function saidIn(frames: readonly Heard[]): Said[] {
  const said = new Map<string, Said>()
  for (const { type, seq, messageId, senderId, content } of frames) {
    const before = said.get(messageId)
    if (type === 'message.new') said.set(messageId, { seq, senderId, content })
    else if (type === 'message.deleted' && before) said.set(messageId, { ...before, content: '' })
    // The log keeps the words of an edit after the message went; they are not to be read again either.
    else if (type === 'message.edited' && before && before.content !== '') {
      said.set(messageId, { ...before, content, editSeq: seq })
    }
  }
  return [...said.values()]
}

/** The positions in the log of what is shown: each message's, and the edit's whose words it has. */
export function positionsOf(shown: readonly Said[]): number[] {
  return shown.flatMap(s => (s.editSeq === undefined ? [s.seq] : [s.seq, s.editSeq])).sort((a, b) => a - b)
}

/** Characters that count as one token where no tokenizer is asked. */
const charsPerToken = 4

interface Given {
  systemPrompt: string
  /** Messages in order of seq; deleted ones have no content and are left out. */
  said: readonly Said[]
  questionSeq: number
  /** Who speaks, for rooms of several; undefined: one person, no names needed. */
  nameOf: ((userId: string) => string) | undefined
  tokensMax: number
  /** Characters that something else takes of it, half at most: what was called in this turn, and what came of it. */
  taken?: number
}

export function transcript(given: Given): Line[] {
  return [{ role: 'system', content: given.systemPrompt }, ...chosen(given).map(said => lineOf(said, given.nameOf))]
}

/** Which messages are shown, in their order; the question stays last, whatever was said after it. */
export function chosen(given: Given): Said[] {
  const { systemPrompt, said, questionSeq, nameOf, tokensMax, taken = 0 } = given
  const question = said.find(s => s.seq === questionSeq)
  // Answers to earlier questions may come after this question in the log; later questions have turns of their own.
  const before = said.filter(s => s.seq !== questionSeq && (s.seq < questionSeq || s.senderId === assistantId))
  const used: Said[] = question ? [question] : []
  const budget = tokensMax * charsPerToken
  // "It" may be what was said before, so a long list of tasks must not push all of that out.
  let left = budget - Math.min(taken, budget / 2) - systemPrompt.length
  if (question) left -= lineOf(question, nameOf).content.length
  for (const one of before.toReversed()) {
    if (one.content === '') continue
    left -= lineOf(one, nameOf).content.length
    if (left < 0) break
    used.unshift(one)
  }
  return used
}

function lineOf({ senderId, content }: Said, nameOf: Given['nameOf']): Line {
  if (senderId === assistantId) return { role: 'assistant', content }
  return { role: 'user', content: nameOf ? `${nameOf(senderId)}: ${content}` : content }
}
