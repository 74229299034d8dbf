/**
 * People who watch answers, in a process of their own: sockets that join rooms and note when each byte of an answer came. Some
 * may stop reading for a while. Told by IPC; refuses to know what it is measuring.
 */
import { WsClient } from '#load/kit/ws-client.ts'

export interface Seat {
  token: string
  conversation: string
  /** Reads nothing from one moment to another, when told. */
  isSlow?: boolean
}

export type ToWatchers =
  /** `isRaw`: the reference's wire, without a protocol. */
  | { kind: 'open'; url: string; seats: Seat[]; isRaw: boolean }
  | { kind: 'pause' }
  | { kind: 'resume' }
  | { kind: 'collect' }
  | { kind: 'end' }

/** One watcher's sight of one answer: (bytes so far, wall ms) pairs. */
export interface Sight {
  conversation: string
  answerId: string
  isSlow: boolean
  at: number[]
  sha256?: string
  isDone: boolean
}
export type FromWatchers =
  | { kind: 'open'; sockets: number }
  | { kind: 'collect'; sights: Sight[] }
  | { kind: 'broken'; why: string }

interface Frame {
  type: string
  conversationId: string
  messageId: string
  offset: number
  content: string
  requestId?: string
}

const clients: { client: WsClient; seat: Seat }[] = []
const sights: Sight[] = []
const openAtOnce = 20

const now = () => performance.timeOrigin + performance.now()

async function open(url: string, seats: Seat[], isRaw: boolean): Promise<void> {
  for (let i = 0; i < seats.length; i += openAtOnce)
    await Promise.all(seats.slice(i, i + openAtOnce).map(seat => sit(url, seat, isRaw)))
}

async function sit(url: string, seat: Seat, isRaw: boolean): Promise<void> {
  const mine = new Map<string, Sight>()
  const joined = Promise.withResolvers<void>()
  const client = await WsClient.open(isRaw ? `${url}/?room=${seat.conversation}` : `${url}/ws`, {
    onText(bytes) {
      const at = now()
      const frame = JSON.parse(bytes.toString()) as Frame
      if (frame.type === 'ready')
        client.send(JSON.stringify({ type: 'room.join', conversationId: seat.conversation, requestId: 'join' }))
      else if (frame.type === 'room.joined') joined.resolve()
      else if (frame.type === 'error') joined.reject(new Error(bytes.toString()))
      else if (frame.type === 'chat.stream') {
        const sight = sightOf(mine, seat, frame.messageId)
        sight.at.push(frame.offset + Buffer.byteLength(frame.content), at)
      } else if (frame.type === 'chat.done') sightOf(mine, seat, frame.messageId).isDone = true
    },
    onClose: code => joined.reject(new Error(`closed ${code}`)),
  })
  if (isRaw) joined.resolve()
  else client.send(JSON.stringify({ type: 'auth', token: seat.token }))
  await joined.promise
  clients.push({ client, seat })
}

function sightOf(mine: Map<string, Sight>, seat: Seat, answerId: string): Sight {
  let sight = mine.get(answerId)
  if (!sight) {
    sight = { conversation: seat.conversation, answerId, isSlow: seat.isSlow === true, at: [], isDone: false }
    mine.set(answerId, sight)
    sights.push(sight)
  }
  return sight
}

const say = (message: FromWatchers) => process.send!(message)

process.on('message', (order: ToWatchers) => {
  switch (order.kind) {
    case 'open':
      open(order.url, order.seats, order.isRaw).then(
        () => say({ kind: 'open', sockets: clients.length }),
        (error: unknown) => say({ kind: 'broken', why: String(error) }),
      )
      return
    case 'pause':
      for (const { client, seat } of clients) if (seat.isSlow) client.pause()
      return
    case 'resume':
      for (const { client, seat } of clients) if (seat.isSlow) client.resume()
      return
    case 'collect':
      say({ kind: 'collect', sights })
      return
    case 'end':
      for (const { client } of clients) client.destroy()
      process.disconnect()
      return
    default:
      order satisfies never
  }
})
