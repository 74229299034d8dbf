/**
 * Creation, membership, roles, settings, deletion and blocks: who is in a conversation and who may change that.
 * Rules C1–C8, M1–M10, B1–B4 of SPEC.md. Order of letters around a join or a leave is R9's and is made here.
 */
import type { Command, ConversationKind, MemberRole } from '#protos/catalogue.ts'
import { assistantId, dmId, nameId } from '#protos/ids.ts'
import type { Requester } from './effects.ts'
import type { CommandEvent } from './events.ts'
import { endAll } from './runs.ts'
import { isMember, type Member, type State } from './state.ts'
import type { Step } from './step.ts'
import { defaultTitle } from './title.ts'

export function create(step: Step, event: CommandEvent<Command<'conversation.create'>>): void {
  const { command, from } = event
  const { state } = step
  if (state.exists) {
    if (!isMember(state, from.principal)) return step.notFound(from)
    return step.ack(from, { seq: state.members.get(from.principal)!.joinedSeq, duplicate: true })
  }
  const fault = faultOf(command, from.principal, step)
  if (fault) return step.fail(from, fault)
  if (command.kind === 'dm') {
    const blocks = state.blocks ?? event.blocks
    if (!blocks) return step.push({ kind: 'ask', what: 'blocks' })
    if ([...blocks].length > 0)
      return step.fail(from, { code: 'FORBIDDEN', message: 'one of you has blocked the other' })
  }
  const title = command.kind === 'dm' ? null : (command.title ?? defaultTitle)
  const { head } = state
  step.set({
    exists: true,
    kind: command.kind,
    title,
    createdBy: from.principal,
    blocks: new Set(),
    members: new Map(command.members.map((m, i) => [m.userId, { role: m.role, joinedSeq: head + 1 + i }])),
  })
  for (const m of command.members) tellAdded(step, m.userId, head)
  step.push({
    kind: 'side',
    change: {
      kind: 'conversation.created',
      conversationKind: command.kind,
      title,
      createdBy: from.principal,
      at: step.at,
      members: command.members.map((m, i) => ({ userId: m.userId, role: m.role, seq: head + 1 + i })),
    },
  })
  const rows = command.members.map((m, i) => joined(step, from, m.userId, m.role, i))
  step.ack(from, { messageId: rows[0]!.messageId, seq: rows[0]!.seq, duplicate: false })
}

function faultOf(
  { kind, members, title, conversationId }: Command<'conversation.create'>,
  creator: string,
  step: Step,
) {
  const invalid = (field: string, message: string) => ({ code: 'VALIDATION' as const, field, message })
  if (members[0]?.userId !== creator) return invalid('members', 'the creator comes first')
  if (new Set(members.map(m => m.userId)).size !== members.length) return invalid('members', 'a user is named twice')
  if (members.some(m => m.userId === assistantId)) {
    return { code: 'FORBIDDEN' as const, message: 'the assistant is no member' }
  }
  if (kind === 'dm') {
    const other = members[1]?.userId
    if (members.length !== 2 || !other) return invalid('members', 'a dm has two members')
    if (conversationId !== dmId(creator, other, step.world.sha1)) {
      return invalid('conversationId', 'a dm has the id of its two members')
    }
    if (title !== undefined) return invalid('title', 'a dm has no title')
    if (members.some(m => m.role !== 'member')) return invalid('members', 'a dm has no roles')
    return undefined
  }
  if (members[0].role !== 'owner') return invalid('members', 'the creator is the owner')
  if (kind === 'ai' && members.length !== 1) return invalid('members', 'an ai conversation has one member')
  if (members.length > step.world.rules.groupMembersMax) return groupIsFull(step)
  return undefined
}

function groupIsFull(step: Step) {
  const limit = step.world.rules.groupMembersMax
  return { code: 'CONFLICT' as const, reason: 'GROUP_FULL', message: `a group has at most ${limit} members` }
}

function joined(step: Step, from: Requester, userId: string, role: MemberRole, index: number) {
  return step.append({
    kind: 'room.member_joined',
    senderId: from.principal,
    clientId: index === 0 ? from.attempt : nameId(from.attempt, String(index), step.world.sha1),
    messageId: step.world.id(),
    fields: { userId, role, by: from.principal },
    trace: from.trace,
    subject: userId,
  })
}

