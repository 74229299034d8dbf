/**
 * The few JSON bodies that a gateway writes for the relay itself. Strict: what does not fit is a LetterError, which ends
 * the link. Refuses to act on anything.
 */
import { parseId } from '#protos/ids.ts'
import { LetterError } from '#protos/letter.ts'
import { attachItemsMax } from '#protos/limits.ts'
import type { Hello } from '#protos/link.ts'

export type Attach = (readonly [conversation: string, lastSeq: number])[]

const decoder = new TextDecoder()
const nodeIdCharsMax = 256

function parse(body: Uint8Array): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(decoder.decode(body))
  } catch {
    throw new LetterError('body is no JSON')
  }
  if (typeof value !== 'object' || value === null) throw new LetterError('body is no object')
  return value as Record<string, unknown>
}

function items(body: Uint8Array): unknown[] {
  const { items: list } = parse(body)
  if (!Array.isArray(list) || list.length > attachItemsMax) throw new LetterError('bad list of conversations')
  return list
}

export function readHello(body: Uint8Array): Hello {
  const { version, nodeId, role } = parse(body)
  if (!Number.isSafeInteger(version) || role !== 'gateway') throw new LetterError('bad hello')
  if (typeof nodeId !== 'string' || nodeId === '' || nodeId.length > nodeIdCharsMax) throw new LetterError('bad hello')
  return { version: version as number, nodeId, role }
}

export function readAttach(body: Uint8Array): Attach {
  return items(body).map(item => {
    const [given, lastSeq] = Array.isArray(item) ? (item as unknown[]) : []
    const conversation = parseId(given)
    if (conversation === undefined || !Number.isSafeInteger(lastSeq)) throw new LetterError('bad item of an attach')
    return [conversation, lastSeq as number] as const
  })
}

export function readDetach(body: Uint8Array): string[] {
  return items(body).map(item => {
    const conversation = parseId(item)
    if (conversation === undefined) throw new LetterError('bad item of a detach')
    return conversation
  })
}
