/**
 * Tools of other servers as values: their names among ours, the hash by which a description is pinned, what of a result
 * reaches the model. Pure. Refuses to believe what a tool says of itself: annotations are not looked at.
 */
import { createHash } from 'node:crypto'
import { nameSeparator } from '#engine/ops/mcp-servers.ts'
import { mcpDescriptionCharsMax, mcpSchemaBytesMax, mcpToolNameCharsMax, toolResultBytesMax } from '#protos/limits.ts'
import { sorted } from './tools.ts'

/** A tool as its server lists it. */
export interface ListedTool {
  name: string
  description: string
  inputSchema: Record<string, unknown>
}

/** A tool that may be offered, with what it is pinned by. */
export interface SeenTool {
  /** Among ours: `server__tool`. */
  name: string
  server: string
  tool: string
  /** SHA-256 of `spec`, hex. */
  hash: string
  /** Name, description and schema as JSON with sorted keys. */
  spec: string
}

/** How a call ended at the server's side of us. */
export type ForeignOutcome =
  | { kind: 'done'; isError: boolean; text: string; isCut: boolean }
  /** It was certainly not made. */
  | { kind: 'not_made'; message: string }
  /** It may have been made. */
  | { kind: 'unknown' }

/** Tools that can be named and are not too large, in the server's order; of two with one name the first. */
export function seenTools(server: string, listed: readonly ListedTool[]): SeenTool[] {
  const seen = new Map<string, SeenTool>()
  for (const { name: tool, description, inputSchema } of listed) {
    const name = `${server}${nameSeparator}${tool}`
    if (!/^[a-zA-Z0-9_-]+$/.test(tool) || name.length > mcpToolNameCharsMax || seen.has(name)) continue
    const schema = sorted(inputSchema)
    if (description.length > mcpDescriptionCharsMax || Buffer.byteLength(JSON.stringify(schema)) > mcpSchemaBytesMax)
      continue
    const spec = JSON.stringify({ name: tool, description, inputSchema: schema })
    seen.set(name, { name, server, tool, spec, hash: createHash('sha256').update(spec).digest('hex') })
  }
  return [...seen.values()]
}

/** As a model is shown it: whose words the description is stands before them. */
export function offerOf({ name, server, spec }: SeenTool) {
  const { description, inputSchema } = JSON.parse(spec) as ListedTool
  const words = description.toWellFormed().replaceAll('\0', '\ufffd')
  return { name, description: `A tool of the server "${server}", in its words: ${words}`, parameters: inputSchema }
}

interface Block {
  type: string
  text?: unknown
  mimeType?: unknown
  uri?: unknown
  resource?: { text?: unknown; uri?: unknown }
}

/** What a call gave, as one text that fits. What is no text is named. */
export function textOf(result: {
  content?: unknown
  structuredContent?: unknown
  isError?: unknown
}): Extract<ForeignOutcome, { kind: 'done' }> {
  const blocks = (Array.isArray(result.content) ? result.content : []) as Block[]
  const parts: string[] = []
  let left = toolResultBytesMax
  for (const block of blocks) {
    if (left <= 0) break
    const part = partOf(block)
    parts.push(part.length > left ? part.slice(0, left + 1) : part)
    left -= part.length
  }
  if (parts.length === 0 && result.structuredContent !== undefined) parts.push(JSON.stringify(result.structuredContent))
  const text = parts.join('\n').toWellFormed().replaceAll('\0', '\ufffd')
  // The JSON around it is small, its escapes are not.
  const kept = fitted(text, toolResultBytesMax - 256)
  return { kind: 'done', isError: result.isError === true, text: kept, isCut: kept.length < text.length || left < 0 }
}

function partOf(block: Block): string {
  if (block.type === 'text' && typeof block.text === 'string') return block.text
  if (block.type === 'resource' && typeof block.resource?.text === 'string') return block.resource.text
  const what = block.mimeType ?? block.uri ?? block.resource?.uri
  return `[${String(block.type).slice(0, 40)}${typeof what === 'string' ? ` ${what.slice(0, 200)}` : ''}, not shown]`
}

/** The longest beginning whose JSON has at most `bytesMax` bytes. */
function fitted(text: string, bytesMax: number): string {
  let kept = text.slice(0, bytesMax)
  for (let bytes = size(kept); bytes > bytesMax; bytes = size(kept)) {
    kept = kept.slice(0, Math.min(kept.length - 1, Math.floor((kept.length * bytesMax) / bytes)))
  }
  return kept.isWellFormed() ? kept : kept.slice(0, -1)
}

const size = (text: string) => Buffer.byteLength(JSON.stringify(text))