function tellAdded(step: Step, userId: string, headSeq: number): void {
  const { id, kind, title } = step.state
  step.push({
    kind: 'user',
    userId,
    headSeq,
    frame: {
      type: 'conversation.added',
      conversationId: id,
      conversation: { id, type: kind, ...(title === null ? {} : { title }), headSeq },
    },
  })
}

export function add(step: Step, { command, from }: CommandEvent<Command<'member.add'>>): void {
  const { state } = step
  const me = state.members.get(from.principal)
  if (!isMember(state, from.principal) || !me) return step.notFound(from)
  const { userId, role } = command
  if (userId === assistantId) return step.fail(from, { code: 'FORBIDDEN', message: 'the assistant is no member' })
  const refusal = membersAreFixed(state.kind) ?? notManager(me)
  if (refusal) return step.fail(from, refusal)
  const there = state.members.get(userId)
  if (there) return step.ack(from, { seq: there.joinedSeq, duplicate: true })
  if (role === 'owner' && me.role !== 'owner') {
    return step.fail(from, { code: 'FORBIDDEN', message: 'only an owner makes owners' })
  }
  if (state.members.size >= step.world.rules.groupMembersMax) return step.fail(from, groupIsFull(step))
  const seq = state.head + 1
  tellAdded(step, userId, state.head)
  step.set({ members: new Map(state.members).set(userId, { role, joinedSeq: seq }) })
  const row = joined(step, from, userId, role, 0)
  step.push({ kind: 'side', change: { kind: 'member.added', userId, role, seq, at: step.at } })
  step.ack(from, { messageId: row.messageId, seq, duplicate: false })
}

export function remove(step: Step, { command, from }: CommandEvent<Command<'member.remove'>>): void {
  const { state } = step
  const me = state.members.get(from.principal)
  if (!isMember(state, from.principal) || !me) return step.notFound(from)
  const { userId } = command
  const there = state.members.get(userId)
  if (!there) return step.fail(from, { code: 'NOT_FOUND', field: 'userId', message: 'not a member' })
  if (state.kind === 'dm') return step.fail(from, { code: 'FORBIDDEN', message: 'members of a dm are fixed' })
  const isLeaving = userId === from.principal
  if (isLeaving) {
    if (there.role === 'owner' && ownersOf(state) === 1) {
      return step.fail(from, { code: 'CONFLICT', reason: 'LAST_OWNER', message: 'the last owner cannot leave' })
    }
  } else {
    const refusal = notManager(me) ?? isOwner(there)
    if (refusal) return step.fail(from, refusal)
  }
  const members = new Map(state.members)
  members.delete(userId)
  const row = step.append({
    kind: 'room.member_left',
    senderId: from.principal,
    clientId: from.attempt,
    messageId: step.world.id(),
    fields: { userId, by: from.principal },
    trace: from.trace,
    subject: userId,
  })
  step.set({ members })
  step.push({ kind: 'side', change: { kind: 'member.removed', userId } })
  tellRemoved(step, userId)
  step.ack(from, { messageId: row.messageId, seq: row.seq, duplicate: false })
}

export function changeRole(step: Step, { command, from }: CommandEvent<Command<'member.role'>>): void {
  const { state } = step
  const me = state.members.get(from.principal)
  if (!isMember(state, from.principal) || !me) return step.notFound(from)
  const { userId, role } = command
  const there = state.members.get(userId)
  if (!there) return step.fail(from, { code: 'NOT_FOUND', field: 'userId', message: 'not a member' })
  const refusal = membersAreFixed(state.kind) ?? notManager(me)
  if (refusal) return step.fail(from, refusal)
  if (there.role === role) return step.ack(from, { seq: there.roleSeq ?? there.joinedSeq, duplicate: true })
  const forbidden = isOwner(there)
  if (forbidden) return step.fail(from, forbidden)
  if (role === 'owner' && me.role !== 'owner') {
    return step.fail(from, { code: 'FORBIDDEN', message: 'only an owner makes owners' })
  }
  const row = step.append({
    kind: 'room.member_role',
    senderId: from.principal,
    clientId: from.attempt,
    messageId: step.world.id(),
    fields: { userId, role, by: from.principal },
    trace: from.trace,
  })
  step.set({ members: new Map(state.members).set(userId, { ...there, role, roleSeq: row.seq }) })
  step.push({ kind: 'side', change: { kind: 'member.role', userId, role } })
  step.ack(from, { messageId: row.messageId, seq: row.seq, duplicate: false })
}

