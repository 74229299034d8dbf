/**
 * A model that does what a test says: in each round of a turn the calls of the script, after the last one it says that it is
 * done. Speaks streaming chat completions on loopback and keeps what it was asked. Refuses to have a mind of its own.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export type ScriptedCall = { id?: string; name: string; args: unknown }

export interface Asked {
  messages: { role: string; content: string; tool_call_id?: string }[]
  tools?: { function: { name: string; description: string; parameters: { properties: object } } }[]
}

export interface ScriptedModel {
  /** For OPENAI_BASE_URL. */
  url: string
  /** Of the next turn; what was asked before is forgotten. `refusedRound`: this one is answered 400. */
  script(rounds: ScriptedCall[][], refusedRound?: number): void
  readonly asked: Asked[]
  close(): Promise<void>
}

export async function scriptedModel(): Promise<ScriptedModel> {
  let script: ScriptedCall[][] = []
  let refused: number | undefined
  let asked: Asked[] = []
  const server = createServer((request, response) => {
    const pieces: Buffer[] = []
    request.on('data', piece => pieces.push(piece))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(pieces).toString())
      asked.push(body)
      const round = body.messages.filter((m: { role: string; tool_calls?: unknown }) => m.tool_calls).length
      if (round === refused) return void response.writeHead(400).end('{"error":{"message":"no"}}')
      const calls = script[round] ?? []
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      const send = (delta: object, finish_reason: string | null = null) =>
        response.write(
          `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 0, model: 'm', choices: [{ index: 0, delta, finish_reason }] })}\n\n`,
        )
      for (const [index, call] of calls.entries()) {
        const args = typeof call.args === 'string' ? call.args : JSON.stringify(call.args)
        send({
          tool_calls: [
            {
              index,
              id: call.id ?? `r${round}c${index}`,
              type: 'function',
              function: { name: call.name, arguments: args },
            },
          ],
        })
      }
      if (calls.length === 0) send({ content: 'Done.' })
      send({}, calls.length > 0 ? 'tool_calls' : 'stop')
      response.end('data: [DONE]\n\n')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    script(rounds, refusedRound) {
      script = rounds
      refused = refusedRound
      asked = []
    },
    get asked() {
      return asked
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
