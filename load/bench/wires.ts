/**
 * What the generator has to know of a protocol: how a socket says who it is, how a send looks and what came back. One for
 * Parley, one for Socket.IO. Refuses to parse more than that: the generator must not be what is measured.
 */
import type { WsClient } from '#load/kit/ws-client.ts'

export interface Sender {
  token: string
  conversation: string
}

/** A number: the running number of the send that was acked. */
export type Came = number | 'ready' | 'delivery' | 'refused' | 'other'

export interface Wire {
  path: string
  hello(client: WsClient, sender: Sender): void
  /** One text; answers what must be answered. */
  read(client: WsClient, bytes: Buffer, sender: Sender): Came
  /** A send with its running number. */
  send(n: number, sender: Sender): string
}

const content = (n: number) => `message number ${n}: the quick brown fox jumps over the lazy dog`

const born = Date.now().toString(16).padStart(12, '0')

/**
 * Version 7 with the running number in its last 48 bits, so that an ack needs no map. The time is this process's start: a send
 * that comes again is the same send.
 */
const idOf = (n: number) => `${born.slice(0, 8)}-${born.slice(8)}-7000-8000-${n.toString(16).padStart(12, '0')}`

const ackHead = Buffer.from('{"type":"ack"')
const newHead = Buffer.from('{"type":"message.new"')
const readyHead = Buffer.from('{"type":"ready"')
const errorHead = Buffer.from('{"type":"error"')
const idKey = Buffer.from('"clientMessageId":"')
const startsWith = (bytes: Buffer, head: Buffer) =>
  bytes.length >= head.length && bytes.compare(head, 0, head.length, 0, head.length) === 0

const parley: Wire = {
  path: '/ws',
  hello(client, { token }) {
    client.send(JSON.stringify({ type: 'auth', token }))
  },
  read(_client, bytes) {
    if (startsWith(bytes, newHead)) return 'delivery'
    if (startsWith(bytes, ackHead)) {
      const start = bytes.indexOf(idKey) + idKey.length + 24
      return Number.parseInt(bytes.toString('latin1', start, start + 12), 16)
    }
    if (startsWith(bytes, readyHead)) return 'ready'
    return startsWith(bytes, errorHead) ? 'refused' : 'other'
  },
  send: (n, { conversation }) =>
    `{"type":"message.send","conversationId":"${conversation}","clientMessageId":"${idOf(n)}","content":"${content(n)}"}`,
}

/** Engine.IO 4 over WebSocket: 0 open, 2 ping, 3 pong, 40 connected, 42 event, 43 answer to an event. */
const socketIo: Wire = {
  path: '/socket.io/?EIO=4&transport=websocket',
  hello() {},
  read(client, bytes, { token }) {
    switch (bytes[0]) {
      case 0x30:
        client.send(`40${JSON.stringify({ token })}`)
        return 'other'
      case 0x32:
        client.send('3')
        return 'other'
      default:
    }
    switch (bytes[1]) {
      case 0x30:
        return 'ready'
      case 0x32:
        return 'delivery'
      case 0x33:
        return Number.parseInt(bytes.toString('latin1', 2, 18), 10)
      default:
        return 'other'
    }
  },
  send: (n, { conversation }) =>
    `42${n}["send",{"conversation":"${conversation}","id":"${idOf(n)}","content":"${content(n)}"}]`,
}

export const wires = { parley, sio: socketIo } as const
export type WireName = keyof typeof wires
