/** node:timers/promises on the run's clock. Only what production uses of it. */

export function setTimeout<T = void>(ms?: number, value?: T, options: { signal?: AbortSignal } = {}): Promise<T> {
  const { signal } = options
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error)
    const timer = globalThis.setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve(value as T)
    }, ms)
    const abort = () => {
      clearTimeout(timer)
      reject(signal!.reason as Error)
    }
    signal?.addEventListener('abort', abort, { once: true })
  })
}

export function setImmediate<T = void>(value?: T): Promise<T> {
  return new Promise(resolve => void globalThis.setImmediate(() => resolve(value as T)))
}
