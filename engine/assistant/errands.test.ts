/** Intents by rule, and the dialogues that must reproduce, played against a task list in memory by the tools' own rules. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CallMade, errand, type Said } from './errands.ts'
import { intentOf } from './intents.ts'

const intents: [said: string, intent: object | undefined][] = [
  ['add a task: water the plants and the cat', { kind: 'create', titles: ['water the plants and the cat'] }],
  ['Please add a task called "pay rent".', { kind: 'create', titles: ['pay rent'] }],
  ['I need to buy milk, eggs, and bread', { kind: 'create', titles: ['milk', 'eggs', 'bread'] }],
  ['I need to buy milk and bread', { kind: 'create', titles: ['milk', 'bread'] }],
  ['and add eggs', { kind: 'create', titles: ['eggs'] }],
  ['can you put bread and some butter on my shopping list?', { kind: 'create', titles: ['bread', 'butter'] }],
  ['remind me to call mum and dad', { kind: 'create', titles: ['call mum and dad'] }],
  ['I have to water the plants', { kind: 'create', titles: ['water the plants'] }],
  ["what's on my list?", { kind: 'list', status: 'all' }],
  ['show my tasks', { kind: 'list', status: 'all' }],
  ['Show me my completed tasks', { kind: 'list', status: 'completed' }],
  ['find unfinished items', { kind: 'list', status: 'pending' }],
  ['what is left to do?', { kind: 'list', status: 'pending' }],
  ['anything about the car?', { kind: 'list', status: 'all', query: 'car' }],
  ['search for milk', { kind: 'list', status: 'all', query: 'milk' }],
  ['mark groceries done', { kind: 'complete', what: 'groceries' }],
  ['mark milk as complete', { kind: 'complete', what: 'milk' }],
  ['complete the task buy milk', { kind: 'complete', what: 'buy milk' }],
  ['I bought the milk', { kind: 'complete', what: 'milk' }],
  ['the laundry is done', { kind: 'complete', what: 'laundry' }],
  ['change eggs to brown eggs', { kind: 'update', what: 'eggs', title: 'brown eggs' }],
  ['rename the task eggs to brown eggs', { kind: 'update', what: 'eggs', title: 'brown eggs' }],
  [
    "update eggs to 'brown eggs' and add a description",
    { kind: 'update', what: 'eggs', title: 'brown eggs', wants: 'description' },
  ],
  ['add a description to eggs: from the farm', { kind: 'update', what: 'eggs', description: 'from the farm' }],
  ['delete the task milk', { kind: 'delete', what: 'milk' }],
  ['remove that old task', { kind: 'delete', what: 'that old' }],
  ['remove all completed tasks', { kind: 'purge', status: 'completed' }],
  ["delete everything I've completed", { kind: 'purge', status: 'completed' }],
  ['delete everything', { kind: 'purge', status: 'all' }],
  ['what about my grocery list?', { kind: 'clarify', about: 'grocery list' }],
  ['hello there', undefined],
  ['what did we say?', undefined],
  ['I need to know how streams work', undefined],
  ['make me a table', undefined],
  ['write some code', undefined],
  ['what is an actor?', undefined],
]
for (const [said, intent] of intents) {
  test(`L-01…L-08 "${said}" is ${intent ? (intent as { kind: string }).kind : 'small talk'}`, () => {
    assert.deepEqual(intentOf(said), intent)
  })
}

/** A conversation of one person with the model; deletions are allowed or not. */
function world() {
  const tasks: { id: string; title: string; description: string | null; completed: boolean }[] = []
  const said: Said[] = []
  let ids = 0
  const add = (title: string) => tasks.push({ id: `t${++ids}`, title, description: null, completed: false })
  function call(name: string, args: Record<string, unknown>, allows: boolean): Record<string, unknown> {
    const found = tasks.find(t => t.id === args['task_id'])
    switch (name) {
      case 'add_task':
        add(String(args['title']))
        return { success: true, task_id: `t${ids}`, title: args['title'], description: null }
      case 'list_tasks': {
        const listed = tasks.filter(t => args['status'] === 'all' || t.completed === (args['status'] === 'completed'))
        return { tasks: listed.map(t => ({ ...t })), total: listed.length, status_filter: args['status'] }
      }
      case 'complete_task':
        found!.completed = true
        return { success: true, task_id: found!.id, title: found!.title, completed: true }
      case 'update_task':
        Object.assign(
          found!,
          args['title'] ? { title: args['title'] } : {},
          args['description'] ? { description: args['description'] } : {},
        )
        return { success: true, task_id: found!.id, title: found!.title, description: found!.description }
      default:
        if (!allows) return { success: false, error: 'Unauthorized', message: 'not allowed' }
        tasks.splice(tasks.indexOf(found!), 1)
        return { success: true, task_id: found!.id, title: found!.title, deleted_at: 'now' }
    }
  }
  /** Says it, and answers with the names of the calls in each round and the last words. */
  function says(text: string, { allows = true, by = 'ana' } = {}): { rounds: string[]; answer: string } {
    said.push({ by, text })
    const rounds: CallMade[][] = []
    for (;;) {
      const next = errand(said, rounds)
      assert.ok(next, text)
      if ('say' in next) {
        said.push({ by: undefined, text: next.say })
        return { rounds: rounds.map(r => r.map(c => `${c.name}(${String(describe(c))})`).join(' ')), answer: next.say }
      }
      assert.ok(rounds.length < 8, text)
      rounds.push(next.calls.map(c => ({ ...c, result: call(c.name, c.arguments, allows) })))
    }
  }
  const describe = ({ name, arguments: a, result }: CallMade) =>
    name === 'list_tasks'
      ? a['status']
      : name === 'update_task'
        ? Object.entries(a)
            .slice(1)
            .map(([k, v]) => `${k}: ${String(v)}`)
            .join(', ')
        : (result!['title'] ?? '–')
  const state = () => tasks.map(t => `${t.completed ? 'x' : '-'} ${t.title}`)
  return { says, add, state, tasks }
}

