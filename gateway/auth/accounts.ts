/**
 * Accounts: register, log in, log out, look at oneself, change one's profile, claim a name. Stateless work on Postgres.
 * Refuses to say whether a person exists at login: both refusals are one sentence after one comparison.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Config } from '#engine/ops/config.ts'
import { emailCharsMax } from '#protos/limits.ts'
import { audit } from './audit.ts'
import type { Sql } from './db.ts'
import { conflict, forbidden, invalid, unauthorized } from './failure.ts'
import type { Passwords } from './passwords.ts'
import type { OpenedSession, Sessions } from './refresh.ts'
import { deriveUsername, parseUsername, stemOf } from './usernames.ts'

/** A user as others see them. */
export interface PublicUser {
  id: string
  username: string | null
  display_name: string | null
  avatar_url: string | null
  created_at: string
}
/** A user as they see themselves. */
export interface OwnUser extends PublicUser {
  email: string | null
  role: string
  is_guest: boolean
}

export interface Asking {
  requestId: string
  userAgent: string | undefined
}

export interface Accounts {
  register(
    given: { email: string; password: string; display_name?: string; username?: string },
    asking: Asking,
  ): Promise<{ user: OwnUser; session: OpenedSession }>
  login(given: { email: string; password: string }, asking: Asking): Promise<{ user: OwnUser; session: OpenedSession }>
  logout(who: { userId: string; sessionId: string }, allDevices: boolean, requestId: string): Promise<void>
  /** Undefined for a user who is gone or disabled. */
  own(userId: string): Promise<OwnUser | undefined>
  change(userId: string, given: { display_name?: string; avatar_url?: string | null }): Promise<OwnUser>
  claim(userId: string, username: string): Promise<OwnUser>
  /** The user of an e-mail address, made without a password if wanted: for operators. */
  byEmail(email: string, shallCreate: boolean): Promise<OwnUser | undefined>
}

/** The columns of a user as the wire has them; the alias of the table is `u`. */
export const publicColumns = `u.id, u.username, u.display_name, u.avatar_url,
  to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at`
const ownColumns = `${publicColumns}, u.email, u.role, u.is_guest`

