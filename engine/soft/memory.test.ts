/** The store in memory passes the contract, on a clock that the test drives. */
import { createMemoryStore } from './memory.ts'
import { softContract } from './soft.contract.ts'

let at = 1000
const clock = { now: () => 1_700_000_000_000 + at, mono: () => at }

softContract('memory', {
  open: async options => createMemoryStore(clock, options),
  wait: async ms => {
    at += ms
  },
})
