/**
 * A response's body as the SDK iterates it: what came since the last step is one piece, so a turn that pulls less often costs
 * less. Reads ahead within a bound, then lets TCP push back. Breaks off above the weight a response may have.
 */
import type { IncomingMessage } from 'node:http'
import { upstreamReadAheadBytesMax } from '#protos/limits.ts'

/** `count`: told how many bytes more, or fewer, wait to be pulled. */
export function readBody(
  response: IncomingMessage,
  bytesMax: number,
  count: (bytes: number) => void,
): AsyncIterableIterator<Uint8Array> {
  let pieces: Buffer[] = []
  let ahead = 0
  let weight = 0
  let isOver = false
  let error: Error | undefined
  let wake: (() => void) | undefined

  const finish = (cause?: Error) => {
    if (isOver) return
    isOver = true
    error = cause
    wake?.()
  }
  response.on('data', (piece: Buffer) => {
    weight += piece.length
    if (isOver) return
    if (weight > bytesMax) {
      response.destroy()
      return finish(new Error(`response above ${bytesMax} bytes`))
    }
    pieces.push(piece)
    ahead += piece.length
    count(piece.length)
    if (ahead >= upstreamReadAheadBytesMax) response.pause()
    wake?.()
  })
  response.on('end', () => finish())
  response.on('error', finish)
  response.on('close', () => finish(response.complete ? undefined : new Error('the response broke off')))

  function take(): Buffer {
    const piece = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces, ahead)
    count(-ahead)
    pieces = []
    ahead = 0
    if (response.isPaused()) response.resume()
    return piece
  }
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      while (pieces.length === 0 && !isOver) await new Promise<void>(go => (wake = go))
      if (pieces.length > 0) return { done: false, value: take() }
      if (error) throw error
      return { done: true, value: undefined }
    },
    async return() {
      finish()
      count(-ahead)
      pieces = []
      ahead = 0
      // One that is whole leaves its connection for the next call.
      if (response.complete) response.resume()
      else response.destroy()
      return { done: true, value: undefined }
    },
  }
}
