/**
 * What can happen to a conversation: commands of people and gateways, the steps of a run, time, and the outcome of a
 * commit. Clock readings come in with each event; ids and digests through the World.
 */
import type { Command, Finish } from '#protos/catalogue.ts'
import type { Requester, ToolCallRow, ToolStatus } from './effects.ts'
import type { State } from './state.ts'

/** What the log holds under a client id. */
export interface Stored {
  seq: number
  messageId: string
  kind: string
  /** Hex. */
  bodyHash: string
  /** Of a decision on a call: whose turn it was in. */
  requester?: string
}

export interface CommandEvent<C extends Command = Command> {
  kind: 'command'
  command: C
  from: Requester
  /** Wall clock, ms. */
  at: number
  /** Monotonic, ms. */
  mono: number
  /** What the log holds under this command's id: null when looked up and absent, undefined when not looked up. */
  stored?: Stored | null
  /** The head when the log was asked for that: rows beyond it may not have been seen. */
  lookedUpAt?: number
  /** Blocks between the pair that a dm command names, as `${blocker}>${blocked}`; undefined when not read. */
  blocks?: readonly string[]
  /** Whether what a send replies to is a message here that is not deleted; undefined when not looked up. */
  replied?: boolean
  /** Too old to be stored; a stored id is still answered. */
  isExpired: boolean
  /** Taken before, and known not to be stored by that. */
  isAgain: boolean
}

export interface Tokens {
  input: number
  output: number
  total: number
}

export type RunEvent =
  | { kind: 'run.start'; runId: string; model: string; at: number; mono: number }
  /** No slot is free for the requester. */
  | { kind: 'run.waiting'; runId: string; at: number; mono: number }
  | { kind: 'run.delta'; runId: string; text: string; at: number; mono: number }
  /** The model's round ended with calls. `repeats`: an earlier call of the turn whose result this one gets. */
  | {
      kind: 'run.called'
      runId: string
      text: string
      calls: (Pick<ToolCallRow, 'callId' | 'name' | 'arguments' | 'hash' | 'approval'> & { repeats?: string })[]
      tokens: Tokens
      at: number
      mono: number
    }
  /** `result`: JSON. */
  | {
      kind: 'run.returned'
      runId: string
      results: { callId: string; status: ToolStatus; result: string }[]
      at: number
      mono: number
    }
  /** The model cannot be asked for now, and nothing of this round was shown: the turn waits in the queue again. */
  | { kind: 'run.postponed'; runId: string; at: number; mono: number }
  /** The model has found a title; `runId`: of the turn before. */
  | { kind: 'run.titled'; runId: string; title: string; at: number; mono: number }
  /** Nobody decided on these in time. */
  | { kind: 'run.expired'; runId: string; callIds: string[]; at: number; mono: number }
  /** `text`: what of the answer was not stored yet. `reason`: of a failure at the provider. */
  | {
      kind: 'run.end'
      runId: string
      text: string
      finish: Finish
      tokens: Tokens
      reason?: string
      /** The failure is a refusal of ours. */
      refusal?: { message: string; retryAfterMs: number }
      at: number
      mono: number
    }

export type Event =
  | CommandEvent
  | RunEvent
  /** Time passed: typing ends, owed receipts leave. */
  | { kind: 'tick'; at: number; mono: number }
  /** The draft made from this state is committed. */
  | { kind: 'settled'; draft: State; at: number; mono: number }

/** Limits that settings decide. */
export interface Rules {
  groupMembersMax: number
  idempotencyDays: number
  /** Equal texts of one sender that pass within the window. */
  equalTextsMax: number
  /** Ids of sends that this conversation remembers, at most. The shell moves it with the number of residents. */
  recentIdsMax: number
}

/** Functions a decision needs and may not own. Digests are of UTF-8 bytes. */
export interface World {
  rules: Rules
  id: () => string
  sha1: (bytes: Uint8Array) => Uint8Array
  sha256: (text: string) => string
  utf8Bytes: (text: string) => number
}
