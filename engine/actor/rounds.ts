/** The rounds of a turn that are over, as the model knows them: what it said and called, and what came of it. Pure. */
import { roundOf } from '#engine/conversation/calls.ts'
import type { Run } from '#engine/conversation/state.ts'
import { toolContextBytesMax } from '#protos/limits.ts'
import type { TurnMessage } from './ports.ts'

const leftOut = JSON.stringify({ note: 'This came earlier in this turn, was long, and is left out here.' })

export function roundsOf(run: Run): TurnMessage[] {
  const messages: TurnMessage[] = []
  const bytes = Buffer.from(run.text)
  const kept = keptOf(run)
  let from = 0
  for (let round = 0; round < roundOf(run); round++) {
    const calls = run.calls.filter(c => c.round === round)
    const to = calls[0]?.atBytes ?? from
    messages.push({
      role: 'assistant',
      content: bytes.subarray(from, to).toString(),
      calls: calls.map(({ callId, name, arguments: args }) => ({ id: callId, name, arguments: args })),
    })
    for (const { callId, result } of calls)
      messages.push({ role: 'tool', callId, content: kept.has(callId) ? (result ?? '') : leftOut })
    from = to
  }
  return messages
}

/** The calls whose results are shown: the latest ones, as many as there is room for; short ones always. */
function keptOf(run: Run): Set<string> {
  const kept = new Set<string>()
  let left = toolContextBytesMax
  for (const { callId, result } of run.calls.toReversed()) {
    const bytes = Buffer.byteLength(result ?? '')
    if (bytes > leftOut.length && bytes > left) continue
    left -= bytes
    kept.add(callId)
  }
  return kept
}
