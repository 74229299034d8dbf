/** A reconnect storm: everybody loses the connection at once and resumes at once, while somebody goes on writing. */
import { always, makeRoom, ofSends, Person, sized, tokens } from './lib.ts'

const vus = sized(40, 5)
const each = sized(25, 8)
const storms = sized(5, 2)
const everyMs = sized(8000, 2500)

export const options = {
  scenarios: { storm: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '5m' } },
  thresholds: { ...always, ...ofSends, parley_ready_ms: ['p(95)<5000'] },
}

export function setup() {
  return { at: Date.now() + 2000 }
}

export default function ({ at }) {
  const first = ((__VU - 1) * each) % Math.max(1, tokens.length - each)
  const people = Array.from({ length: each }, (_, n) => first + n)
  const room = makeRoom(people, `storm ${__VU}`)
  const heads = people.map(() => undefined)
  let open = []
  let round = 0
  let isOver = false
  gather()
  function gather() {
    open = people.map((who, i) => new Person(tokens[who], {}, heads[i]))
  }
  const talking = setInterval(() => {
    const writer = open.find(person => person.isReady)
    if (writer && !isOver) writer.send(room)
  }, 250)
  // All at the same moment, in every process of the tool.
  for (let n = 1; n <= storms; n++) setTimeout(storm, at - Date.now() + n * everyMs)
  function storm() {
    round++
    open.forEach((person, i) => {
      heads[i] = new Map([...person.heads].filter(([id]) => id === room))
      person.close()
    })
    gather()
    if (round < storms) return
    setTimeout(() => {
      isOver = true
      clearInterval(talking)
    }, everyMs - 1500)
    setTimeout(() => {
      for (const person of open) person.audit(room)
      for (const person of open) person.close()
    }, everyMs)
  }
}
