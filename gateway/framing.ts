/**
 * With quick-lane.ts the one place that touches private parts of `ws`: frames bytes once for many sockets, writes several frames with one call,
 * and asks how much of it has not left. Where those parts are missing it falls back to `ws.send`.
 * Refuses to decide what is sent to whom. A test is pinned to the version of `ws`.
 */
import type { Socket } from 'node:net'
import * as library from 'ws'

type WebSocket = library.WebSocket

type FrameOptions = { fin: boolean; opcode: number; mask: boolean; readOnly: boolean; rsv1: boolean }
type Private = { Sender?: { frame?: (data: Buffer, options: FrameOptions) => Buffer[] } }
const frameOf = (library as unknown as Private).Sender?.frame
const open = 1
const textFrame: FrameOptions = { fin: true, opcode: 1, mask: false, readOnly: true, rsv1: false }

/** A whole server frame: header and payload, never changed afterwards, shared by all sockets that it goes to. */
export type Framed = Buffer

/** Frames one text message. The payload is copied: it may be a view into a batch. */
export function frameText(payload: string | Uint8Array): Framed {
  const data =
    typeof payload === 'string'
      ? Buffer.from(payload)
      : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  if (frameOf) return Buffer.concat(frameOf(data, textFrame))
  return Buffer.concat([headerOf(data.length), data])
}

/** The payload of a frame made by frameText. */
export function payloadOf(frame: Framed): Buffer {
  const length = frame[1]!
  return frame.subarray(length === 127 ? 10 : length === 126 ? 4 : 2)
}

/** The socket under a server's WebSocket, while it is open. */
export function rawSocket(ws: WebSocket): Socket | undefined {
  return (ws as unknown as { _socket?: Socket | null })._socket ?? undefined
}

/** Writes whole frames, in order, with one call. Answers how many calls it took. */
export function writeFrames(ws: WebSocket, frames: readonly Framed[], bytes: number): number {
  if (ws.readyState !== open || frames.length === 0) return 0
  const socket = rawSocket(ws)
  if (socket && typeof socket.write === 'function') {
    socket.write(frames.length === 1 ? frames[0]! : Buffer.concat(frames as Framed[], bytes))
    return 1
  }
  for (const frame of frames) ws.send(payloadOf(frame), { binary: false })
  return frames.length
}

/** Bytes handed over and not known to have left; a large write counts whole until its last byte was taken. */
export function unsentBytes(ws: WebSocket): number {
  return rawSocket(ws)?.writableLength ?? 0
}

/** What is left of the write under way, as the handle knows it: it moves with every byte that the kernel takes. */
export function writeLeft(ws: WebSocket): number {
  const socket = rawSocket(ws) as unknown as { _handle?: { writeQueueSize?: number } | null } | undefined
  return socket?._handle?.writeQueueSize ?? 0
}

function headerOf(length: number): Buffer {
  if (length < 126) return Buffer.from([0x81, length])
  const header = Buffer.alloc(length < 65_536 ? 4 : 10)
  header[0] = 0x81
  if (length < 65_536) {
    header[1] = 126
    header.writeUInt16BE(length, 2)
  } else {
    header[1] = 127
    header.writeUIntBE(length, 4, 6)
  }
  return header
}
