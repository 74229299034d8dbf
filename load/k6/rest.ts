/** A mix of REST: lists, history, sends, receipts by people who have no socket. Thresholds on failures and times. */
import { check, sleep } from 'k6'
import { get, makeRoom, post, sized, tokens, uuid } from './lib.ts'

const vus = sized(50, 6)

export const options = {
  scenarios: { rest: { executor: 'constant-vus', vus, duration: sized('2m', '6s') } },
  thresholds: { checks: ['rate==1'], http_req_failed: ['rate==0'], http_req_duration: ['p(95)<2000'] },
}

export function setup() {
  const rooms = []
  for (let i = 0; i < vus; i++) rooms.push(makeRoom([i, (i + 1) % tokens.length], `by REST ${i}`))
  return { rooms }
}

export default function ({ rooms }) {
  const at = (__VU - 1) % rooms.length
  const [token, room] = [tokens[at], rooms[at]]
  const all = [
    get('/me', token),
    get('/conversations?limit=20', token, '/conversations'),
    get(`/conversations/${room}/events?after=0&limit=50`, token, '/conversations/:id/events'),
  ]
  for (const answer of all) check(answer, { read: r => r.status === 200 })
  const clientMessageId = uuid()
  const body = { client_message_id: clientMessageId, content: `by REST ${__ITER}` }
  const path = `/conversations/${room}/messages`
  const sent = post(path, body, token, '/conversations/:id/messages')
  check(sent, { sent: r => r.status === 201 || r.status === 200 })
  // The same again is the same.
  const again = post(path, body, token, '/conversations/:id/messages')
  check(again, { 'stored once': r => r.json('seq') === sent.json('seq') })
  sleep(0.1)
}
