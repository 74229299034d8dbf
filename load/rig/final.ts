/** Reads what a run left behind, both ways: rows of the log by SQL and the raw log by REST as a member sees it. */
import { Client } from 'pg'
import type { History, Row } from '#load/kit/checkers.ts'
import type { Product } from '#load/kit/product.ts'

interface RestEvent {
  type: string
  seq: number
  messageId?: string
  senderId?: string
  content?: string
}

export async function readFinal(
  product: Pick<Product, 'node' | 'request'>,
  conversations: readonly { id: string; token: string }[],
): Promise<Pick<History, 'rows' | 'restRows'>> {
  const rows = await query<Row>(
    product,
    `select conversation_id as conversation, seq::float8 as seq, kind, sender_id as "senderId", client_id as "clientId",
            message_id as "messageId", body->>'content' as content, epoch::float8 as epoch
     from event where conversation_id = any($1) order by conversation_id, seq`,
    [conversations.map(c => c.id)],
  )
  const restRows: History['restRows'] = []
  for (const { id, token } of conversations) {
    for (let after = 0; ; ) {
      const page = await product.request<{ items: RestEvent[]; head_seq: number }>(
        token,
        'GET',
        `/conversations/${id}/events?after=${after}&limit=1000`,
      )
      for (const e of page.items) {
        const { seq, type: kind, messageId = '', senderId = '', content } = e
        restRows.push({ conversation: id, seq, kind, messageId, senderId, content })
      }
      if (page.items.length === 0 || page.items.at(-1)!.seq >= page.head_seq) break
      after = page.items.at(-1)!.seq
    }
  }
  return { rows: rows.map(row => ({ ...row, content: row.content ?? undefined })), restRows }
}

/** One statement on the product's database, over a connection of its own. */
export async function query<R>(
  product: Pick<Product, 'node' | 'request'>,
  text: string,
  values: unknown[] = [],
): Promise<R[]> {
  const client = new Client({ connectionString: product.node().databaseUrl })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows as R[]
  } finally {
    await client.end()
  }
}
