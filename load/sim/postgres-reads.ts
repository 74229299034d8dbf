/**
 * The reading statements of engine and gateway on the modelled tables, each at one moment. The engine's carry names; those
 * of the gateway's hub are told by their text. Refuses to change a table.
 */
import type { ConversationRecord, EventRecord, Row, Tables } from './postgres-tables.ts'

// biome-ignore lint/suspicious/noExplicitAny: parameters of many statements
type Values = any[]

/** Rows of a reading statement. Throws on one that the model does not know. */
export function readStatement(db: Tables, name: string, text: string, v: Values): Row[] {
  return (name === '' ? hubRead(db, text, v) : engineRead(db, name, v)) as Row[]
}

function logOf(c: ConversationRecord | undefined): EventRecord[] {
  return c ? [...c.events.values()].sort((a, b) => a.seq - b.seq) : []
}

function runText(segments: ReadonlyMap<number, string> = new Map()): string {
  const ordered = [...segments].sort(([a], [b]) => a - b)
  return ordered.map(([, text]) => text).join('')
}

function sendOf(e: EventRecord): Row {
  const { conversation, senderId, clientId, seq, messageId, kind, bodyHash } = e
  return { conversation, senderId, clientId, seq, messageId, kind, bodyHash }
}

function activationOf(db: Tables, c: ConversationRecord): Row {
  const members = [...c.members.values()]
    .sort((a, b) => a.joinedSeq - b.joinedSeq || (a.userId < b.userId ? -1 : 1))
    .map(({ userId, role, joinedSeq, readSeq, deliveredSeq }) => ({ userId, role, joinedSeq, readSeq, deliveredSeq }))
  const runs = [...db.runs.values()]
    .filter(r => c.kind !== 'dm' && r.conversation === c.id && r.status !== 'ended')
    .sort((a, b) => (a['question_seq'] as number) - (b['question_seq'] as number))
    .map(r => ({
      ...{ id: r.id, requester: r.requester, questionId: r['question_id'], questionSeq: r['question_seq'] },
      ...{ clientMessageId: r['client_message_id'], answerId: r['answer_id'], status: r.status, trace: r['trace'] },
      ...{ createdAt: r['created_at'], startedAt: r['started_at'], prefix: runText(db.segments.get(r.id)), calls: [] },
    }))
  const blocks = members.flatMap(a => members.map(b => `${a.userId}>${b.userId}`)).filter(p => db.blocks.has(p))
  const list = (items: unknown[]) => (items.length === 0 ? null : JSON.stringify(items))
  const { id, kind, title, toolPolicy, createdBy, deleted, firstSeq, head } = c
  return {
    ...{ id, kind, title, toolPolicy, createdBy, deleted, firstSeq, head: head || firstSeq - 1 },
    ...{ members: list(members), runs: list(runs), blocks: kind === 'dm' ? list(blocks) : null },
  }
}

function engineRead(db: Tables, name: string, v: Values): Row[] {
  const conversations = (ids: string[]) => ids.flatMap(id => db.conversations.get(id) ?? [])
  switch (name) {
    case 'dir_activate':
      return conversations(v[0]).map(c => activationOf(db, c))
    case 'dir_blocks':
      return [`${v[0]}>${v[1]}`, `${v[1]}>${v[0]}`].filter(p => db.blocks.has(p)).map(pair => ({ pair }))
    case 'dir_blocked':
      return v[1].filter((id: string) => db.blocks.has(`${v[0]}>${id}`)).map((id: string) => ({ id }))
    case 'dir_lookup':
      return v[0].flatMap((conversation: string, i: number) => {
        const event = db.clients.get(`${conversation}/${v[1][i]}/${v[2][i]}`)
        return event ? [sendOf(event)] : []
      })
    case 'dir_messages':
      return v[0].flatMap((conversation: string, i: number) =>
        logOf(db.conversations.get(conversation))
          .filter(e => e.messageId === v[1][i] && e.kind === 'message.new')
          .map(sendOf),
      )
    case 'dir_heads':
      return conversations(v[0]).map(c => ({
        ...{ id: c.id, firstSeq: c.firstSeq, epoch: db.shards[c.shard]!.epoch, head: c.head || c.firstSeq - 1 },
      }))
    case 'dir_open_runs': {
      const open = [...db.runs.values()].filter(r => v[0].includes(r.shard) && r.status !== 'ended')
      return [...new Set(open.map(r => r.conversation))].map(id => ({ id }))
    }
    case 'dir_names':
      return v[0].map((id: string) => ({ id, username: `u${id.slice(-4)}`, displayName: null }))
    case 'frames_page':
      return logOf(db.conversations.get(v[0]))
        .filter(e => e.seq > v[1])
        .slice(0, v[2])
        .map(({ seq, messageId, kind, at, body }) => ({ seq, messageId, kind, at, body, deleted: false }))
    case 'routes_known':
      return [...db.nodes.values()].some(n => n.state !== 'dead' && n.addrs.includes(v[0])) ? [{ one: 1 }] : []
    case 'routes': {
      const addrOf = (owner: string | null, worker: number | null) => {
        const node = owner === null ? undefined : db.nodes.get(owner)
        return (node && node.state !== 'dead' && node.addrs[worker!]) || ''
      }
      const map = db.shards.map(({ shard, epoch, owner, worker }) => `${shard} ${epoch} ${addrOf(owner, worker)}`)
      return [{ map: map.join(',') }]
    }
    default:
      throw new Error(`the model does not know ${name}`)
  }
}