export function update(step: Step, { command, from }: CommandEvent<Command<'conversation.update'>>): void {
  const { state } = step
  const me = state.members.get(from.principal)
  if (!isMember(state, from.principal) || !me) return step.notFound(from)
  const refusal = state.kind === 'dm' ? { code: 'FORBIDDEN' as const, message: 'a dm has no settings' } : notManager(me)
  if (refusal) return step.fail(from, refusal)
  const title = command.title !== undefined && command.title !== state.title ? command.title : undefined
  const toolPolicy =
    command.toolPolicy !== undefined && command.toolPolicy !== state.toolPolicy ? command.toolPolicy : undefined
  const change = { ...(title === undefined ? {} : { title }), ...(toolPolicy === undefined ? {} : { toolPolicy }) }
  if (title === undefined && toolPolicy === undefined) return step.ack(from, { duplicate: true })
  const row = step.append({
    kind: 'room.updated',
    senderId: from.principal,
    clientId: from.attempt,
    messageId: step.world.id(),
    fields: { ...change, by: from.principal },
    trace: from.trace,
  })
  step.set(change)
  step.push({ kind: 'side', change: { kind: 'conversation.updated', ...change } })
  step.ack(from, { messageId: row.messageId, seq: row.seq, duplicate: false })
}

export function destroy(step: Step, { from, isAgain }: CommandEvent<Command<'conversation.delete'>>): void {
  const { state } = step
  const me = state.members.get(from.principal)
  // Deletion makes no event to look up: a second take of the same letter finds its own work done.
  if (state.exists && state.isDeleted && isAgain && me?.role === 'owner') return step.ack(from, { duplicate: true })
  if (!isMember(state, from.principal) || !me) return step.notFound(from)
  if (state.kind === 'dm') return step.fail(from, { code: 'FORBIDDEN', message: 'a dm cannot be deleted' })
  if (me.role !== 'owner') return step.fail(from, { code: 'FORBIDDEN', message: 'only an owner deletes' })
  endAll(step)
  step.push({ kind: 'side', change: { kind: 'conversation.deleted', by: from.principal, at: step.at } })
  step.set({ isDeleted: true })
  for (const userId of state.members.keys()) tellRemoved(step, userId)
  step.ack(from, { duplicate: false })
}

/** The pair's dm orders blocks and sends, whether it exists or not (B1). */
export function block(step: Step, event: CommandEvent<Command<'block.set'>>): void {
  const { command, from } = event
  const { principal } = from
  const { userId, blocked } = command
  if (userId === principal || step.state.id !== dmId(principal, userId, step.world.sha1)) {
    return step.fail(from, { code: 'VALIDATION', field: 'userId', message: 'not the other of this dm' })
  }
  const before = step.state.blocks ?? event.blocks
  if (!before) return step.push({ kind: 'ask', what: 'blocks' })
  const blocks = new Set(before)
  const mark = `${principal}>${userId}`
  if (blocks.has(mark) === blocked) {
    step.set({ blocks })
    return step.ack(from, { duplicate: true })
  }
  if (blocked) blocks.add(mark)
  else blocks.delete(mark)
  step.set({ blocks })
  step.push({ kind: 'side', change: { kind: 'block', blocker: principal, blocked: userId, set: blocked, at: step.at } })
  step.ack(from, { duplicate: false })
}

function tellRemoved(step: Step, userId: string): void {
  step.push({ kind: 'user', userId, frame: { type: 'conversation.removed', conversationId: step.state.id } })
}

function membersAreFixed(kind: ConversationKind) {
  return kind === 'group'
    ? undefined
    : { code: 'FORBIDDEN' as const, message: 'members of this conversation are fixed' }
}

function notManager(member: Member) {
  return member.role === 'member'
    ? { code: 'FORBIDDEN' as const, message: 'only owners and admins may do this' }
    : undefined
}

function isOwner(member: Member) {
  return member.role === 'owner' ? { code: 'FORBIDDEN' as const, message: 'not to an owner' } : undefined
}

function ownersOf(state: State): number {
  let count = 0
  for (const m of state.members.values()) if (m.role === 'owner') count++
  return count
}
