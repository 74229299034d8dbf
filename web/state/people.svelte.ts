/** Names and presence of everyone this session has met. Who is who comes from REST, who is there from the socket. */
import { SvelteMap } from 'svelte/reactivity'
import type { FleetingFrame } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { t } from '../i18n/t.ts'

export interface Person {
  id: string
  username: string
  name: string
}

export type Presence = Pick<FleetingFrame<'presence'>, 'status' | 'lastSeen'>

const hues = [25, 70, 130, 195, 250, 295, 345]

export class People {
  readonly known = new SvelteMap<string, Person>()
  readonly presence = new SvelteMap<string, Presence>()

  meet(user: { id: string; username: string | null; display_name: string | null }): void {
    const username = user.username ?? ''
    const person = { id: user.id, username, name: user.display_name || username || '…' }
    const before = this.known.get(user.id)
    if (before?.name !== person.name || before.username !== username) this.known.set(user.id, person)
  }

  name(id: string): string {
    return id === assistantId ? t('answer.name') : (this.known.get(id)?.name ?? '…')
  }

  isOnline(id: string): boolean {
    return this.presence.get(id)?.status === 'online'
  }
}

/** Which of the seven hues a person has everywhere: by their id. */
export function hueIndexOf(id: string): number {
  let sum = 0
  for (let i = 0; i < id.length; i++) sum = (sum * 31 + id.charCodeAt(i)) >>> 0
  return sum % hues.length
}
