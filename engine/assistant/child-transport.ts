/**
 * A further MCP server as a child process: one JSON-RPC message a line, over its stdin and stdout. Instead of the SDK's own
 * transport, whose reader takes quadratic time for long lines: 10 MB took five seconds, for all servers. Refuses lines beyond
 * the limit, and to leave a child behind.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { getDefaultEnvironment } from '@modelcontextprotocol/sdk/client/stdio.js'
import { deserializeMessage, serializeMessage } from '@modelcontextprotocol/sdk/shared/stdio.js'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import { mcpMessageBytesMax, mcpStderrCharsMax } from '#protos/limits.ts'

/** A child whose input has ended gets so long, then as long after SIGTERM. */
const graceMs = 2000
/** What it wrote before its end is read this long. */
const lastWordsMs = 200

export class ChildTransport {
  onclose?: () => void
  onerror?: (error: Error) => void
  onmessage?: (message: JSONRPCMessage) => void
  readonly #given: { command: string; args: readonly string[]; env: Record<string, string> }
  #child: ChildProcessWithoutNullStreams | undefined
  #exited: Promise<unknown> = Promise.resolve()
  /** Of the line that is not complete yet. */
  #pieces: Buffer[] = []
  #bytes = 0
  #complaints = ''

  constructor(given: { command: string; args: readonly string[]; env: Record<string, string> }) {
    this.#given = given
  }

  /** The end of what it wrote to stderr. */
  get complaints(): string {
    return this.#complaints.trim()
  }

  async start(): Promise<void> {
    const { command, args, env } = this.#given
    // Not our environment: it holds secrets.
    const child = spawn(command, args, { env: { ...getDefaultEnvironment(), ...env }, stdio: 'pipe' })
    this.#child = child
    for (const stream of [child.stdin, child.stdout, child.stderr]) {
      stream.on('error', error => this.onerror?.(error))
    }
    child.stdout.on('data', (chunk: Buffer) => this.#read(chunk))
    child.stderr.on('data', (chunk: Buffer) => {
      this.#complaints = (this.#complaints + chunk.toString()).slice(-mcpStderrCharsMax)
    })
    this.#exited = new Promise(resolve => child.once('close', resolve))
    // Its own children may keep its pipes open for ever.
    child.once('exit', () =>
      setTimeout(() => {
        for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()
      }, lastWordsMs),
    )
    await once(child, 'spawn')
    child.on('error', error => this.onerror?.(error))
    void this.#exited.then(() => this.onclose?.())
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const stdin = this.#child?.stdin
    if (!stdin?.writable) throw new Error('the server has ended')
    if (!stdin.write(serializeMessage(message))) await Promise.race([once(stdin, 'drain'), this.#exited])
  }

  async close(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined) return
    child.stdin.end()
    const timers = [
      setTimeout(() => child.kill('SIGTERM'), graceMs),
      setTimeout(() => child.kill('SIGKILL'), 2 * graceMs),
    ]
    await this.#exited
    for (const timer of timers) clearTimeout(timer)
  }

  #read(chunk: Buffer): void {
    for (let from = 0; ; ) {
      const end = chunk.indexOf(10, from)
      const piece = chunk.subarray(from, end < 0 ? chunk.length : end)
      this.#pieces.push(piece)
      this.#bytes += piece.length
      if (this.#bytes > mcpMessageBytesMax) {
        this.#pieces = []
        this.onerror?.(new Error('the server sent too much'))
        this.#child?.kill('SIGKILL')
        return
      }
      if (end < 0) return
      const line = Buffer.concat(this.#pieces).toString()
      this.#pieces = []
      this.#bytes = 0
      from = end + 1
      if (line.trim() !== '') this.#hear(line)
    }
  }

  #hear(line: string): void {
    let message: JSONRPCMessage
    try {
      message = deserializeMessage(line)
    } catch (error) {
      // Programs print banners; they are not for us.
      return this.onerror?.(error as Error)
    }
    this.onmessage?.(message)
  }
}
