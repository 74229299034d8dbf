/**
 * The model behind the assistant, scripted: so many words with so long between them, as the question asks, now and then
 * cut short by a failure. Speaks through the same port as the real one.
 */

import type { Provider, TurnEvent, TurnRequest } from '#engine/actor/ports.ts'
import { kernel } from '../globals.ts'
import { setTimeout as sleep } from './timers.ts'

const tokens = { input: 1, output: 1, total: 2, estimated: false }

export function createProvider(): Provider {
  return {
    model: 'sim',
    async *stream(request: TurnRequest): AsyncGenerator<TurnEvent> {
      const { random } = kernel()
      const words = random.whole(0, 12)
      const delayMs = random.between(5, 300)
      const isBroken = random.chance(0.1)
      for (let i = 0; i < words; i++) {
        try {
          await sleep(delayMs, undefined, { signal: request.signal })
        } catch {
          return yield { kind: 'end', finish: 'stopped', tokens }
        }
        yield { kind: 'delta', text: `w${i} ${i % 3 === 0 ? 'é😀 ' : ''}` }
      }
      yield isBroken
        ? { kind: 'end', finish: 'failed', reason: 'protocol', tokens }
        : { kind: 'end', finish: 'stop', tokens }
    },
  }
}
