/**
 * The scripts of the soft store on Redis, and their keys: each change is one step with what it tells others, so what is told
 * comes in the order of the changes. Every age is by Redis' clock: that of a host may be off. Refuses to decide when to ask.
 */
export const channel = 'parley:soft'
/** Gateway → when it last said that all its sockets are told. */
const pulseKey = 'parley:soft:pulse'
/** Since when this Redis holds anything. */
const epochKey = 'parley:soft:epoch'
const keysOf = (userId: string) => [`parley:{${userId}}:beat`, `parley:{${userId}}:came`, `parley:{${userId}}:seen`]

interface Eval<T> {
  eval(script: string, keys: number, ...rest: (string | number)[]): T
}

export interface ScriptOptions {
  ttlMs: number
  socketsMax: number
  /** After a loss of everything absent people are not known for so long. */
  settleMs: number
  /** A pulse older than this is missing; */
  lateMs: number
  /** older than this, its gateway is gone, and its sockets with it. */
  goneMs: number
}

export const nowLua = `local t = redis.call('time') local now = t[1] * 1000 + math.floor(t[2] / 1000)`
const sweepLua = `
for _, s in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', now - ARGV[2])) do
  redis.call('zrem', KEYS[1], s) redis.call('zrem', KEYS[2], s)
end`
/** Whether somebody who is in no set may be here all the same: a gateway does not get through, or all was lost just now. */
const doubtLua = `
local function doubt(pulse, epoch, gone, late, settle)
  local since = tonumber(redis.call('get', epoch) or '')
  if not since or now - since < tonumber(settle) then return true end
  return redis.call('zcount', pulse, now - gone, now - late) > 0
end`
const arriveLua = `${nowLua} ${sweepLua}
local before = redis.call('zcard', KEYS[1])
redis.call('zadd', KEYS[1], now, ARGV[1])
local last = redis.call('zrange', KEYS[2], -1, -1, 'withscores')
local rank = now
if last[2] and tonumber(last[2]) >= now then rank = tonumber(last[2]) + 1 end
redis.call('zadd', KEYS[2], 'nx', rank, ARGV[1])
local over = redis.call('zcard', KEYS[2]) - tonumber(ARGV[3])
if before == 0 or ARGV[5] == '1' then
  redis.call('publish', ARGV[6], cjson.encode({presence = ARGV[4], state = {status = 'online', lastSeen = now}}))
end
if over > 0 then
  for _, s in ipairs(redis.call('zrange', KEYS[2], 0, over - 1)) do
    redis.call('zrem', KEYS[1], s) redis.call('zrem', KEYS[2], s)
    redis.call('publish', ARGV[6], cjson.encode({evicted = s}))
  end
end
redis.call('pexpire', KEYS[1], ARGV[2] * 2) redis.call('pexpire', KEYS[2], ARGV[2] * 2)
return 0`
const beatLua = `${nowLua}
redis.call('zadd', KEYS[1], now, ARGV[1])
redis.call('zadd', KEYS[2], 'nx', now, ARGV[1])
redis.call('pexpire', KEYS[1], ARGV[2] * 2) redis.call('pexpire', KEYS[2], ARGV[2] * 2)
return 0`
const leaveLua = `${nowLua} ${sweepLua} ${doubtLua}
redis.call('zrem', KEYS[1], ARGV[1])
redis.call('zrem', KEYS[2], ARGV[1])
redis.call('set', KEYS[3], now, 'px', 30 * 86400000)
if redis.call('zcard', KEYS[1]) > 0 then return 0 end
local state = {status = 'offline', lastSeen = now}
if doubt(KEYS[4], KEYS[5], ARGV[5], ARGV[6], ARGV[7]) then state = {status = 'unknown'} end
redis.call('publish', ARGV[4], cjson.encode({presence = ARGV[3], state = state}))
return 0`
const lookLua = `${nowLua}
return {redis.call('zcount', KEYS[1], now - ARGV[2], '+inf'), redis.call('get', KEYS[3]) or '', now}`
const surelyLua = `${nowLua} ${doubtLua}
if not redis.call('zscore', KEYS[1], ARGV[4]) then return 0 end
if doubt(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
return 1`
/**
 * A pulse says that all sockets of its gateway are told. One that was held up on its way no longer knows that: it carries the
 * time of the last answer and must be young. After a gap it counts only from somebody who has told everything again.
 */
