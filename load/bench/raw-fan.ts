/**
 * The raw loop of fan-out in a process of its own: speaks as much of the protocol as the generator asks for, stores nothing, and for
 * each send writes one frame, made beforehand, to each of its sockets. Says over IPC where it listens.
 */
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'

/** Of a text frame to a client, header included. */
const bytes = Number(process.argv[2])
const payload = Buffer.alloc(bytes - 4, 0x20)
payload.write('{"type":"message.new"')
payload[payload.length - 1] = 0x7d
const frame = Buffer.concat([Buffer.from([0x81, 126, payload.length >> 8, payload.length & 255]), payload])

const sockets: Socket[] = []
const http = createServer()
const server = new WebSocketServer({ server: http, perMessageDeflate: false })
server.on('connection', (client: WebSocket, { socket }) => {
  client.on('error', () => {})
  client.on('message', data => {
    const text = data.toString()
    if (text.startsWith('{"type":"auth"')) {
      sockets.push(socket as Socket)
      client.send('{"type":"ready"}')
      return
    }
    for (const each of sockets) each.write(frame)
    const { clientMessageId } = JSON.parse(text) as { clientMessageId: string }
    client.send(`{"type":"ack","clientMessageId":"${clientMessageId}"}`)
  })
})
http.listen(0, '127.0.0.1', () => process.send!({ port: (http.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
