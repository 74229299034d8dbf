/**
 * The soft store by contract: who is here, how many sockets each user has, and what all gateways granted of a rate. It may be lost at any moment; then answers
 * are `unknown` and nothing that was acked is touched. Redis and memory pass the same suite (soft.contract.ts).
 */

export interface PresenceState {
  status: 'online' | 'offline' | 'unknown'
  /** Wall clock ms; undefined when nobody knows. */
  lastSeen: number | undefined
}

export interface SoftStore {
  readonly kind: 'memory' | 'redis'
  /** A socket of this user is here now. Never rejects; what the store cannot be told now it is told when it answers again. */
  arrive(userId: string, socket: string): Promise<void>
  /** Of these sockets those that did not leave are still here. One that was silent for the time to live counts no more. */
  beat(sockets: readonly (readonly [userId: string, socket: string])[]): Promise<void>
  leave(userId: string, socket: string): Promise<void>
  /** Every id is in the answer. Nobody is offline who may be at a gateway that does not reach the store. */
  presence(userIds: readonly string[]): Promise<Map<string, PresenceState>>
  /** First socket came, or last one left cleanly, anywhere; then `unknown` where `offline` would not be sure. One whose gateway died is found by asking. */
  onPresence(listener: (userId: string, state: PresenceState) => void): void
  /** A socket is beyond the most that a user may have, the oldest first; told wherever it is. */
  onEvicted(listener: (socket: string) => void): void
  /**
   * Adds what was granted here to what all gateways granted of this rate in its stretch of `ms`, which begins with the first
   * of them. Undefined: nobody knows what others granted.
   */
  spend(rate: string, count: number, ms: number): Promise<{ total: number; restMs: number } | undefined>
  /** How many gateways share rates, this one included, by the last that was known. */
  readonly gateways: number
  /** People were called unknown, and whoever asks again now hears what is so. */
  onKnown(listener: () => void): void
  /** Says goodbye: what was told of this gateway's sockets is all. */
  close(): Promise<void>
}

export interface SoftOptions {
  ttlMs: number
  socketsMax: number
}

export const unknownPresence: PresenceState = { status: 'unknown', lastSeen: undefined }
