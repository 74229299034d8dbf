/**
 * The four dialogues with the assistant, as people have them in the web app: the calls on screen and the list of tasks are
 * exact, the words are free. Each leaves a picture behind.
 */
import assert from 'node:assert/strict'
import { answered, asked, calls, done, open, panel, people, waiting } from './answers.ts'
import { becomes, type Person } from './person.ts'
import { type Case, left, newcomer, type Stage } from './stage.ts'

/** The page may say that the server is away while it is. */
const awayNoise = /WebSocket|ERR_CONNECTION|50[234]/
const awayMs = 60_000

export const dialogueCases: Case[] = [
  [
    'dialogue A: milk and bread, then eggs; every process ends and starts; milk is done',
    async stage => {
      const ana = await newcomer(stage, 'Ana')
      await ana.ask()
      await asked(ana, 'I need to buy milk and bread')
      assert.deepEqual(
        [await calls(ana), await open(ana)],
        [
          ['add_task done', 'add_task done'],
          ['bread', 'milk'],
        ],
      )
      await asked(ana, 'and add eggs')
      assert.deepEqual([await calls(ana), await open(ana)], [['add_task done'], ['bread', 'eggs', 'milk']])
      for (const person of here(stage)) person.expected = awayNoise
      await stage.endEverything()
      await asked(ana, 'mark milk done', awayMs)
      assert.deepEqual(await calls(ana), ['list_tasks done', 'complete_task done'])
      await becomes(() => open(ana), ['bread', 'eggs'], 'two are left')
      assert.deepEqual(await done(ana), ['milk'])
      await stage.picture(ana, 'dialogue-a')
      await left(stage, ana)
      for (const person of here(stage)) {
        await person.page.reload()
        person.expected = undefined
      }
    },
  ],
  [
    'dialogue B: seven exchanges, and what was completed is deleted only when that is allowed',
    async stage => {
      const bea = await newcomer(stage, 'Bea')
      await bea.ask()
      await asked(bea, 'I need to buy milk, eggs, and bread')
      assert.deepEqual(await calls(bea), Array(3).fill('add_task done'))
      const shown = await asked(bea, 'what’s on my list?')
      assert.deepEqual(await calls(bea), ['list_tasks done'])
      for (const title of ['milk', 'eggs', 'bread']) assert.ok(shown.includes(title), shown)
      assert.match(await asked(bea, 'mark milk done'), /two/i)
      assert.deepEqual([await calls(bea), await done(bea)], [['list_tasks done', 'complete_task done'], ['milk']])
      await asked(bea, 'update eggs to ‘brown eggs’ and add a description')
      assert.deepEqual([await calls(bea), await open(bea)], [[], ['bread', 'eggs']], 'it asks before it writes')
      await asked(bea, 'from the farm')
      assert.deepEqual(await calls(bea), ['list_tasks done', 'update_task done'])
      await becomes(() => open(bea), ['bread', 'brown eggs'], 'renamed')
      await panel(bea).getByText('from the farm').waitFor()
      for (const decision of ['Don’t allow', 'Allow']) {
        await bea.write('delete everything I’ve completed')
        await waiting(bea).getByText('task_id').waitFor()
        assert.deepEqual(await done(bea), ['milk'], 'nothing goes before it is allowed')
        if (decision === 'Allow') await stage.picture(bea, 'dialogue-b')
        await waiting(bea).getByRole('button', { name: decision, exact: true }).click()
        await answered(bea)
        const words = await bea.rows.last().locator('.md').last().innerText()
        assert.match(words, decision === 'Allow' ? /Deleted .*milk/ : /nothing was deleted/i)
        await becomes(() => done(bea), decision === 'Allow' ? [] : ['milk'], decision)
      }
      assert.match(await asked(bea, 'delete everything I’ve completed'), /no completed/)
      assert.deepEqual(await calls(bea), ['list_tasks done'])
      await left(stage, bea)
    },
  ],
  [
    'dialogue C: with two that fit it asks which, and writes nothing before',
    async stage => {
      const cleo = await newcomer(stage, 'Cleo')
      await cleo.ask()
      for (const title of ['buy milk', 'return milk']) await addByHand(cleo, title)
      await asked(cleo, 'mark milk done')
      assert.deepEqual([await calls(cleo), await open(cleo)], [['list_tasks done'], ['buy milk', 'return milk']])
      await asked(cleo, 'the second')
      assert.deepEqual(await calls(cleo), ['list_tasks done', 'complete_task done'])
      await becomes(() => open(cleo), ['buy milk'], 'the other stays open')
      assert.deepEqual(await done(cleo), ['return milk'])
      await stage.picture(cleo, 'dialogue-c')
      await left(stage, cleo)
    },
  ],
  [
    'dialogue D: in a group only the tasks of who asks are read, and only those whom the room names decide',
    async stage => {
      const dora = await newcomer(stage, 'Dora')
      const finn = await newcomer(stage, 'Finn')
      for (const [person, title] of [
        [dora, 'call the plumber'],
        [finn, 'water the ferns'],
      ] as const) {
        await person.ask()
        await addByHand(person, title)
      }
      await dora.group('Household', finn)
      await finn.open('Household')
      const shown = await asked(dora, '@assistant what’s on my list?')
      assert.ok(shown.includes('call the plumber') && !shown.includes('ferns'), shown)
      await dora.write('@assistant delete the task call the plumber')
      await waiting(dora).getByText('You decide.').waitFor()
      await waiting(finn)
        .getByText(/^Waiting for/)
        .waitFor()
      assert.equal(await waiting(finn).getByRole('button').count(), 0, 'not Finn’s to decide')
      assert.equal(await finn.list.getByText('is writing…').count(), 0, 'it waits, so it does not write')
      await stage.picture(finn, 'dialogue-d')
      await waiting(dora).getByRole('button', { name: 'Don’t allow' }).click()
      await answered(dora)
      await dora.page.getByRole('button', { name: 'People', exact: true }).click()
      await people(dora).getByLabel('Who may allow what the assistant does').selectOption('members')
      await finn.log.getByText('Dora changed who decides on tools').waitFor()
      await dora.write('@assistant delete the task call the plumber')
      await waiting(finn).getByRole('button', { name: 'Allow', exact: true }).click()
      await answered(dora)
      assert.deepEqual(await calls(dora), ['list_tasks done', 'delete_task done'])
      await finn.list.getByRole('link', { name: 'New conversation' }).click()
      await becomes(() => open(finn), ['water the ferns'], 'his own are untouched')
      await left(stage, dora)
      await left(stage, finn)
    },
  ],
]

const here = (stage: Stage) => stage.people.filter(person => !person.page.isClosed())

async function addByHand(person: Person, title: string): Promise<void> {
  await panel(person).getByLabel('New task').fill(title)
  await panel(person).getByRole('button', { name: 'Add', exact: true }).click()
  await panel(person).getByText(title, { exact: true }).waitFor()
}
