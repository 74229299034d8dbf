/** Many small rooms: 200 conversations of five, everybody talks a little. Thresholds on ack, delivery, order, errors. */
import { always, makeRoom, ofSends, Person, sized, tokens } from './lib.ts'

const vus = sized(200, 10)
const sends = sized(60, 10)
const everyMs = sized(1000, 200)

export const options = {
  scenarios: { rooms: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '3m' } },
  thresholds: {
    ...always,
    ...ofSends,
    parley_acked: [`count==${vus * sends}`],
    parley_delivered: [`count==${vus * sends * 5}`],
  },
}

export default function () {
  const first = ((__VU - 1) * 5) % (tokens.length - 4)
  const people = [0, 1, 2, 3, 4].map(i => first + i)
  const room = makeRoom(people, `small ${__VU}`)
  let ready = 0
  let got = 0
  let acks = 0
  let sent = 0
  const open = people.map(i => new Person(tokens[i], { ready: begin, event, ack }))
  const timer = setTimeout(end, sends * everyMs + 20_000)
  function begin() {
    if (++ready === open.length) talk()
  }
  function talk() {
    open[sent % open.length].send(room)
    if (++sent < sends) setTimeout(talk, everyMs)
  }
  function event(_, frame) {
    if (frame.type === 'message.new' && frame.conversationId === room) got++
    endWhenAll()
  }
  function ack() {
    acks++
    endWhenAll()
  }
  function endWhenAll() {
    if (got === sends * open.length && acks === sends) end()
  }
  function end() {
    clearTimeout(timer)
    for (const person of open) person.audit(room)
    for (const person of open) person.close()
  }
}