test('dialogue A: milk and bread, then eggs, then milk is done', () => {
  const { says, state } = world()
  assert.deepEqual(says('I need to buy milk and bread').rounds, ['add_task(milk) add_task(bread)'])
  assert.deepEqual(says('and add eggs').rounds, ['add_task(eggs)'])
  assert.deepEqual(says('mark milk done').rounds, ['list_tasks(pending)', 'complete_task(milk)'])
  assert.deepEqual(state(), ['x milk', '- bread', '- eggs'])
})

test('L-10 dialogue B: a whole list, to its end', () => {
  const { says, state, tasks } = world()
  assert.deepEqual(says('I need to buy milk, eggs, and bread').rounds, [
    'add_task(milk) add_task(eggs) add_task(bread)',
  ])
  const shown = says("what's on my list?")
  assert.deepEqual(shown.rounds, ['list_tasks(all)'])
  for (const word of ['Open', 'milk', 'eggs', 'bread']) assert.ok(shown.answer.includes(word))
  const done = says('mark milk done')
  assert.deepEqual(done.rounds, ['list_tasks(pending)', 'complete_task(milk)'])
  assert.match(done.answer, /Two are left/)
  const asked = says("update eggs to 'brown eggs' and add a description")
  assert.deepEqual(asked.rounds, [])
  assert.match(asked.answer, /description/)
  assert.deepEqual(says('from the farm').rounds, [
    'list_tasks(all)',
    'update_task(title: brown eggs, description: from the farm)',
  ])
  assert.equal(tasks[1]!.description, 'from the farm')
  const kept = says("delete everything I've completed", { allows: false })
  assert.deepEqual(kept.rounds, ['list_tasks(completed)', 'delete_task(–)'])
  assert.match(kept.answer, /nothing was deleted/)
  const gone = says("delete everything I've completed")
  assert.deepEqual(gone.rounds, ['list_tasks(completed)', 'delete_task(milk)'])
  assert.match(gone.answer, /Deleted \*\*milk\*\*/)
  const empty = says("delete everything I've completed")
  assert.deepEqual(empty.rounds, ['list_tasks(completed)'])
  assert.match(empty.answer, /no completed tasks/)
  assert.deepEqual(state(), ['- brown eggs', '- bread'])
})

test('L-08 dialogue C: with two that fit it asks which and writes nothing', () => {
  const { says, state, add } = world()
  for (const title of ['buy milk', 'return milk', 'call mum']) add(title)
  const asked = says('mark milk done')
  assert.deepEqual(asked.rounds, ['list_tasks(pending)'])
  assert.match(asked.answer, /Which one/)
  assert.deepEqual(says('the second').rounds, ['list_tasks(pending)', 'complete_task(return milk)'])
  assert.deepEqual(state(), ['- buy milk', 'x return milk', '- call mum'])
})

test('L-08 a choice may be named; another wish instead of an answer is served', () => {
  const { says, add } = world()
  for (const title of ['buy milk', 'return milk']) add(title)
  says('delete milk')
  assert.deepEqual(says('return milk').rounds, ['list_tasks(all)', 'delete_task(return milk)'])
  says("update milk to 'oat milk' and add a description")
  assert.deepEqual(says("what's on my list?").rounds, ['list_tasks(all)'])
})

test('L-03 none fits: the closest is offered, and yes takes it', () => {
  const { says, add } = world()
  for (const title of ['buy groceries', 'call mum']) add(title)
  const asked = says('mark grocery shopping done')
  assert.match(asked.answer, /Do you mean \*\*buy groceries\*\*\?/)
  assert.deepEqual(says('yes').rounds, ['list_tasks(pending)', 'complete_task(buy groceries)'])
})

test('I-14 "it" is what was spoken of last', () => {
  const { says, state } = world()
  says('add a task: buy a car')
  assert.deepEqual(says('mark it done').rounds, ['list_tasks(pending)', 'complete_task(buy a car)'])
  assert.deepEqual(state(), ['x buy a car'])
})

test('L-05 what is missing is asked for before anything is called', () => {
  const { says, add } = world()
  add('eggs')
  for (const text of ['rename eggs', 'update eggs', 'add a description to eggs'])
    assert.deepEqual(says(text).rounds, [], text)
  assert.deepEqual(says('six of them').rounds, ['list_tasks(all)', 'update_task(description: six of them)'])
})

test('L-07 many are deleted in one round, each with its own call; clarifying writes nothing', () => {
  const { says, add, tasks } = world()
  for (const title of ['a1', 'b2', 'c3']) add(title)
  for (const one of tasks) one.completed = true
  assert.deepEqual(says('what about my grocery list?').rounds, [])
  assert.equal(says('remove all completed tasks').rounds[1]!.split(' ').length, 3)
  assert.deepEqual(tasks, [])
})

test('J-09 a tool’s error is told in plain words, and no effect is claimed', () => {
  const said = [{ by: 'ana', text: 'add a task: x' }]
  const failed = {
    name: 'add_task',
    arguments: { title: 'x' },
    result: { success: false, error: 'OperationFailed', message: 'no room' },
  }
  const next = errand(said, [[failed]])
  assert.deepEqual(next, { say: 'I could not add “x”: no room' })
  const lost = errand(said, [[{ ...failed, result: undefined }]])
  assert.deepEqual(lost, { say: 'I could not add “x” just now. Please try again.' })
})
