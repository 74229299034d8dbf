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
}

export function transcript(given: Given): Line[] {
  return [{ role: 'system', content: given.systemPrompt }, ...chosen(given).map(said => lineOf(said, given.nameOf))]
}

/** Which messages are shown, in their order; the question stays last, whatever was said after it. */
export function chosen(given: Given): Said[] {
  const { systemPrompt, said, questionSeq, nameOf, tokensMax } = given
  const question = said.find(s => s.seq === questionSeq)
  // Answers to earlier questions may come after this question in the log; later questions have turns of their own.
  const before = said.filter(s => s.seq !== questionSeq && (s.seq < questionSeq || s.senderId === assistantId))
  const used: Said[] = question ? [question] : []
  let left = tokensMax * charsPerToken - systemPrompt.length - (question ? lineOf(question, nameOf).content.length : 0)
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
