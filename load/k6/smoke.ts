/**
 * A k6 scenario over REST and sockets: pairs of people register, meet in a direct chat, and one writes while both watch.
 * Thresholds: every send acked and delivered once and in order, checks all hold.
 *
 *   k6 run -e URL=http://127.0.0.1:3000 load/k6/smoke.ts
 *
 * The server needs RATE_LIMIT_SCALE=1000 SOCKETS_PER_ADDRESS=0: everybody comes from one address. Small and bounded, for
 * loopback; load/bench is for ceilings. Refuses to be more than a smoke test.
 */
import { check, fail } from 'k6'
import http from 'k6/http'
import { Counter, Rate, Trend } from 'k6/metrics'
import { WebSocket } from 'k6/websockets'

const url = __ENV.URL || 'http://127.0.0.1:3000'
const pairs = Number(__ENV.PAIRS || 5)
const sends = Number(__ENV.SENDS || 20)

const ackMs = new Trend('parley_ack_ms', true)
const acked = new Counter('parley_acked')
const delivered = new Counter('parley_delivered')
const inOrder = new Rate('parley_in_order')

export const options = {
  scenarios: {
    pairs: { executor: 'per-vu-iterations', vus: pairs, iterations: 1, maxDuration: '60s' },
  },
  thresholds: {
    checks: ['rate==1'],
    parley_in_order: ['rate==1'],
    parley_acked: [`count==${pairs * sends}`],
    parley_delivered: [`count==${pairs * sends}`],
    // A bound for a machine that does other things; the figure is in load/RESULTS.md.
    parley_ack_ms: ['p(95)<2000'],
    http_req_failed: ['rate==0'],
  },
}

function post(path, body, token) {
  const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) }
  return http.post(url + path, JSON.stringify(body), { headers })
}

function register(name) {
  const answer = post('/api/auth/register', {
    email: `${name}@example.org`,
    password: 'correct horse battery',
    username: name,
  })
  if (!check(answer, { registered: r => r.status === 201 })) fail(`register: ${answer.status} ${answer.body}`)
  return { name, token: answer.json('access_token') }
}

function uuid() {
  const hex = n => Array.from({ length: n }, () => Math.floor(Math.random() * 16).toString(16)).join('')
  return `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`
}

export default function () {
  const run = `${__VU}_${Date.now().toString(36)}`
  const ana = register(`ana_${run}`)
  const ben = register(`ben_${run}`)
  const made = post('/conversations', { type: 'dm', usernames: [ben.name] }, ana.token)
  if (!check(made, { created: r => r.status === 201 })) fail(`create: ${made.status} ${made.body}`)
  const conversationId = made.json('id')

  const begun = new Map()
  const seen = { ana: made.json('head_seq'), ben: made.json('head_seq') }
  let ready = 0
  let acks = 0
  let got = 0
  const sockets = [open(ana, onAna, 'ana'), open(ben, onBen, 'ben')]
  // Nothing hangs: what has not come by then fails its threshold.
  const timer = setTimeout(close, 30000)

  function open(person, onFrame, who) {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws`, 'parley.v1')
    socket.addEventListener('open', () => socket.send(JSON.stringify({ type: 'auth', token: person.token })))
    socket.addEventListener('message', event => {
      const frame = JSON.parse(event.data)
      if (frame.type === 'error') check(frame, { 'no error frame': f => f.code === undefined })
      if (frame.type === 'ready' && ++ready === 2) send()
      if (frame.type === 'message.new') {
        inOrder.add(frame.seq === seen[who] + 1)
        seen[who] = frame.seq
      }
      onFrame(frame)
    })
    return socket
  }

  function send() {
    const clientMessageId = uuid()
    begun.set(clientMessageId, Date.now())
    const content = `message ${begun.size} of ${run}`
    sockets[0].send(JSON.stringify({ type: 'message.send', conversationId, clientMessageId, content }))
  }

  function onAna(frame) {
    if (frame.type !== 'ack') return
    acks++
    acked.add(1)
    ackMs.add(Date.now() - begun.get(frame.clientMessageId))
    check(frame, { 'first of its id': f => f.duplicate === false })
    if (begun.size < sends) send()
    done()
  }

  function onBen(frame) {
    if (frame.type !== 'message.new') return
    got++
    delivered.add(1)
    done()
  }

  function done() {
    if (acks === sends && got === sends) close()
  }

  function close() {
    clearTimeout(timer)
    for (const socket of sockets) socket.close()
  }
}
