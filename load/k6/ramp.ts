/** Sockets come up to 5,000 on one gateway, stay, and are told of what happens in their rooms. Thresholds on ready and order. */
import { always, makeRoom, ofSends, Person, sized, tokens } from './lib.ts'

const sockets = sized(5000, 100)
const vus = sized(50, 10)
const each = sockets / vus
const rampMs = sized(60_000, 3000)
const stayMs = sized(60_000, 3000)

export const options = {
  scenarios: { ramp: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '5m' } },
  thresholds: { ...always, ...ofSends, parley_ready_ms: ['p(95)<3000'] },
}

export function setup() {
  const people = Math.min(tokens.length, Math.ceil(sockets / 8))
  const rooms = []
  for (let i = 0; i + 4 < people; i += 5) rooms.push(makeRoom([i, i + 1, i + 2, i + 3, i + 4], `ramp ${i}`))
  return { people, rooms }
}

export default function ({ people, rooms }) {
  const open = []
  for (let n = 0; n < each; n++) {
    const at = (__VU - 1) * each + n
    setTimeout(() => open.push(new Person(tokens[at % people], { ready })), (n / each) * rampMs)
  }
  // One socket of each group of ten talks now and then.
  function ready(person) {
    const room = rooms[Math.floor(open.indexOf(person) / 2) % rooms.length]
    if (open.indexOf(person) % 10 === 0 && person.heads.has(room)) person.send(room)
  }
  setTimeout(() => {
    for (const person of open) for (const id of person.heads.keys()) if (rooms.includes(id)) person.audit(id)
    for (const person of open) person.close()
  }, rampMs + stayMs)
}