/** The statements of gateway/reads.ts, known by a piece of their text. */
function hubRead(db: Tables, text: string, v: Values): Row[] {
  const member = (c: ConversationRecord, user: string) => (c.deleted ? undefined : c.members.get(user))
  const all = [...db.conversations.values()]
  if (text.includes('disabled_at is null')) return [{ ok: true }]
  if (text.includes('h.seq::float8')) {
    return all
      .filter(c => member(c, v[0]) && c.head > 0)
      .map(c => {
        const known = v[1].indexOf(c.id)
        const readSeq = Math.max(member(c, v[0])!.readSeq, known < 0 ? 0 : v[2][known])
        const news = logOf(c).filter(e => e.kind === 'message.new' && e.seq > readSeq && e.senderId !== v[0])
        return {
          row: { id: c.id, type: c.kind, title: c.title, headSeq: c.head, readSeq, unread: Math.min(100, news.length) },
          at: c.events.get(c.head)!.at,
        }
      })
      .sort((a, b) => b.at - a.at || (a.row.id < b.row.id ? 1 : -1))
      .map(({ row }) => row)
  }
  if (text.includes('string_agg(m.conversation_id')) {
    return v[0].flatMap((user: string) => {
      const own = all.filter(c => member(c, user)).map(c => c.id)
      return own.length === 0 ? [] : [{ user_id: user, ids: own.join(',') }]
    })
  }
  if (text.includes('m.joined_seq::float8')) {
    return all.flatMap(c =>
      v[0].flatMap((user: string) => {
        const m = member(c, user)
        if (!m) return []
        return [{ user_id: user, conversation_id: c.id, joined_seq: m.joinedSeq, kind: c.kind, title: c.title }]
      }),
    )
  }
  if (text.includes('x.nth = 1 or')) {
    const [conversations, afters, events, bytes] = v
    return conversations.flatMap((conversation: string, i: number) => {
      const rows: Row[] = []
      let total = 0
      for (const e of logOf(db.conversations.get(conversation))) {
        if (e.seq <= afters[i] || rows.length >= events[i]) continue
        total += Buffer.byteLength(e.body) + 200
        if (rows.length > 0 && total > bytes[i]) break
        rows.push({ n: i + 1, kind: e.kind, seq: e.seq, sender_id: e.senderId, body: e.body, at: e.at, deleted: false })
      }
      return rows
    })
  }
  if (text.includes("body ->> 'content'")) {
    for (const c of all) {
      for (const e of c.events.values()) {
        if (e.messageId === v[0] && e.kind === 'message.new') return [{ content: JSON.parse(e.body).content }]
      }
    }
    return []
  }
  if (text.includes('from ai_run r join ai_segment')) {
    const run = [...db.runs.values()].find(r => r['answer_id'] === v[0])
    return [...(db.segments.get(run?.id ?? '') ?? [])].sort(([a], [b]) => a - b).map(([, piece]) => ({ text: piece }))
  }
  if (text.includes("kind = 'room.member_left'")) {
    const left = logOf(db.conversations.get(v[0])).filter(
      e => e.kind === 'room.member_left' && JSON.parse(e.body).userId === v[1],
    )
    return left.length > 0 ? [{ seq: left.at(-1)!.seq }] : []
  }
  if (text.includes('select distinct o.user_id')) {
    const shared = all.filter(c => member(c, v[0])).flatMap(c => [...c.members.keys()])
    return [...new Set(shared)].filter(user => v[1].includes(user)).map(user_id => ({ user_id }))
  }
  throw new Error(`the model does not know: ${text}`)
}
