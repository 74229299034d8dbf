/**
 * Turns rows of the log into the frames that clients get: live, replayed and raw reads are the same JSON, but for a
 * message deleted since. Shared by the engine's directory and the reads of gateways.
 */
import type { StoredFrame } from '#engine/actor/ports.ts'
import { type Queryable, rows, type Statement } from './query.ts'

export interface FramePage {
  frames: StoredFrame[]
  /** The limits cut it: more follows after the last frame. */
  more: boolean
}

interface EventRow {
  seq: number
  messageId: string
  kind: string
  at: number
  body: string
  deleted: boolean
}

/** Rows per read; the byte limit is looked at in between, so that no read is far larger than what is wanted. */
const chunkRows = 256

const page: Statement = {
  name: 'frames_page',
  text: `select e.seq, e.message_id as "messageId", e.kind, round(extract(epoch from e.created_at) * 1000) as at,
                e.body::text as body, s.deleted_at is not null as deleted
           from event e left join message_state s
             on s.conversation_id = e.conversation_id and s.seq = e.seq and e.kind = 'message.new'
          where e.conversation_id = $1 and e.seq > $2
          order by e.seq limit $3`,
}

/** Frames above `after` in order, at most `events` of them and `bytes` of JSON (but the first always). */
export async function readFrames(
  at: Queryable,
  conversation: string,
  after: number,
  limits: { events: number; bytes: number },
  named = true,
): Promise<FramePage> {
  const frames: StoredFrame[] = []
  let bytes = 0
  for (let from = after; ; from = frames.at(-1)!.seq) {
    const wanted = Math.min(chunkRows, limits.events - frames.length + 1)
    const found = await rows<EventRow>(at, page, [conversation, from, wanted], named)
    for (const row of found) {
      const json = frameOf(conversation, row)
      const length = Buffer.byteLength(json)
      if (frames.length >= limits.events || (frames.length > 0 && bytes + length > limits.bytes)) {
        return { frames, more: true }
      }
      frames.push({ seq: row.seq, messageId: row.messageId, json })
      bytes += length
    }
    if (found.length < wanted) return { frames, more: false }
  }
}

/** The JSON of the whole frame. Its body is the stored text, not parsed unless it must be masked. */
export function frameOf(conversation: string, row: Omit<EventRow, 'messageId'>): string {
  const head = `{"type":"${row.kind}","conversationId":"${conversation}","seq":${row.seq},"ts":"${new Date(row.at).toISOString()}"`
  const body = row.deleted ? masked(row.body) : row.body
  return body === '{}' ? `${head}}` : `${head},${body.slice(1)}`
}

function masked(body: string): string {
  const { attachments: _, ...rest } = JSON.parse(body) as Record<string, unknown>
  return JSON.stringify({ ...rest, content: '', deleted: true })
}
