/** The rounds of a turn that are over, as the model knows them: what it said and called, and what came of it. Pure. */
import { roundOf } from '#engine/conversation/calls.ts'
import type { Run } from '#engine/conversation/state.ts'
import type { TurnMessage } from './ports.ts'

export function roundsOf(run: Run): TurnMessage[] {
  const messages: TurnMessage[] = []
  const bytes = Buffer.from(run.text)
  let from = 0
  for (let round = 0; round < roundOf(run); round++) {
    const calls = run.calls.filter(c => c.round === round)
    const to = calls[0]?.atBytes ?? from
    messages.push({
      role: 'assistant',
      content: bytes.subarray(from, to).toString(),
      calls: calls.map(({ callId, name, arguments: args }) => ({ id: callId, name, arguments: args })),
    })
    for (const { callId, result } of calls) messages.push({ role: 'tool', callId, content: result ?? '' })
    from = to
  }
  return messages
}
