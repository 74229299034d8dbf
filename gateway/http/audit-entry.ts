/** Which commands leave a record in the audit trail, and what it says. Pure; refuses texts and titles. */
import type { AuditEntry } from '#gateway/auth/audit.ts'
import type { Command } from '#protos/catalogue.ts'

export function auditEntryOf(actorId: string, command: Command, requestId: string): AuditEntry | undefined {
  switch (command.type) {
    case 'member.add':
    case 'member.remove':
    case 'member.role':
      return {
        action: command.type,
        actorId,
        requestId,
        targetType: 'member',
        targetId: `${command.conversationId}/${command.userId}`,
      }
    case 'conversation.update':
      // Who may allow what the assistant does; a title is nobody's right.
      if (command.toolPolicy === undefined) return undefined
      return {
        action: `tool_policy.${command.toolPolicy}`,
        actorId,
        requestId,
        targetType: 'conversation',
        targetId: command.conversationId,
      }
    case 'conversation.delete':
      return { action: command.type, actorId, requestId, targetType: 'conversation', targetId: command.conversationId }
    case 'block.set':
      return {
        action: command.blocked ? 'block' : 'unblock',
        actorId,
        requestId,
        targetType: 'user',
        targetId: command.userId,
      }
    default:
      return undefined
  }
}
