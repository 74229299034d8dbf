/** What is offered, what asks first, and what of a model's call reaches the log. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { ConfigError, readConfig } from '#engine/ops/config.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import type { Tasks, ToolResult } from './tasks.ts'
import { createToolbox, readPolicies } from './toolbox.ts'

const box = (given: string[], run: Tasks['run'] = async () => ({ tasks: [], total: 0, status_filter: 'all' })) =>
  createToolbox({
    tasks: { run },
    policies: readPolicies(given),
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
  })
const call = (name: string, args = '{}') => ({ id: 'c', name, arguments: args })
const made = { runId: 'r', callId: 'c', requester: 'u', hint: '', trace: 't' }

test('L-09 delete_task asks, the others act; the operator’s table changes that, and a wrong one is refused at start', async () => {
  const plain = box([])
  assert.deepEqual(
    ['delete_task', 'add_task', 'nothing'].map(n => plain.read(call(n)).approval),
    ['required', 'auto', 'auto'],
  )
  const given: (boolean | undefined)[] = []
  const table = readConfig({ TOOL_POLICIES: 'complete_task=ask, delete_task=auto,add_task=off' }).TOOL_POLICIES
  const own = box(table, async ({ isOff }) => {
    given.push(isOff)
    return { tasks: [], total: 0, status_filter: 'all' }
  })
  assert.deepEqual(
    ['delete_task', 'complete_task'].map(n => own.read(call(n)).approval),
    ['auto', 'required'],
  )
  assert.deepEqual([plain.offers.length, own.offers.length], [5, 4])
  // The refusal of one that is off is made where calls are recorded.
  for (const name of ['add_task', 'list_tasks']) await own.run({ ...made, name, arguments: '{}' })
  assert.deepEqual(given, [true, false])
  for (const wrong of ['nope=ask', 'add_task=maybe', 'add_task', 'add_task=ask=auto']) {
    assert.throws(() => readConfig({ TOOL_POLICIES: wrong }), ConfigError, wrong)
  }
})

test('3.5 the same arguments in another order are the same call; what is no object stays a text', () => {
  const { read } = box([])
  const hash = (args: string) => read(call('add_task', args)).hash
  assert.equal(hash('{"title":"a","description":"b"}'), hash('{ "description": "b", "title": "a" }'))
  assert.notEqual(hash('{"title":"a"}'), hash('{"title":"b"}'))
  assert.deepEqual(read(call('add_task', 'oops\0')).arguments, '"oops\ufffd"')
  assert.deepEqual(read(call('add_task', '')).arguments, '{}')
  assert.deepEqual(read(call('add_task', `"${'x'.repeat(70_000)}"`)).arguments, '"(too long)"')
})

test('K-10 a call is tried again while the database is away, and a result is cut at 32 KiB', async () => {
  let tries = 0
  const tasks = Array.from({ length: 100 }, (_, i) => ({
    id: `${i}`,
    title: 't',
    description: 'é'.repeat(2000),
    completed: false,
    created_at: '',
    completed_at: null,
  }))
  const found: ToolResult = { tasks, total: 100, status_filter: 'all' }
  const { run } = box([], async () => {
    if (++tries < 3) throw new Error('away')
    return found
  })
  const { status, result } = await run({ ...made, name: 'list_tasks', arguments: '{}' })
  assert.deepEqual([status, tries], ['success', 3])
  assert.ok(Buffer.byteLength(result) <= 32_768)
  assert.deepEqual([JSON.parse(result).truncated, JSON.parse(result).total], [true, 100])
})
