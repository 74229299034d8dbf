/**
 * After facts for users may have been lost: reads the memberships of all connected users again and repairs what differs.
 * A difference counts only when two readings agree, because facts go on meanwhile. Refuses to write.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '#engine/ops/clock.ts'
import type { FleetingFrame } from '#protos/catalogue.ts'
import { type Framed, frameText } from './framing.ts'
import type { Groups } from './groups.ts'
import type { Peer, Seat } from './peer.ts'
import type { Membership, Reads } from './reads.ts'
import type { Rooms } from './rooms.ts'

/** A reading of many users' conversations holds the thread up for milliseconds: each may have two thousand. */
const usersPerRead = 100
const confirmMs = 150

/** What is read and repaired of the hub. */
export interface Roster {
  readonly users: Groups<string, Peer>
  readonly rooms: Rooms
  seatAdded(peer: Peer, conversation: string, headSeq: number, notice: Framed): void
  announce(seat: Seat, notice: FleetingFrame<'conversation.added'>): void
}

export async function reconcile(hub: Roster, deps: { reads: Reads; clock: Clock }): Promise<void> {
  const users = [...hub.users.keys()]
  for (let i = 0; i < users.length; i += usersPerRead) {
    const group = users.slice(i, i + usersPerRead)
    const suspects = differing(hub, group, await deps.reads.conversationsOf(group))
    if (suspects.length === 0) continue
    await sleep(confirmMs)
    const again = await deps.reads.memberships(suspects)
    for (const userId of differing(hub, suspects, byUser(again))) await repair(hub, userId, again, deps)
  }
}

function livePeers(hub: Roster, userId: string): Peer[] {
  return hub.users.of(userId).filter(peer => peer.state === 'live')
}

function byUser(rows: readonly Membership[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  for (const { userId, conversation } of rows) {
    const own = found.get(userId)
    if (own) own.add(conversation)
    else found.set(userId, new Set([conversation]))
  }
  return found
}

const none: ReadonlySet<string> = new Set()

/** Of `userIds`, those with a seat too many or too few. */
function differing(hub: Roster, userIds: readonly string[], known: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  return userIds.filter(userId => {
    const conversations = known.get(userId) ?? none
    return livePeers(hub, userId).some(
      peer =>
        peer.seats.size !== conversations.size ||
        [...peer.seats].some(([id, seat]) => !conversations.has(id) || seat.isUnannounced),
    )
  })
}

async function repair(
  hub: Roster,
  userId: string,
  rows: readonly Membership[],
  { reads, clock }: { reads: Reads; clock: Clock },
): Promise<void> {
  const own = new Map(rows.filter(row => row.userId === userId).map(row => [row.conversation, row]))
  const ts = () => new Date(clock.now()).toISOString()
  for (const peer of livePeers(hub, userId)) {
    for (const [id, row] of own) {
      const seat = peer.seats.get(id)
      if (seat && !seat.isUnannounced) continue
      const headSeq = row.joinedSeq - 1
      const title = row.title === null ? {} : { title: row.title }
      const conversation = { id, type: row.type, ...title, headSeq }
      const frame = { type: 'conversation.added', ts: ts(), conversationId: id, conversation } as const
      if (seat) hub.announce(seat, frame)
      else hub.seatAdded(peer, id, headSeq, frameText(JSON.stringify(frame)))
    }
    for (const [id, seat] of peer.seats) {
      if (own.has(id) || seat.until !== Number.POSITIVE_INFINITY) continue
      const left = await reads.lastLeft(id, userId)
      if (peer.seats.get(id) !== seat) continue
      hub.rooms.farewells.bid(seat)
      seat.until = Math.max(left ?? 0, 0)
      if (seat.last >= seat.until) hub.rooms.leave(seat)
      else hub.rooms.fill(seat.room, seat.until)
    }
  }
}
