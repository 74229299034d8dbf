/**
 * The error frame that refuses one command, made from the command's bytes and a failure. Both ends of a link make such
 * frames without knowing the command. Refuses to decide what is refused.
 */
import { errorFields, type Failure } from './errors.ts'

/**
 * The frame as bytes; `requestId` and `traceId` are copied from the command where it has them, else `trace` is the
 * `traceId`. `at`: wall clock, ms.
 */
export function failureFrame(
  command: Uint8Array,
  conversationId: string,
  at: number,
  failure: Failure,
  trace: string,
): Uint8Array {
  const { requestId, traceId = trace } = readAsked(command)
  const frame = {
    type: 'error',
    ts: new Date(at).toISOString(),
    ...(requestId === undefined ? {} : { requestId }),
    ...(traceId === '' ? {} : { traceId }),
    ...(conversationId === '' ? {} : { conversationId }),
    ...errorFields(failure),
  }
  return new TextEncoder().encode(JSON.stringify(frame))
}

function readAsked(command: Uint8Array): { requestId?: string; traceId?: string } {
  try {
    const value = JSON.parse(new TextDecoder().decode(command)) as { requestId?: unknown; traceId?: unknown } | null
    return {
      ...(typeof value?.requestId === 'string' ? { requestId: value.requestId } : {}),
      ...(typeof value?.traceId === 'string' ? { traceId: value.traceId } : {}),
    }
  } catch {
    return {}
  }
}
