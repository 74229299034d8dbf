/**
 * A room.join: confirms with the log that this worker owns the conversation and that its head is the head, then replays
 * and answers in one go, so that nothing of the conversation comes between. Never answers from memory alone (J5).
 */
import { catchup, joinedFrame, resyncFrame } from '#engine/conversation/attach.ts'
import type { Requester } from '#engine/conversation/effects.ts'
import { isMember, type State } from '#engine/conversation/state.ts'
import { errorFields } from '#protos/errors.ts'
import { letterAgeMsMax, replayBytesMax, replayEventsMax, selfFenceMs } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { Delivery } from './ports.ts'
import type { Tail, TailEvent } from './tail.ts'

/** The actor as a join sees it. */
export interface Joinable {
  readonly id: string
  readonly shard: number
  readonly tail: Tail
  readonly isFenced: boolean
  /** The committed state, once the actor is active; undefined when it was fenced first. */
  active(): Promise<State | undefined>
}

const triesMax = 4
/** Pause before the state is looked at again when the log is ahead of it. */
const behindMs = 10

/** Never throws; answers exactly once, by a frame or by a refusal that makes the gateway ask the owner. */
export async function join(
  actor: Joinable,
  context: Context,
  to: Requester,
  afterSeq: number | undefined,
): Promise<void> {
  const { clock, letters, refuser, metrics, log, timers } = context
  let isAnswered = false
  const place = () => ({ conversation: actor.id, shard: actor.shard, epoch: context.epochOf(actor.shard) ?? 0 })
  const answer = (frame: { type: string }) => {
    if (!isAnswered) letters.answer(place(), to, frame)
    isAnswered = true
  }
  const unavailable = () =>
    answer({
      type: 'error',
      conversationId: actor.id,
      ...errorFields({ code: 'UNAVAILABLE', message: 'not available at this moment', retryAfterMs: 1000 }),
    } as { type: string })
  const notOwner = () => {
    if (!isAnswered) refuser.notOwner(to.ref as Delivery)
    isAnswered = true
  }
  const stopWaiting = timers.after(letterAgeMsMax, unavailable)
  try {
    if (clock.mono() - context.renewedAt() > selfFenceMs) return unavailable()
    const fetched: TailEvent[] = []
    let isConfirmed = false
    let confirmedHead = 0
    for (let tries = 0; tries < triesMax; tries++) {
      if (!isConfirmed) {
        const found = await context.reads.head(actor.id)
        if (actor.isFenced) return notOwner()
        // A stamp may have moved the epoch between our reading and theirs: read once more.
        if (found && found.epoch !== context.epochOf(actor.shard)) continue
        isConfirmed = true
        confirmedHead = found?.head ?? 0
      }
      const state = await actor.active()
      if (!state) return notOwner()
      if (isAnswered) return
      if (state.head < confirmedHead) {
        // A statement of ours has run and its answer is on its way, or lost: others may have read its rows already.
        await new Promise<void>(go => void timers.after(behindMs, go))
        tries--
        continue
      }
      if (!isMember(state, to.principal)) {
        const failure = errorFields({ code: 'NOT_FOUND', message: 'no such conversation' })
        return answer({ type: 'error', conversationId: actor.id, ...failure } as { type: string })
      }
      const way = catchup(state, afterSeq)
      if (way.kind === 'resync') {
        metrics.parley_resync_total.inc({ reason: way.reason })
        return answer(resyncFrame(state, way.reason))
      }
      if (way.kind === 'joined') return answer(joinedFrame(state))
      const from = fetched.at(-1)?.seq ?? way.after
      const rest = from >= state.head ? [] : actor.tail.after(from, state.head)
      if (rest) {
        const all = [...fetched.filter(e => e.seq <= state.head), ...rest]
        let bytes = 0
        for (const event of all) bytes += event.frame.length
        if (bytes > replayBytesMax) {
          metrics.parley_resync_total.inc({ reason: 'too_far' })
          return answer(resyncFrame(state, 'too_far'))
        }
        metrics.parley_replay_events.observe(all.length)
        for (const event of all) letters.replay(place(), to, event.seq, event.frame)
        return answer(joinedFrame(state))
      }
      const limits = { events: replayEventsMax, bytes: replayBytesMax }
      const page = await context.directory.events(actor.id, from, limits)
      if (actor.isFenced) return notOwner()
      for (const { seq, json } of page.frames) fetched.push({ seq, frame: Buffer.from(json) })
      if (page.more && fetched.length > 0) {
        metrics.parley_resync_total.inc({ reason: 'too_far' })
        return answer(resyncFrame(state, 'too_far'))
      }
    }
    if (isConfirmed) unavailable()
    else notOwner()
  } catch (error) {
    log.warn('a join could not be served', { convId: actor.id, err: error })
    unavailable()
  } finally {
    stopWaiting()
  }
}
