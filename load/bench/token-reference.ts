/**
 * What most people would build to relay an answer: read the model's stream with its SDK and send each token to each watcher as
 * it comes. Stores nothing. Told by the environment where the model is; says over IPC where it listens; one message starts a room.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import OpenAI from 'openai'
import { type WebSocket, WebSocketServer } from 'ws'

const rooms = new Map<string, Set<WebSocket>>()
const http = createServer()
const server = new WebSocketServer({ server: http, perMessageDeflate: false })
server.on('connection', (socket, request) => {
  const id = new URL(request.url ?? '/', 'http://localhost').searchParams.get('room') ?? ''
  const room = rooms.get(id) ?? new Set()
  rooms.set(id, room.add(socket))
  socket.on('error', () => {})
  socket.on('close', () => room.delete(socket))
})

const client = new OpenAI({ baseURL: process.env['OPENAI_BASE_URL'], apiKey: 'none', maxRetries: 0 })

async function relay(room: string, messageId: string, question: string): Promise<void> {
  const messages = [{ role: 'user' as const, content: question }]
  const chunks = await client.chat.completions.create({ model: 'rig', messages, stream: true })
  let offset = 0
  for await (const chunk of chunks) {
    const content = chunk.choices[0]?.delta.content
    if (!content) continue
    const frame = { type: 'chat.stream', conversationId: room, messageId, offset, content }
    offset += Buffer.byteLength(content)
    for (const socket of rooms.get(room) ?? []) socket.send(JSON.stringify(frame))
  }
}

process.on('message', ({ room, run, question }: { room: string; run: string; question: string }) => {
  relay(room, run, question).catch((error: unknown) => {
    console.error(error)
    process.exit(1)
  })
})
process.once('disconnect', () => process.exit(0))
http.listen(0, '127.0.0.1')
await once(http, 'listening')
process.send!({ url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}` })
