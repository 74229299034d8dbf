/**
 * A client for tests on a real socket: every frame that the server sends is checked against the catalogue, kept, and can be
 * waited for. Owns nothing of the protocol's rules beyond that. Refuses to hide a bad frame: `close` throws it.
 */
import { WebSocket } from 'ws'
import { checkServerFrame } from '#protos/catalogue.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests look into frames of every kind
export type Frame = Record<string, any>

export interface TestClient {
  readonly ws: WebSocket
  /** Everything that came, in order. */
  readonly frames: Frame[]
  /** Resolves with the close code. */
  readonly closed: Promise<{ code: number; reason: string }>
  send(frame: Frame | string): void
  /** The first frame, old or new, that fits; each is given once per call position given by `from`. */
  next(match: (frame: Frame) => boolean, what?: string, ms?: number): Promise<Frame>
  ofType(type: string, ms?: number): Promise<Frame>
  /** Sends and waits for the answer by requestId. */
  ask(frame: Frame): Promise<Frame>
  close(): Promise<void>
}

let requests = 0

export async function openClient(
  url: string,
  options: {
    token?: string
    path?: string
    protocols?: string[]
    headers?: Record<string, string>
    isRaw?: boolean
  } = {},
): Promise<TestClient> {
  const ws = new WebSocket(`${url.replace(/^http/, 'ws')}${options.path ?? '/ws'}`, options.protocols ?? [], {
    headers: options.headers ?? {},
    perMessageDeflate: false,
  })
  const frames: Frame[] = []
  const bad: string[] = []
  let waiting: { match: (frame: Frame) => boolean; resolve: (frame: Frame) => void }[] = []
  const taken = new Set<Frame>()
  ws.on('message', (data: Buffer) => {
    const text = data.toString()
    const frame = JSON.parse(text) as Frame
    const checked = checkServerFrame(frame)
    if (!('frame' in checked)) bad.push(`${checked.field}: ${text.slice(0, 300)}`)
    frames.push(frame)
    const waiter = waiting.find(w => w.match(frame))
    if (!waiter) return
    waiting = waiting.filter(w => w !== waiter)
    taken.add(frame)
    waiter.resolve(frame)
  })
  const closed = new Promise<{ code: number; reason: string }>(resolve => {
    ws.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
  })
  ws.on('error', () => {})
  await new Promise<void>((resolve, reject) => {
    ws.once('open', () => resolve())
    ws.once('error', reject)
  })
  const client: TestClient = {
    ws,
    frames,
    closed,
    send: frame => ws.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
    next(match, what = 'a frame', ms = 8000) {
      const found = frames.find(frame => !taken.has(frame) && match(frame))
      if (found) {
        taken.add(found)
        return Promise.resolve(found)
      }
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting = waiting.filter(w => w !== waiter)
          reject(new Error(`${what} did not come; got ${JSON.stringify(frames.slice(-8)).slice(0, 2000)}`))
        }, ms)
        const waiter = {
          match,
          resolve: (frame: Frame) => {
            clearTimeout(timer)
            resolve(frame)
          },
        }
        waiting.push(waiter)
      })
    },
    ofType: (type, ms) => client.next(frame => frame['type'] === type, type, ms),
    ask(frame) {
      const requestId = `r${++requests}`
      client.send({ ...frame, requestId })
      return client.next(f => f['requestId'] === requestId, `the answer to ${frame['type']}`)
    },
    async close() {
      ws.close()
      const timer = setTimeout(() => ws.terminate(), 2000)
      await closed
      clearTimeout(timer)
      if (bad.length > 0) throw new Error(`frames that the catalogue does not know:\n${bad.join('\n')}`)
    },
  }
  if (options.token !== undefined) {
    client.send({ type: 'auth', token: options.token })
    await client.ofType('ready')
  }
  return client
}
