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

export function transcript(given: {
  systemPrompt: string
  /** Messages in order of seq; deleted ones have no content and are left out. */
  said: readonly Said[]
  questionSeq: number
  /** Who speaks, for rooms of several; undefined: one person, no names needed. */
  nameOf: ((userId: string) => string) | undefined
  tokensMax: number
}): Line[] {
  const { systemPrompt, said, questionSeq, nameOf, tokensMax } = given
  const lineOf = ({ senderId, content }: Said): Line =>
    senderId === assistantId
      ? { role: 'assistant', content }
      : { role: 'user', content: nameOf ? `${nameOf(senderId)}: ${content}` : content }
  const question = said.find(s => s.seq === questionSeq)
  // Answers to earlier questions may come after this question in the log; later questions have turns of their own.
  const before = said.filter(s => s.seq !== questionSeq && (s.seq < questionSeq || s.senderId === assistantId))
  const lines: Line[] = question ? [lineOf(question)] : []
  let left = tokensMax * charsPerToken - systemPrompt.length - (lines[0]?.content.length ?? 0)
  for (const one of before.toReversed()) {
    if (one.content === '') continue
    const line = lineOf(one)
    left -= line.content.length
    if (left < 0) break
    lines.unshift(line)
  }
  // The question stays last, whatever was said after it.
  return [{ role: 'system', content: systemPrompt }, ...lines]
}
