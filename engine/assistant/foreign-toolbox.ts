/**
 * The assistant's toolbox with the tools of other servers beside our own: what is offered, what asks first, and each call at
 * most once: recorded before it is made, never made again. What comes back is marked as a stranger's words.
 */
import type { Toolbox, ToolOffer } from '#engine/actor/ports.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { type McpServer, nameSeparator } from '#engine/ops/mcp-servers.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { mcpOffersBytesMax, toolTimeoutMs } from '#protos/limits.ts'
import type { ToolPermission } from '#protos/tools.ts'
import type { ForeignCall, ForeignLedger } from './foreign-ledger.ts'
import type { ForeignLink } from './foreign-link.ts'
import { type ForeignOutcome, offerOf, type SeenTool } from './foreign-tools.ts'

type Made = Awaited<ReturnType<Toolbox['run']>>

/** While the database is away, and while another worker may still bring a result. */
const retryMs = 250
/** What is left of a call's time for storing its result. */
const keepMs = 500

export function withForeignTools(
  own: Toolbox,
  deps: {
    servers: readonly McpServer[]
    link: ForeignLink
    ledger: ForeignLedger
    clock: Clock
    log: Log
    metrics: Metrics
  },
): Toolbox {
  const { link, ledger, clock, log, metrics } = deps
  const servers = new Map(deps.servers.map(server => [server.name, server]))
  const serverOf = (name: string) => servers.get(name.split(nameSeparator, 1)[0]!)
  const isForeign = (name: string) => name.includes(nameSeparator) && serverOf(name) !== undefined
  const find = (name: string) => link.tools().find(tool => tool.name === name)
  const policyOf = ({ server, tool }: SeenTool): ToolPermission => servers.get(server)?.policies[tool] ?? 'ask'

  let offeredFor: readonly SeenTool[] | undefined
  let offers: ToolOffer[] = []

  /** Made anew when the list has changed; the same list is the same array. */
  function allOffers(): ToolOffer[] {
    const tools = link.tools()
    if (tools === offeredFor) return offers
    offeredFor = tools
    let left = mcpOffersBytesMax
    const foreign = tools.filter(tool => {
      if (policyOf(tool) === 'off') return false
      left -= Buffer.byteLength(tool.spec)
      return left >= 0
    })
    if (left < 0) log.warn('not all tools of other servers can be offered', { count: foreign.length })
    offers = [...own.offers, ...foreign.map(offerOf)]
    return offers
  }

  async function run(call: ForeignCall, until: number): Promise<Made> {
    const tool = await link.find(call.name)
    const policy = tool ? policyOf(tool) : undefined
    const refusal =
      policy === 'off'
        ? failure('Unauthorized', 'This tool is switched off here.')
        : policy === undefined
          ? failure('OperationFailed', 'There is no such tool now; its server may be away.')
          : call.arguments.startsWith('{')
            ? undefined
            : failure('InvalidInput', 'The arguments must be an object.')
    const given = { isWanted: !refusal, isAuto: policy === 'auto', why: refusal && outcomeOf(refusal) }
    for (;;) {
      const claim = await patiently(until, () => ledger.claim(call, given))
      if (!claim) return unknown
      switch (claim.kind) {
        case 'stored':
          return claim
        case 'begun':
          // Whoever made it may still tell. Nobody makes it again.
          if (claim.ageMs < toolTimeoutMs && clock.mono() + retryMs < until) {
            await sleep(retryMs)
            continue
          }
          return keep(call, unknown, until)
        case 'refused':
          return refusal ?? failure('Unauthorized', 'This call may not be made.')
        case 'ours': {
          const outcome = await link.call(tool!, call.arguments, Math.max(1, until - keepMs - clock.mono()))
          return keep(call, told(tool!.server, outcome), until)
        }
        default:
          return claim satisfies never
      }
    }
  }

  /** The log stores it too; this is for whoever took the turn over meanwhile. */
  async function keep(call: ForeignCall, made: Made, until: number): Promise<Made> {
    return (await patiently(until, () => ledger.keep(call, made))) ?? made
  }

  async function patiently<T>(until: number, work: () => Promise<T>): Promise<T | undefined> {
    for (;;) {
      try {
        return await work()
      } catch (error) {
        log.warn('the ledger of calls could not be asked', { err: error })
        if (clock.mono() + retryMs >= until) return undefined
        await sleep(retryMs)
      }
    }
  }

  return {
    get offers() {
      return allOffers()
    },

    isBound: isForeign,

    read(call) {
      const read = own.read(call)
      const tool = isForeign(read.name) ? find(read.name) : undefined
      return tool && policyOf(tool) === 'ask' ? { ...read, approval: 'required' } : read
    },

    async run(call) {
      if (!isForeign(call.name)) return own.run(call)
      const startedAt = clock.mono()
      const until = startedAt + toolTimeoutMs
      const { hint: _words, ...asked } = call
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<Made>(resolve => void (timer = setTimeout(() => resolve(unknown), toolTimeoutMs)))
      const made = await Promise.race([run(asked, until), late])
      clearTimeout(timer)
      // Names come from the model: only those that are known are labels.
      const tool = find(call.name)?.name ?? `${serverOf(call.name)!.name}${nameSeparator}?`
      metrics.parley_tool_ms.observe({ tool }, clock.mono() - startedAt)
      metrics.parley_tool_calls_total.inc({ tool, outcome: outcomeOf(made) })
      return made
    },
  }
}

const sleep = (ms: number) => new Promise<void>(go => void setTimeout(go, ms))

function failure(error: string, message: string): Made {
  return { status: 'error', result: JSON.stringify({ success: false, error, message }) }
}

const unknown = failure(
  'OperationFailed',
  'unknown outcome: it is not known whether this was done. It is not tried again.',
)

/** What the model and the viewers are told. */
function told(server: string, outcome: ForeignOutcome): Made {
  switch (outcome.kind) {
    case 'done': {
      const { text, isError, isCut } = outcome
      const words = { from: server, untrusted: true, ...(isCut ? { truncated: true } : {}) }
      return isError
        ? {
            status: 'error',
            result: JSON.stringify({ success: false, error: 'OperationFailed', ...words, message: text }),
          }
        : { status: 'success', result: JSON.stringify({ success: true, ...words, text }) }
    }
    case 'not_made':
      return failure('OperationFailed', `${outcome.message} Nothing was done.`)
    case 'unknown':
      return unknown
    default:
      return outcome satisfies never
  }
}

function outcomeOf(made: Made): string {
  return made.status === 'success' ? 'success' : String((JSON.parse(made.result) as { error?: string }).error)
}
