/**
 * A model server that does what a question tells it to: each question names a script (upstream-scripts.ts), and every request
 * is written down with what was sent, so that a checker can count the inferences of a turn. It speaks streamed chat completions.
 * Refuses to be helpful: a script that misbehaves does so exactly.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Inference } from '#load/kit/checkers-streams.ts'
import { Play } from './upstream-play.ts'
import { type Script, type ScriptName, scripts } from './upstream-scripts.ts'

/** What a question carries; the rest of the content is for people. */
export const questionOf = (run: string, script: ScriptName, tokens: number, gapMs: number): string =>
  `#rig id=${run} script=${script} n=${tokens} gap=${gapMs}`

const questionPattern = /#rig id=([0-9a-f-]+) script=([a-z0-9-]+) n=(\d+) gap=(\d+)/

interface Said {
  role: string
  content: string | null
  tool_calls?: unknown[]
}

export class Upstream {
  readonly inferences: Inference[] = []
  /** Requests that name no script: there should be none. */
  strangers = 0
  readonly #attempts = new Map<string, number>()
  #server: Server
  /** All that ever listened: an answer of an earlier one may still be under way. */
  readonly #servers: Server[]
  #port = 0

  readonly #keepsTimes: boolean

  private constructor(keepsTimes: boolean) {
    this.#keepsTimes = keepsTimes
    this.#server = this.#make()
    this.#servers = [this.#server]
  }

  /** `keepsTimes`: when each byte left is kept with its inference. */
  static async start(keepsTimes = false): Promise<Upstream> {
    const upstream = new Upstream(keepsTimes)
    await upstream.#listen()
    return upstream
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/v1`
  }

  /** Refuses new connections for so long; answers under way go on. */
  async away(ms: number): Promise<void> {
    const old = this.#server
    old.close()
    await sleep(ms)
    this.#server = this.#make()
    await this.#listen()
    this.#servers.push(this.#server)
  }

  stop(): void {
    for (const server of this.#servers) {
      server.close()
      server.closeAllConnections()
    }
  }

  #make(): Server {
    return createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy())
    })
  }

  async #listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const { messages } = JSON.parse(Buffer.concat(pieces).toString()) as { messages: Said[] }
    const at = messages.findLastIndex(m => m.role === 'user' && questionPattern.test(m.content ?? ''))
    const [, run = '', name = '', tokens, gap] = questionPattern.exec(messages[at]?.content ?? '') ?? []
    const script: Script | undefined = scripts[name as ScriptName]
    if (!script) {
      this.strangers++
      response.writeHead(400).end()
      return
    }
    const after = messages.slice(at + 1)
    const round = after.filter(m => m.tool_calls !== undefined).length
    const key = `${run} ${round}`
    const attempt = (this.#attempts.get(key) ?? 0) + 1
    this.#attempts.set(key, attempt)
    const inference: Inference = { run, round, attempt, at: performance.now(), planned: '', sentBytes: 0 }
    if (this.#keepsTimes) inference.sentAt = []
    this.inferences.push(inference)
    // Before the answer is whole, this is the client that went away: a stop, or a process that ended.
    response.on('close', () => {
      inference.closedAt = performance.now()
    })
    const results = after.flatMap(m => (m.role === 'tool' ? (m.content ?? '') : []))
    await script.play(new Play(response, inference, Number(tokens), Number(gap), results))
  }
}
