/**
 * Reads about people: search, profiles, blocks, names to ids. Someone who blocked the reader is not found; guests and the
 * deleted never are. Refuses to show an e-mail address.
 */
import { type PublicUser, publicColumns } from '#gateway/auth/accounts.ts'
import type { Sql } from '#gateway/auth/db.ts'

export interface FoundPerson extends PublicUser {
  is_bot: boolean
}

export interface People {
  /** Prefix of the username, in the order of usernames; from after `after`. */
  search(reader: string, prefix: string, after: string | undefined, limit: number): Promise<PublicUser[]>
  profile(reader: string, username: string): Promise<PublicUser | undefined>
  /** Whom these names belong to, blocked or not; unknown ones are missing. */
  byNames(usernames: readonly string[]): Promise<Map<string, FoundPerson>>
  blockedBy(reader: string, after: string | undefined, limit: number): Promise<PublicUser[]>
  /** Which of these users are in as many conversations as anyone may be. */
  crowded(userIds: readonly string[], max: number): Promise<string[]>
}

const isShown = `u.deleted_at is null and u.disabled_at is null and not u.is_guest and u.username is not null`
const isUnblocked = `not exists (select 1 from blocks b where b.blocker_id = u.id and b.blocked_id = $1)`

export function createPeople(db: Sql): People {
  return {
    async search(reader, prefix, after, limit) {
      const { rows } = await db.query<PublicUser>(
        `select ${publicColumns} from users u
         where u.username like $2 and u.username collate "C" > $3 and ${isShown} and ${isUnblocked}
         order by u.username collate "C" limit $4`,
        [reader, `${escapeLike(prefix)}%`, after ?? '', limit],
      )
      return rows
    },
    async profile(reader, username) {
      const { rows } = await db.query<PublicUser>(
        `select ${publicColumns} from users u where u.username = $2 and ${isShown} and ${isUnblocked}`,
        [reader, username],
      )
      return rows[0]
    },
    async byNames(usernames) {
      const { rows } = await db.query<FoundPerson>(
        `select ${publicColumns}, u.is_bot from users u where u.username = any($1) and ${isShown}`,
        [usernames],
      )
      return new Map(rows.map(r => [r.username!, r]))
    },
    async blockedBy(reader, after, limit) {
      const { rows } = await db.query<PublicUser>(
        `select ${publicColumns} from blocks k join users u on u.id = k.blocked_id
         where k.blocker_id = $1 and u.username collate "C" > $2 and u.deleted_at is null
         order by u.username collate "C" limit $3`,
        [reader, after ?? '', limit],
      )
      return rows
    },
    async crowded(userIds, max) {
      const { rows } = await db.query<{ id: string }>(
        `select u.id from unnest($1::uuid[]) u(id) where
           (select count(*) from (select 1 from conversation_member m where m.user_id = u.id limit $2) x) >= $2`,
        [userIds, max],
      )
      return rows.map(r => r.id)
    },
  }
}

export function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&')
}
