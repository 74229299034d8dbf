/**
 * Answers to what never became a request: bad framing, headers too large, a request that does not arrive. Written to the
 * bare connection, in the same form as every other error. Refuses to keep such a connection.
 */
import type { Socket } from 'node:net'
import { securityHeaders } from './headers.ts'

export function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket, requestId: string): void {
  if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
    socket.destroy()
    return
  }
  const [status, reason, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ([408, 'Request Timeout', 'The request did not arrive in time.'] as const)
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ([431, 'Request Header Fields Too Large', 'The headers are too large.'] as const)
        : ([400, 'Bad Request', 'This is not HTTP as we know it.'] as const)
  const body = JSON.stringify({ error: message, error_code: 'INVALID_REQUEST', request_id: requestId })
  const headers = [
    ['content-type', 'application/json; charset=utf-8'],
    ['content-length', String(Buffer.byteLength(body))],
    ['x-request-id', requestId],
    ['connection', 'close'],
    ...securityHeaders(false),
  ]
  socket.end(`HTTP/1.1 ${status} ${reason}\r\n${headers.map(h => h.join(': ')).join('\r\n')}\r\n\r\n${body}`)
}
