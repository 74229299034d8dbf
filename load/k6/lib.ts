/**
 * What all scenarios share: people with tokens, sockets whose every event is audited, and their measures. A scenario owns its
 * shape and its numbers; SMOKE=1 makes each small.
 *
 *   node load/bench/k6.ts [--full] [scenario …]
 */
import { check } from 'k6'
import http from 'k6/http'
import { Counter, Rate, Trend } from 'k6/metrics'
import { WebSocket } from 'k6/websockets'

export const url = __ENV.URL
const wsUrl = `${url.replace(/^http/, 'ws')}/ws`
/** Access tokens of seed_1 … seed_n. */
export const tokens = open(__ENV.TOKENS).trim().split('\n')
export const isSmoke = __ENV.SMOKE === '1'
export const sized = (whole, smoke) => (isSmoke ? smoke : whole)

export const ackMs = new Trend('parley_ack_ms', true)
export const deliveryMs = new Trend('parley_delivery_ms', true)
export const readyMs = new Trend('parley_ready_ms', true)
export const firstTokenMs = new Trend('parley_first_token_ms', true)
export const inOrder = new Rate('parley_in_order')
export const errors = new Counter('parley_errors')
export const acked = new Counter('parley_acked')
export const delivered = new Counter('parley_delivered')
/** Events that a socket should have got by its end and did not. */
export const missed = new Counter('parley_missed')

/** Bounds for a machine that does other things; the figures are in load/RESULTS.md. */
export const always = {
  checks: ['rate==1'],
  parley_errors: ['count==0'],
  parley_in_order: ['rate==1'],
  parley_missed: ['count==0'],
}
export const ofSends = { parley_ack_ms: ['p(95)<2000'], parley_delivery_ms: ['p(95)<3000'] }

const headers = token => ({ 'content-type': 'application/json', authorization: `Bearer ${token}` })

export function post(path, body, token, name = path) {
  return http.post(url + path, JSON.stringify(body), { headers: headers(token), tags: { name } })
}

export function get(path, token, name = path) {
  return http.get(url + path, { headers: headers(token), tags: { name } })
}

/** A group of seeded people, by their indexes; the first makes it. Answers its id. */
export function makeRoom(people, title) {
  const usernames = people.slice(1).map(i => `seed_${i + 1}`)
  // One body holds about a thousand names.
  const made = post('/conversations', { type: 'group', title, usernames }, tokens[people[0]])
  if (!check(made, { 'room made': r => r.status === 201 })) throw new Error(`${made.status} ${made.body}`)
  return made.json('id')
}

export function uuid() {
  const hex = n => Array.from({ length: n }, () => Math.floor(Math.random() * 16).toString(16)).join('')
  return `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`
}

const notEvents = new Set(['ack', 'chat.done', 'error'])

/**
 * A socket of one person. `on`: ready, ack, event, stream, done, closed. `heads`, given by an earlier socket of the same
 * person: where it resumes, by joining. Every event has to be the next one.
 */
export class Person {
  constructor(token, on = {}, heads) {
    this.token = token
    this.on = on
    this.heads = heads ?? new Map()
    this.begun = new Map()
    this.openedAt = Date.now()
    this.isReady = false
    this.socket = new WebSocket(wsUrl, 'parley.v1')
    this.socket.addEventListener('open', () => this.say({ type: 'auth', token }))
    this.socket.addEventListener('message', event => this.take(JSON.parse(event.data), heads))
    this.socket.addEventListener('close', () => on.closed?.(this))
    this.socket.addEventListener('error', () => on.failed?.(this))
  }

  say(frame) {
    this.socket.send(JSON.stringify(frame))
  }

  send(conversationId, text = 'hello', type = 'message.send') {
    const clientMessageId = uuid()
    const now = Date.now()
    this.begun.set(clientMessageId, now)
    // The time of sending travels in the text.
    this.say({ type, conversationId, clientMessageId, content: type === 'chat.send' ? text : `${now} ${text}` })
    return clientMessageId
  }

  take(frame, resumed) {
    const { on } = this
    if (frame.type === 'ready') {
      readyMs.add(Date.now() - this.openedAt)
      for (const c of [...frame.conversations, ...frame.others]) {
        if (resumed?.has(c.id)) this.say({ type: 'room.join', conversationId: c.id, afterSeq: resumed.get(c.id) })
        else this.heads.set(c.id, c.headSeq)
      }
      this.isReady = true
      on.ready?.(this, frame)
    } else if (frame.type === 'ack') {
      if (this.begun.has(frame.clientMessageId)) {
        acked.add(1)
        ackMs.add(Date.now() - this.begun.get(frame.clientMessageId))
        this.begun.delete(frame.clientMessageId)
      }
      on.ack?.(this, frame)
    } else if (frame.type === 'error') {
      errors.add(1, { code: frame.code })
      on.error?.(this, frame)
    } else if (frame.type === 'conversation.added') this.heads.set(frame.conversationId, frame.conversation.headSeq)
    else if (frame.type === 'chat.stream') on.stream?.(this, frame)
    else if (frame.type === 'chat.done') on.done?.(this, frame)
    else if (frame.type === 'room.joined') on.joined?.(this, frame)
    else if (frame.seq !== undefined && !notEvents.has(frame.type)) this.event(frame, resumed)
  }

  event(frame, resumed) {
    const { conversationId: id, seq } = frame
    const last = this.heads.get(id) ?? 0
    // Live events may come before the replay that holds them too.
    if (resumed?.has(id) && seq !== last + 1) return
    inOrder.add(seq === last + 1)
    this.heads.set(id, seq)
    if (frame.type === 'message.new') {
      delivered.add(1)
      const sentAt = Number(frame.content?.split(' ')[0])
      if (sentAt > 1e12) deliveryMs.add(Date.now() - sentAt)
    }
    this.on.event?.(this, frame)
  }

  /** Compares what came with what the log has now. */
  audit(id) {
    const page = get(`/conversations/${id}/events?after=0&limit=1`, this.token, '/conversations/:id/events')
    if (!check(page, { 'log read': r => r.status === 200 })) return
    missed.add(Math.max(0, page.json('head_seq') - (this.heads.get(id) ?? 0)))
  }

  close() {
    this.socket.close()
  }
}
