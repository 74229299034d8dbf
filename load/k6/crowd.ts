/** One room of a thousand people who all watch while a few write. Thresholds on ack, delivery, order, errors. */
import { always, makeRoom, ofSends, Person, sized, tokens } from './lib.ts'

const people = sized(1000, 60)
const vus = sized(20, 4)
const each = people / vus
const sends = sized(100, 20)
const everyMs = sized(500, 150)
const gatherMs = sized(20_000, 2500)

export const options = {
  scenarios: { crowd: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '5m' } },
  thresholds: {
    ...always,
    ...ofSends,
    parley_acked: [`count==${sends}`],
    parley_delivered: [`count==${sends * people}`],
  },
}

export function setup() {
  return {
    room: makeRoom(
      Array.from({ length: people }, (_, i) => i),
      'everybody',
    ),
    at: Date.now() + gatherMs,
  }
}

export default function ({ room, at }) {
  const open = Array.from({ length: each }, (_, n) => new Person(tokens[(__VU - 1) * each + n], {}))
  let sent = 0
  // One of them all writes.
  if (__VU === 1) setTimeout(talk, at - Date.now())
  function talk() {
    open[sent % open.length].send(room)
    if (++sent < sends) setTimeout(talk, everyMs)
  }
  setTimeout(
    () => {
      for (const person of open) person.audit(room)
      for (const person of open) person.close()
    },
    at - Date.now() + sends * everyMs + 3000,
  )
}
