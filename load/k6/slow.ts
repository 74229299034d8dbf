/** Slow consumers: some read their frames one at a time with long pauses; nobody else in the same room is held up. */
import { sleep } from 'k6'
import { always, makeRoom, ofSends, Person, sized, tokens } from './lib.ts'

const quick = sized(40, 6)
const slow = sized(10, 2)
const sends = sized(300, 40)
const everyMs = sized(100, 100)

export const options = {
  scenarios: {
    quick: { executor: 'per-vu-iterations', exec: 'quickly', vus: quick, iterations: 1, maxDuration: '3m' },
    slow: { executor: 'per-vu-iterations', exec: 'slowly', vus: slow, iterations: 1, maxDuration: '3m' },
  },
  thresholds: {
    ...always,
    'parley_ack_ms{scenario:quick}': ofSends.parley_ack_ms,
    'parley_delivery_ms{scenario:quick}': ofSends.parley_delivery_ms,
  },
}

export function setup() {
  return {
    room: makeRoom(
      Array.from({ length: quick + slow }, (_, i) => i),
      'mixed',
    ),
    at: Date.now() + 2500,
  }
}

export function quickly({ room, at }) {
  const mine = (__VU - 1) % (quick + slow)
  const person = new Person(tokens[mine], {})
  let sent = 0
  const talking = setInterval(() => {
    if (Date.now() < at || !person.isReady) return
    person.send(room)
    if (++sent >= sends / 10) clearInterval(talking)
  }, everyMs * 10)
  setTimeout(
    () => {
      person.audit(room)
      person.close()
    },
    at - Date.now() + sends * everyMs + 4000,
  )
}

export function slowly({ at }) {
  const mine = (__VU - 1) % (quick + slow)
  const until = at + sends * everyMs
  const person = new Person(tokens[mine], {
    event() {
      // The whole of this person stands still; the socket fills.
      if (Date.now() < until) sleep(0.2)
    },
  })
  setTimeout(() => person.close(), until - Date.now())
}