const emailForm = /^[^\s@<>"]+@[^\s@<>".]+(?:\.[^\s@<>".]+)*$/u
const attemptsMax = 50

/** The address as it is stored, or a refusal. */
export function parseEmail(given: string): string {
  const email = given.toLowerCase()
  if (email.length > emailCharsMax || !emailForm.test(email) || /\p{Cc}/u.test(email) || !email.isWellFormed())
    throw invalid('This is not an e-mail address.', 'email')
  return email
}

export function createAccounts(options: {
  db: Sql
  clock: Clock
  config: Pick<Config, 'MODERATOR_EMAILS'>
  passwords: Passwords
  sessions: Sessions
}): Accounts {
  const { db, passwords, sessions } = options
  const moderators = new Set(options.config.MODERATOR_EMAILS.map(e => e.toLowerCase()))
  const seen = (row: OwnUser): OwnUser =>
    row.email && moderators.has(row.email.toLowerCase()) ? { ...row, role: 'moderator' } : row

  /** One insert; undefined when the name or the address is taken. */
  async function insert(email: string, username: string, displayName: string | null, hash: string | null) {
    const { rows } = await db.query<OwnUser>(
      `with u as (
         insert into users (email, username, display_name, password_bcrypt) values ($1, $2, $3, $4)
         on conflict do nothing returning *
       ) select ${ownColumns} from u`,
      [email, username, displayName, hash],
    )
    return rows[0]
  }

  async function isEmailTaken(email: string): Promise<boolean> {
    return (await db.query('select 1 from users where lower(email) = $1', [email])).rows.length > 0
  }

  /** Inserts under a name derived from the address; another's insert in between costs one more round. */
  async function insertDerived(email: string, displayName: string | null, hash: string | null): Promise<OwnUser> {
    const stem = stemOf(email)
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { rows } = await db.query<{ username: string }>(
        'select username from users where username = $1 or username like $2',
        [stem, `${stem.slice(0, 22).replaceAll('_', '\\_')}%`],
      )
      const name = deriveUsername(stem, new Set(rows.map(r => r.username)))
      const user = await insert(email, name, displayName, hash)
      if (user) return user
      if (await isEmailTaken(email)) throw conflict('This e-mail address has an account.', { field: 'email' })
    }
    throw conflict('No free username was found. Choose one.', { field: 'username' })
  }

  const accounts: Accounts = {
    async register(given, asking) {
      const email = parseEmail(given.email)
      const displayName = checkDisplayName(given.display_name)
      const name = given.username === undefined ? undefined : checkedName(given.username)
      // Looked at first, so that a known address costs no hash; the unique index decides in the end.
      if (await isEmailTaken(email)) throw conflict('This e-mail address has an account.', { field: 'email' })
      const hash = await passwords.hash(given.password)
      let user: OwnUser | undefined
      if (name === undefined) user = await insertDerived(email, displayName, hash)
      else {
        user = await insert(email, name, displayName, hash)
        if (!user && (await isEmailTaken(email)))
          throw conflict('This e-mail address has an account.', { field: 'email' })
        if (!user) throw nameTaken()
      }
      const session = await sessions.open(user.id, asking.userAgent)
      await audit(db, {
        action: 'account.register',
        actorId: user.id,
        sessionId: session.sessionId,
        requestId: asking.requestId,
      })
      return { user: seen(user), session }
    },

    async login(given, asking) {
      const { rows } = await db.query<OwnUser & { password_bcrypt: string | null; usable: boolean }>(
        `select ${ownColumns}, u.password_bcrypt, u.disabled_at is null and u.deleted_at is null as usable
         from users u where lower(u.email) = $1`,
        [given.email.toLowerCase()],
      )
      const found = rows[0]
      const isRight = await passwords.matches(given.password, found?.password_bcrypt)
      if (!found || !isRight || !found.usable) {
        await audit(db, {
          action: 'login.failed',
          requestId: asking.requestId,
          ...(found ? { targetType: 'user', targetId: found.id } : {}),
        })
        throw unauthorized('E-mail address or password is wrong.')
      }
      const { password_bcrypt: _, usable: __, ...user } = found
      const session = await sessions.open(user.id, asking.userAgent)
      await audit(db, { action: 'login', actorId: user.id, sessionId: session.sessionId, requestId: asking.requestId })
      return { user: seen(user), session }
    },

    async logout(who, allDevices, requestId) {
      await sessions.end(who, allDevices, 'logout')
      await audit(db, {
        action: allDevices ? 'logout.all' : 'logout',
        actorId: who.userId,
        sessionId: who.sessionId,
        requestId,
      })
    },

    async own(userId) {
      const { rows } = await db.query<OwnUser>(
        `select ${ownColumns} from users u where u.id = $1 and u.deleted_at is null and u.disabled_at is null`,
        [userId],
      )
      return rows[0] && seen(rows[0])
    },

    async change(userId, given) {
      const displayName = checkDisplayName(given.display_name)
      const avatarUrl = checkAvatarUrl(given.avatar_url)
      const { rows } = await db.query<OwnUser>(
        `with u as (
           update users set updated_at = clock_timestamp(),
             display_name = case when $2 then $3 else display_name end,
             avatar_url = case when $4 then $5 else avatar_url end
           where id = $1 and deleted_at is null returning *
         ) select ${ownColumns} from u`,
        [userId, given.display_name !== undefined, displayName, given.avatar_url !== undefined, avatarUrl],
      )
      if (!rows[0]) throw unauthorized('This account is gone.', 'TOKEN_REVOKED')
      return seen(rows[0])
    },

    async claim(userId, username) {
      const name = checkedName(username)
      try {
        const { rows } = await db.query<OwnUser>(
          `with u as (
             update users set username = $2, updated_at = clock_timestamp()
             where id = $1 and deleted_at is null and not is_bot returning *
           ) select ${ownColumns} from u`,
          [userId, name],
        )
        if (!rows[0]) throw forbidden('This account has no name of its own.')
        return seen(rows[0])
      } catch (error) {
        if ((error as { code?: string }).code === '23505') throw nameTaken()
        throw error
      }
    },

    async byEmail(given, shallCreate) {
      const email = parseEmail(given)
      for (;;) {
        const { rows } = await db.query<OwnUser>(`select ${ownColumns} from users u where lower(u.email) = $1`, [email])
        if (rows[0] || !shallCreate) return rows[0] && seen(rows[0])
        try {
          return seen(await insertDerived(email, null, null))
        } catch (error) {
          // Someone else made it just now: it is found in the next round.
          if (!(await isEmailTaken(email))) throw error
        }
      }
    },
  }
  return accounts
}

const nameTaken = () => conflict('This username is taken.', { field: 'username' })

function checkedName(given: string): string {
  const parsed = parseUsername(given)
  if ('name' in parsed) return parsed.name
  if (parsed.wrong === 'reserved') throw nameTaken()
  throw invalid('A username has 3 to 30 characters: a–z, 0–9 and _.', 'username')
}

/** Kept as sent, but for what cannot be shown: controls, lone surrogates, nothing but white space. */
function checkDisplayName(given: string | undefined): string | null {
  if (given === undefined) return null
  if (/\p{Cc}/u.test(given) || !given.isWellFormed() || !/\S/u.test(given))
    throw invalid('This display name cannot be used.', 'display_name')
  return given
}

/** Never fetched by the server: only its form is looked at. */
function checkAvatarUrl(given: string | null | undefined): string | null {
  if (given == null) return null
  if (
    !URL.canParse(given) ||
    new URL(given).protocol !== 'https:' ||
    /[\s\p{Cc}]/u.test(given) ||
    !given.isWellFormed()
  )
    throw invalid('An avatar is an https address.', 'avatar_url')
  return given
}