const pulseLua = `${nowLua} ${doubtLua}
local since = tonumber(redis.call('get', KEYS[2]) or '')
if not since or since > now then redis.call('set', KEYS[2], now) end
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[1])
local before = tonumber(redis.call('zscore', KEYS[1], ARGV[4]) or '')
local hasGap = not before or now - before > ARGV[1] / 3
local isHeld = now - ARGV[5] > tonumber(ARGV[6])
if isHeld or (hasGap and ARGV[7] == '0') then return {now, 0, hasGap and 1 or 0, 0, 0} end
redis.call('zadd', KEYS[1], now, ARGV[4])
redis.call('pexpire', KEYS[1], ARGV[1] * 2)
if ARGV[8] ~= '' then
  for _, name in ipairs(redis.call('zrange', KEYS[1], 0, -1)) do
    local isEarlier = name ~= ARGV[4] and #name == #ARGV[4] and string.sub(name, 1, #ARGV[8]) == ARGV[8]
    if isEarlier then redis.call('zrem', KEYS[1], name) end
  end
end
local missing = redis.call('zcount', KEYS[1], '-inf', now - ARGV[2])
return {now, 1, 0, missing, doubt(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]) and 0 or 1}`

/** What a pulse is answered: by `isTaken` whether it counts, by `hasGap` why not: everything is to be told again. */
export interface PulseAnswer {
  now: number
  isTaken: boolean
  hasGap: boolean
  missing: number
  /** Whether somebody who is in no set is surely not here. */
  isSure: boolean
}

export interface PulseAsk {
  name: string
  /** Redis' time of the last answer. */
  heardAt: number
  heardMsMax: number
  hasToldAll: boolean
  /** Names of the same length that begin so are earlier lives of this gateway: over. */
  replaces: string
}

export function scriptsOf(options: ScriptOptions) {
  const { ttlMs, socketsMax } = options
  const doubts = [options.goneMs, options.lateMs, options.settleMs]
  return {
    arrive: <T>(on: Eval<T>, userId: string, socket: string, isAgain: boolean): T =>
      on.eval(arriveLua, 3, ...keysOf(userId), socket, ttlMs, socketsMax, userId, isAgain ? 1 : 0, channel),
    beat: <T>(on: Eval<T>, userId: string, socket: string): T => on.eval(beatLua, 3, ...keysOf(userId), socket, ttlMs),
    leave: <T>(on: Eval<T>, userId: string, socket: string): T =>
      on.eval(leaveLua, 5, ...keysOf(userId), pulseKey, epochKey, socket, ttlMs, userId, channel, ...doubts),
    /** Sockets that count, last visit or '', now. */
    look: <T>(on: Eval<T>, userId: string): T => on.eval(lookLua, 3, ...keysOf(userId), '', ttlMs),
    /** 1: whoever is in no set is surely not here, as far as this gateway's own pulse is known too. */
    surely: <T>(on: Eval<T>, name: string): T => on.eval(surelyLua, 2, pulseKey, epochKey, ...doubts, name),
    async pulse(on: Eval<Promise<unknown>>, ask: PulseAsk): Promise<PulseAnswer> {
      const { name, heardAt, heardMsMax, hasToldAll, replaces } = ask
      const asked = [name, heardAt, heardMsMax, hasToldAll ? 1 : 0, replaces]
      const answer = on.eval(pulseLua, 2, pulseKey, epochKey, ...doubts, ...asked)
      const [now, isTaken, hasGap, missing, isSure] = (await answer) as [number, number, number, number, number]
      return { now, isTaken: isTaken === 1, hasGap: hasGap === 1, missing, isSure: isSure === 1 }
    },
    goodbye: (redis: { zrem(key: string, name: string): Promise<number> }, name: string) => redis.zrem(pulseKey, name),
  }
}
