/** Assistant streams: everybody asks in a conversation of their own and reads the answer as it comes, byte by byte. */
import { check } from 'k6'
import { always, firstTokenMs, Person, post, sized, tokens } from './lib.ts'

const vus = sized(50, 5)
const questions = sized(5, 2)

export const options = {
  scenarios: { streams: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '5m' } },
  thresholds: { ...always, parley_first_token_ms: ['p(95)<3000'] },
}

const utf8Bytes = text => encodeURIComponent(text).replace(/%../g, '.').length

export default function () {
  const token = tokens[(__VU - 1) % tokens.length]
  const made = post('/conversations', { type: 'ai', title: `questions ${__VU}` }, token)
  if (!check(made, { 'conversation made': r => r.status === 201 })) return
  const room = made.json('id')
  let asked = 0
  let askedAt = 0
  const texts = new Map()
  const finals = new Map()
  const person = new Person(token, {
    ready: p => p.say({ type: 'room.join', conversationId: room, afterSeq: p.heads.get(room) ?? 0 }),
    joined: ask,
    stream(_, { messageId, offset, content }) {
      if (!texts.has(messageId)) firstTokenMs.add(Date.now() - askedAt)
      const before = texts.get(messageId) ?? ''
      check(null, { 'pieces continue': () => offset === utf8Bytes(before) })
      texts.set(messageId, before + content)
    },
    event(_, { type, messageId, content }) {
      if (type === 'message.new') finals.set(messageId, content)
    },
    done(_, { messageId, bytes, finish }) {
      const text = texts.get(messageId) ?? ''
      check(null, {
        'stream is the answer': () => text === finals.get(messageId) && utf8Bytes(text) === bytes,
        'it stopped by itself': () => finish === 'stop',
      })
      if (asked < questions) ask()
      else end()
    },
  })
  const timer = setTimeout(() => {
    check(null, { 'all answered': () => false })
    end()
  }, questions * 30_000)
  function ask() {
    asked++
    askedAt = Date.now()
    person.send(room, `tell me about the sea, part ${asked}`, 'chat.send')
  }
  function end() {
    clearTimeout(timer)
    person.audit(room)
    person.close()
  }
}
