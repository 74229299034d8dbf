/**
 * The reference: what most people would build. Socket.IO, its Redis adapter, one INSERT a message through a pool of ten. Told by
 * the environment where Postgres and Redis are; says over IPC where it listens. Stores, broadcasts to the room, then acks.
 * Refuses nothing that the usual way does not refuse: membership is checked, duplicates are left to a unique index.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { Server, type Socket } from 'socket.io'

interface Send {
  conversation: string
  id: string
  content: string
}

const pool = new Pool({ connectionString: process.env['DATABASE_URL'], max: 10 })
const insert = {
  name: 'sio_insert',
  text: `insert into sio_message (conversation, sender, client_id, content) values ($1, $2, $3, $4) returning seq, created_at`,
}

const http = createServer()
const pub = new Redis(process.env['REDIS_URL']!)
const io = new Server(http, {
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
  adapter: createAdapter(pub, pub.duplicate()),
})

io.use(async (socket, next) => {
  try {
    // A session looked up once a connection, as a token would be verified.
    const token = (socket.handshake.auth as { token?: string }).token ?? ''
    const { rows } = await pool.query<{ id: string; conversations: string[] }>({
      name: 'sio_login',
      text: `select u.id, coalesce(array_agg(m.conversation) filter (where m.conversation is not null), '{}') as conversations
               from sio_user u left join sio_member m on m.user_id = u.id where u.token = $1 group by u.id`,
      values: [token],
    })
    if (!rows[0]) return next(new Error('UNAUTHORIZED'))
    socket.data = { user: rows[0].id }
    await socket.join(rows[0].conversations)
    next()
  } catch (error) {
    next(error as Error)
  }
})

io.on('connection', (socket: Socket) => {
  socket.on('send', async ({ conversation, id, content }: Send, ack: (answer: object) => void) => {
    if (!socket.rooms.has(conversation)) return ack({ error: 'NOT_FOUND' })
    try {
      const sender = (socket.data as { user: string }).user
      const { rows } = await pool.query({ ...insert, values: [conversation, sender, id, content] })
      const { seq, created_at: ts } = rows[0] as { seq: string; created_at: Date }
      io.to(conversation).emit('message', { conversation, id, seq, sender, content, ts })
      ack({ id, seq })
    } catch {
      ack({ id, error: 'UNAVAILABLE' })
    }
  })
})

http.listen(0, '127.0.0.1', () => process.send?.({ kind: 'ready', port: (http.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
