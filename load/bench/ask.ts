/** Orders to a generator in a process of its own, over IPC: one at a time, each answered by one message of its kind. */
import type { ChildProcess } from 'node:child_process'

interface Message {
  kind: string
}

/** Rejects when the generator says that it is broken, or ends. */
export function ask<M extends Message, K extends M['kind']>(
  child: ChildProcess,
  order: object,
  kind: K,
): Promise<Extract<M, { kind: K }>> {
  return new Promise((resolve, reject) => {
    const over = () => child.off('message', settle).off('exit', ended)
    const settle = (message: Message & { why?: string }) => {
      if (message.kind !== kind && message.kind !== 'broken') return
      over()
      if (message.kind === kind) resolve(message as Extract<M, { kind: K }>)
      else reject(new Error(message.why))
    }
    const ended = (code: number | null) => {
      over()
      reject(new Error(`the generator ended with ${code}`))
    }
    child.on('message', settle).once('exit', ended)
    child.send(order)
  })
}
