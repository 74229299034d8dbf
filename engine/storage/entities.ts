/**
 * Tables that are read and written row by row, as entities. The log and all that is written with it is not here: it
 * goes through the journal's one statement, and its reads are plain SQL in directory.ts and read.ts.
 */
import { defineEntity, p } from '@mikro-orm/core'

const id = () => p.uuid().primary().defaultRaw('uuidv7()')
const time = () => p.datetime().columnType('timestamptz')
const madeAt = () => time().defaultRaw('clock_timestamp()')

const UserSchema = defineEntity({
  name: 'User',
  tableName: 'users',
  properties: {
    id: id(),
    username: p.text().nullable(),
    email: p.text().nullable(),
    passwordBcrypt: p.text().nullable().hidden(),
    displayName: p.text().nullable(),
    avatarUrl: p.text().nullable(),
    isGuest: p.boolean().default(false),
    isBot: p.boolean().default(false),
    role: p.text().$type<'user' | 'moderator' | 'admin'>().default('user'),
    disabledAt: time().nullable(),
    deletedAt: time().nullable(),
    createdAt: madeAt(),
    updatedAt: madeAt().onUpdate(() => new Date()),
  },
})
export class User extends UserSchema.class {}
UserSchema.setClass(User)

const SessionSchema = defineEntity({
  name: 'Session',
  tableName: 'sessions',
  properties: {
    id: id(),
    user: () => p.manyToOne(User),
    createdAt: madeAt(),
    expiresAt: time(),
    idleExpiresAt: time(),
    lastUsedAt: madeAt(),
    revokedAt: time().nullable(),
    revokedReason: p.text().nullable(),
    userAgent: p.text().nullable(),
  },
})
export class Session extends SessionSchema.class {}
SessionSchema.setClass(Session)

const RefreshTokenSchema = defineEntity({
  name: 'RefreshToken',
  tableName: 'refresh_token',
  properties: {
    tokenHash: p.blob().columnType('bytea').primary(),
    family: () => p.manyToOne(Session),
    user: () => p.manyToOne(User),
    issuedAt: madeAt(),
    usedAt: time().nullable(),
    replacedBy: p.blob().columnType('bytea').nullable(),
    sealedSuccessor: p.blob().columnType('bytea').nullable(),
    expiresAt: time(),
  },
})
export class RefreshToken extends RefreshTokenSchema.class {}
RefreshTokenSchema.setClass(RefreshToken)

const SigningKeySchema = defineEntity({
  name: 'SigningKey',
  tableName: 'signing_key',
  properties: {
    kid: p.text().primary(),
    privatePem: p.text().hidden(),
    publicJwk: p.json<Record<string, unknown>>(),
    createdAt: madeAt(),
  },
})
export class SigningKey extends SigningKeySchema.class {}
SigningKeySchema.setClass(SigningKey)

const OauthIdentitySchema = defineEntity({
  name: 'OauthIdentity',
  tableName: 'oauth_identities',
  properties: {
    id: id(),
    user: () => p.manyToOne(User),
    provider: p.text(),
    providerUserId: p.text(),
    createdAt: madeAt(),
  },
})
export class OauthIdentity extends OauthIdentitySchema.class {}
OauthIdentitySchema.setClass(OauthIdentity)

const ReportSchema = defineEntity({
  name: 'Report',
  tableName: 'reports',
  properties: {
    id: id(),
    reporter: () => p.manyToOne(User),
    reported: () => p.manyToOne(User),
    messageId: p.uuid().nullable(),
    reason: p.text(),
    createdAt: madeAt(),
    resolvedAt: time().nullable(),
    resolvedBy: p.uuid().nullable(),
  },
})
export class Report extends ReportSchema.class {}
ReportSchema.setClass(Report)

const AuditSchema = defineEntity({
  name: 'Audit',
  tableName: 'audit',
  properties: {
    id: id(),
    at: madeAt(),
    actorId: p.uuid().nullable(),
    action: p.text(),
    targetType: p.text().nullable(),
    targetId: p.text().nullable(),
    sessionId: p.uuid().nullable(),
    requestId: p.text().nullable(),
    detail: p.json<Record<string, unknown>>().defaultRaw("'{}'"),
  },
})
export class Audit extends AuditSchema.class {}
AuditSchema.setClass(Audit)

/** Read only from here: the engine writes blocks with the log. */
const BlockSchema = defineEntity({
  name: 'Block',
  tableName: 'blocks',
  properties: {
    blocker: () => p.manyToOne(User).primary(),
    blocked: () => p.manyToOne(User).primary(),
    createdAt: madeAt(),
  },
})
export class Block extends BlockSchema.class {}
BlockSchema.setClass(Block)

/** Read only from here. */
const ConversationSchema = defineEntity({
  name: 'Conversation',
  tableName: 'conversation',
  properties: {
    id: p.uuid().primary(),
    shardId: p.integer(),
    kind: p.text().$type<'dm' | 'group' | 'ai'>(),
    title: p.text().nullable(),
    toolPolicy: p.text().$type<'requester' | 'admins' | 'members'>().default('requester'),
    firstSeq: p.bigint('number').default(1),
    createdBy: p.uuid(),
    createdAt: time(),
    deletedAt: time().nullable(),
    deletedBy: p.uuid().nullable(),
    purgeAfter: time().nullable(),
  },
})
export class Conversation extends ConversationSchema.class {}
ConversationSchema.setClass(Conversation)

/** Read only from here. */
const ConversationMemberSchema = defineEntity({
  name: 'ConversationMember',
  tableName: 'conversation_member',
  properties: {
    conversation: () => p.manyToOne(Conversation).primary(),
    user: () => p.manyToOne(User).primary(),
    role: p.text().$type<'owner' | 'admin' | 'member'>(),
    joinedAt: time(),
    joinedSeq: p.bigint('number'),
    lastReadSeq: p.bigint('number').default(0),
    lastDeliveredSeq: p.bigint('number').default(0),
  },
})
export class ConversationMember extends ConversationMemberSchema.class {}
ConversationMemberSchema.setClass(ConversationMember)

export const entities = [
  User,
  Session,
  RefreshToken,
  SigningKey,
  OauthIdentity,
  Report,
  Audit,
  Block,
  Conversation,
  ConversationMember,
]
