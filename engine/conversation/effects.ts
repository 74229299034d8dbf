/**
 * What a decision of the conversation asks for, as data: rows to store, letters to send once they are stored, and reads
 * that must come first. Refuses to perform any of it; engine/actor does.
 */
import type {
  ConversationKind,
  DurableType,
  Finish,
  FleetingFrame,
  FleetingType,
  MemberRole,
  ToolPolicy,
} from '#protos/catalogue.ts'

/** One durable event as the log keeps it. `body`: JSON of the frame less type, conversationId, seq and ts. */
export interface EventRow {
  seq: number
  kind: DurableType
  messageId: string
  senderId: string
  /** Never absent: the client's id, the attempt id, or uuidv5 of a run's step. Unique per (conversation, sender). */
  clientId: string
  /** SHA-256 of the JSON array [kind, content, replyTo, attachments] for sends, of the body for all else. 32 bytes. */
  /** Hex. */
  bodyHash: string
  body: string
  /** Wall clock of the actor, ms. */
  at: number
}

/** A piece of an answer in progress: `text` begins at byte `offset` of the assembled UTF-8 text. */
export interface SegmentRow {
  runId: string
  offset: number
  text: string
}

export type RunStatus = 'queued' | 'running' | 'waiting' | 'ended'

export interface RunRow {
  /** uuidv5(stepNamespace, question's message id): a retried request cannot start a second run. */
  id: string
  requester: string
  questionId: string
  questionSeq: number
  clientMessageId: string
  answerId: string
  status: RunStatus
  /** Trace of the question; the answer's events carry it. */
  trace: string
  createdAt: number
  /** Wall ms of chat.started; absent or null before. */
  startedAt?: number | null
}

/** A call of a tool as its turn made it. */
export interface ToolCallRow {
  /** uuidv5 of the run and the model's own id for it. */
  callId: string
  round: number
  ordinal: number
  name: string
  /** JSON; what is approved and what is run are the same. */
  arguments: string
  /** SHA-256 over name and arguments with sorted keys, in hex. */
  hash: string
  approval: 'auto' | 'required'
  /** Wall clock, ms; null where nobody is asked. */
  expiresAt: number | null
  /** Bytes of the answer when it was called. */
  atBytes: number
}

export type ToolStatus = 'success' | 'error'

/** Rows that others must see at once, written by the same fenced statement as the event that announces them. */
export type SideChange =
  | {
      kind: 'conversation.created'
      conversationKind: ConversationKind
      title: string | null
      createdBy: string
      at: number
      members: { userId: string; role: MemberRole; seq: number }[]
    }
  | { kind: 'conversation.updated'; title?: string | null; toolPolicy?: ToolPolicy }
  | { kind: 'conversation.deleted'; by: string; at: number }
  | { kind: 'member.added'; userId: string; role: MemberRole; seq: number; at: number }
  | { kind: 'member.removed'; userId: string }
  | { kind: 'member.role'; userId: string; role: MemberRole }
  | { kind: 'block'; blocker: string; blocked: string; set: boolean; at: number }
  | { kind: 'run.queued'; run: RunRow }
  | { kind: 'run.started'; runId: string; model: string; at: number }
  /** `queued`: also frees the run's slot. */
  | { kind: 'run.status'; runId: string; status: 'queued' | 'running' | 'waiting' }
  | { kind: 'tool.called'; runId: string; answerId: string; requester: string; call: ToolCallRow; at: number }
  /** `by` null: nobody did in time. */
  | {
      kind: 'tool.decided'
      runId: string
      callId: string
      decision: 'approve' | 'reject'
      by: string | null
      at: number
    }
  /** `result`: JSON; one that the tool stored with its effect stays. */
  | { kind: 'tool.returned'; runId: string; callId: string; status: ToolStatus; result: string; at: number }
  /** Also frees the run's slot. */
  | { kind: 'run.ended'; runId: string; finish: Finish; bytes: number; at: number }

/** What the log or the directory must say first: the row under this id, blocks of a pair, what a reply names. */
export type Asked = 'stored' | 'blocks' | 'replied'

/** Who asked, as its label said, and what of the request its answer repeats. */
export interface Requester {
  principal: string
  /** 0: no socket (REST). */
  socket: number
  attempt: string
  trace: string
  requestId?: string
  /** The letter itself; opaque here, handed back to the shell with the answer. */
  ref: unknown
}

/** A frame as a decision makes it: the shell adds ts, requestId and traceId. */
export type Draft<T extends FleetingType> = { [K in T]: Omit<FleetingFrame<K>, 'ts' | 'requestId' | 'traceId'> }[T]

export type Effect =
  // --- stored by the statement; nothing below leaves before it returned
  /** `subject`: whom a membership event concerns. */
  | { kind: 'append'; row: EventRow; subject?: string }
  | { kind: 'segment'; segment: SegmentRow }
  | { kind: 'side'; change: SideChange }
  // --- letters
  | { kind: 'answer'; to: Requester; frame: Draft<'ack' | 'error' | 'room.joined' | 'resync_required'> }
  /** Refused for load: later sends of this socket to this conversation are refused too, so that order survives. */
  | { kind: 'refuse'; to: Requester; code: 'UNAVAILABLE' | 'RLIMIT'; retryAfterMs: number }
  /** To every socket of a user; with `only`, to the requester's socket alone. `headSeq` on conversation.added. */
  | {
      kind: 'user'
      userId: string
      frame: Draft<'conversation.added' | 'conversation.removed' | 'chat.queued' | 'error' | 'receipt.updated'>
      headSeq?: number
      only?: Requester
    }
  | { kind: 'delta'; answerId: string; offset: number; text: string; bytes: number; trace: string }
  | { kind: 'done'; answerId: string; frame: Draft<'chat.done'>; trace: string }
  | { kind: 'typing'; userId: string; on: boolean }
  /** `readSeq`: the new position if it moved, else 0. */
  | { kind: 'receipt'; userId: string; readSeq: number; frame: Draft<'receipt.updated'> }
  // --- for the shell
  /** The command cannot be decided before this was read; nothing else came of it. */
  | { kind: 'ask'; what: Asked }
  /** The principal may join: confirm the head, replay, answer. */
  | { kind: 'join'; to: Requester; afterSeq: number | undefined }
  | { kind: 'run.begin'; runId: string }
  | { kind: 'run.abort'; runId: string }
