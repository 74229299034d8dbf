/**
 * Very many conversations of two, for the bench of growth: copies of a few that were made as users make them, put into the database
 * in one go, and sockets of their members that wake each of them. Refuses to measure.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { systemClock } from '#engine/ops/clock.ts'
import { WsClient } from '#load/kit/ws-client.ts'
import { shardOf } from '#protos/shard.ts'
import type { ParleySubject } from './subjects.ts'
import { type Sender, wires } from './wires.ts'

/** People may be in 2,000 conversations. */
const perPair = 1600
const insertAtOnce = 10_000
const wire = wires.parley

/** Answers one sender for each conversation, in turn over the people. */
export async function makeMany(subject: ParleySubject, databaseUrl: string, count: number): Promise<Sender[]> {
  const users = await subject.users(2 * Math.ceil(count / perPair))
  const templates: { template: string; token: string }[] = []
  for (let i = 0; i < users.length; i += 2) {
    const [a, b] = [users[i]!, users[i + 1]!]
    const body = { type: 'group', title: 'grown', usernames: [b.username] }
    const { id } = await subject.product.request<{ id: string }>(a.token, 'POST', '/conversations', body)
    templates.push({ template: id, token: a.token })
  }
  const rows = Array.from({ length: count }, (_, i) => ({ id: systemClock.id(), ...templates[i % templates.length]! }))
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    for (let i = 0; i < rows.length; i += insertAtOnce) await copy(client, rows.slice(i, i + insertAtOnce))
    await client.query('analyze conversation, conversation_member, event')
  } finally {
    await client.end()
  }
  return rows.map(({ id, token }) => ({ token, conversation: id }))
}

async function copy(client: Client, rows: { id: string; template: string }[]): Promise<void> {
  const values = [rows.map(r => r.id), rows.map(r => r.template), rows.map(r => shardOf(r.id))]
  const from = 'unnest($1::uuid[], $2::uuid[], $3::int[]) as n(id, template, shard)'
  await client.query('begin')
  await client.query(
    `insert into conversation (id, shard_id, kind, title, created_by, created_at)
     select n.id, n.shard, c.kind, c.title, c.created_by, c.created_at from ${from} join conversation c on c.id = n.template`,
    values,
  )
  await client.query(
    `insert into conversation_member (conversation_id, user_id, role, joined_at, joined_seq)
     select n.id, m.user_id, m.role, m.joined_at, m.joined_seq
       from ${from} join conversation_member m on m.conversation_id = n.template where n.shard is not null`,
    values,
  )
  await client.query(
    `insert into event (conversation_id, seq, message_id, kind, sender_id, client_id, body_hash, body, epoch, created_at)
     select n.id, e.seq, uuidv7(), e.kind, e.sender_id, uuidv7(), e.body_hash, e.body, e.epoch, e.created_at
       from ${from} join event e on e.conversation_id = n.template where n.shard is not null`,
    values,
  )
  await client.query('commit')
}

/** The sockets of those who own the conversations, one each. */
export class Wakers {
  readonly #clients = new Map<string, WsClient>()
  #answered = 0
  #failure = ''

  static async open(url: string, senders: readonly Sender[]): Promise<Wakers> {
    const wakers = new Wakers()
    for (const token of new Set(senders.map(s => s.token))) await wakers.#sit(url, token)
    return wakers
  }

  async #sit(url: string, token: string): Promise<void> {
    const ready = Promise.withResolvers<void>()
    const sender = { token, conversation: '' }
    const client = await WsClient.open(`${url}${wire.path}`, {
      onText: bytes => {
        const came = wire.read(client, bytes, sender)
        if (came === 'ready') ready.resolve()
        else if (came === 'refused') this.#failure = bytes.toString()
        else if (typeof came === 'number' || bytes.includes('"room.joined"')) this.#answered++
      },
      onClose: code => ready.reject(new Error(`closed ${code}`)),
    })
    wire.hello(client, sender)
    await ready.promise
    this.#clients.set(token, client)
  }

  /** Asks each to be joined, or sends one message to each; resolves when all are answered. */
  async wake(senders: readonly Sender[], how: 'join' | 'send', rate: number): Promise<void> {
    this.#answered = 0
    const from = performance.now()
    for (let i = 0; i < senders.length; await sleep(1)) {
      const due = Math.min(senders.length, Math.ceil(((performance.now() - from) / 1000) * rate))
      for (; i < due; i++) {
        const sender = senders[i]!
        const text =
          how === 'send'
            ? wire.send(i, sender)
            : `{"type":"room.join","conversationId":"${sender.conversation}","requestId":"${i}"}`
        this.#clients.get(sender.token)!.send(text)
      }
    }
    for (const until = performance.now() + 60_000; this.#answered < senders.length; await sleep(20)) {
      if (this.#failure !== '') throw new Error(`refused: ${this.#failure}`)
      if (performance.now() > until) throw new Error(`${this.#answered} of ${senders.length} were answered`)
    }
  }

  end(): void {
    for (const client of this.#clients.values()) client.destroy()
  }
}
