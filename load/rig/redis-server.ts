/** The Redis that the rig breaks, and ports for what must be known beforehand. Owns its process; keeps nothing over a restart. */
import { type ChildProcess, spawn } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { endProcess } from '#load/kit/product.ts'

export class RedisServer {
  readonly url: string
  readonly #port: number
  readonly #home: string
  #child: ChildProcess | undefined

  private constructor(home: string, port: number) {
    this.#home = home
    this.#port = port
    this.url = `redis://127.0.0.1:${port}`
  }

  static async start(home: string): Promise<RedisServer> {
    const server = new RedisServer(home, await freePort())
    await server.again()
    return server
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Starts it with nothing in it. */
  async again(): Promise<void> {
    const settings = ['--port', String(this.#port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
    this.#child = spawn('redis-server', [...settings, '--dir', this.#home], { stdio: 'ignore' })
    this.#child.on('error', () => {})
    for (const until = performance.now() + 10_000; performance.now() < until; await sleep(50)) {
      if ((await this.command('PING').catch(() => '')).includes('PONG')) return
    }
    throw new Error('redis-server did not start')
  }

  signal(signal: NodeJS.Signals): boolean {
    return this.#child?.kill(signal) ?? false
  }

  /** The raw answer of one command without arguments that hold spaces. */
  async command(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#port, '127.0.0.1', () => socket.write(`${line}\r\n`))
      socket.setTimeout(1000, () => socket.destroy(new Error('no answer')))
      socket.once('data', answer => {
        socket.destroy()
        resolve(answer.toString())
      })
      socket.once('error', reject)
    })
  }

  async stop(): Promise<void> {
    this.signal('SIGCONT')
    if (this.#child) await endProcess(this.#child, 3000)
  }
}

/** The first of several that are free, one after the other. Below the range from which the kernel takes ports itself. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 12_000)
    const all = Array.from({ length: count }, (_, i) => freePort(first + i).catch(() => 0))
    if ((await Promise.all(all)).every(port => port !== 0)) return first
  }
}

function freePort(wanted = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number }
      probe.close(() => resolve(port))
    })
  })
}
