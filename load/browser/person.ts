/**
 * Somebody at a browser: opens the app, does what people do, reads what is on screen. Watches the page all the while for
 * errors, policy violations, dialogs, requests that leave the server and those that no document names; the suite fails on any of them.
 */
import assert from 'node:assert/strict'
import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from 'playwright-core'

/** The documented requests of a server, each as a pattern of `METHOD /path`. */
let documented: Promise<RegExp[]> | undefined

async function documentedAt(url: string): Promise<RegExp[]> {
  const { paths } = (await (await fetch(`${url}/docs/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>
  }
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations).map(
      method => new RegExp(`^${method.toUpperCase()} (/api)?${path.replace(/\{[^}]+\}/g, '[^/]+')}$`),
    ),
  )
}

export const password = 'correct horse battery'

export class Person {
  readonly name: string
  readonly context: BrowserContext
  readonly url: string
  readonly problems: string[] = []
  /** What may go wrong for now, while a case cuts the network or asks for a refusal. */
  expected: RegExp | undefined
  #page: Page

  private constructor(name: string, url: string, context: BrowserContext, page: Page) {
    this.name = name
    this.url = url
    this.context = context
    this.#page = page
  }

  static async open(browser: Browser, url: string, name: string, options: BrowserContextOptions = {}): Promise<Person> {
    await (documented ??= documentedAt(url))
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
    const person = new Person(name, url, context, undefined as unknown as Page)
    context.on('page', page => person.#watch(page))
    person.#page = await context.newPage()
    return person
  }

  get page(): Page {
    return this.#page
  }

  /** Another tab of the same browser becomes the one in front. */
  async tab(): Promise<Page> {
    const before = this.#page
    this.#page = await this.context.newPage()
    await this.#page.goto(`${this.url}/app`)
    await this.list.waitFor()
    return before
  }

  front(page: Page): void {
    this.#page = page
  }

  get list(): Locator {
    return this.page.getByRole('navigation', { name: 'Conversations' })
  }

  get log(): Locator {
    return this.page.getByRole('log')
  }

  get rows(): Locator {
    return this.log.getByRole('article')
  }

  get field(): Locator {
    return this.page.locator('form textarea')
  }

  row(text: string): Locator {
    return this.rows.filter({ hasText: text })
  }

  async register(): Promise<void> {
    const { page } = this
    await page.goto(this.url)
    await page.getByRole('button', { name: 'New here? Create an account' }).click()
    await page.getByLabel('Name', { exact: true }).fill(this.name)
    await page.getByLabel('E-mail').fill(`${this.name.toLowerCase()}@example.org`)
    await page.getByLabel('Password', { exact: true }).fill(password)
    await page.getByRole('button', { name: 'Create account' }).click()
    await this.list.waitFor()
  }

  async signIn(secret = password): Promise<void> {
    await this.page.getByLabel('E-mail').fill(`${this.name.toLowerCase()}@example.org`)
    await this.page.getByLabel('Password', { exact: true }).fill(secret)
    await this.page.getByRole('button', { name: 'Sign in', exact: true }).click()
  }

  async find(other: Person): Promise<void> {
    await this.page.getByRole('button', { name: 'New conversation' }).click()
    await this.page.getByRole('menuitem', { name: 'Find someone' }).click()
    const dialog = this.page.getByRole('dialog')
    await dialog.waitFor()
    // The field has the focus: whoever opened it types.
    await this.page.keyboard.type(other.name.toLowerCase())
    await dialog.getByRole('button', { name: other.name }).click()
    await this.log.waitFor()
  }

  async ask(): Promise<void> {
    await this.page.getByRole('button', { name: 'New conversation' }).click()
    await this.page.getByRole('menuitem', { name: 'Ask the assistant' }).click()
    await this.page.getByText('Ask anything.').waitFor()
    await this.page.getByText('goes to the language model').first().waitFor()
  }

  async group(title: string, other: Person): Promise<void> {
    const { page } = this
    await page.getByRole('button', { name: 'New conversation' }).click()
    await page.getByRole('menuitem', { name: 'New group' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Name of the group').fill(title)
    await dialog.getByLabel('People').fill(other.name.toLowerCase())
    await dialog.getByRole('button', { name: other.name }).click()
    await dialog.getByRole('button', { name: 'Create group' }).click()
    await this.log.getByText(`You added ${other.name}`).waitFor()
  }

  /** Comes back when what was written has its row in the log. */
  async write(text: string): Promise<void> {
    // The lowest of the own rows: older ones may come into the page above it as the log moves.
    const lowest = (): Promise<string | undefined> =>
      this.log.evaluate(log => {
        const own = [...log.querySelectorAll('[data-key^="c:"]')] as (typeof log)[]
        const bottom = (row: typeof log): number => row.getBoundingClientRect().bottom
        return own.sort((a, b) => bottom(b) - bottom(a))[0]?.getAttribute('data-key')
      })
    const before = await lowest()
    await this.field.fill(text)
    await this.field.press('Enter')
    await becomes(async () => (await lowest()) !== before, true, `“${text}” is in the log`)
  }

  async open(conversation: string): Promise<void> {
    await this.list.getByRole('link', { name: conversation }).click()
    await this.log.waitFor()
  }

  tick(text: string): Locator {
    return this.row(text).locator('[data-tick]')
  }

  async reaches(text: string, tick: 'stored' | 'delivered' | 'read'): Promise<void> {
    await this.row(text).locator(`[data-tick=${tick}]`).waitFor()
  }

  async texts(): Promise<string[]> {
    return this.rows.locator('.md').allInnerTexts()
  }

  /** Everything seen so far that should not have been. */
  check(): void {
    assert.deepEqual(this.problems, [], `${this.name}'s page complained`)
  }

  #watch(page: Page): void {
    const origin = new URL(this.url).host
    page.setDefaultTimeout(10_000)
    const problem = (text: string) => {
      if (!this.expected?.test(text)) this.problems.push(text)
    }
    page.on('console', message => {
      if (message.type() === 'error' || message.type() === 'warning') problem(`${message.type()}: ${message.text()}`)
    })
    page.on('pageerror', error => problem(`page error: ${error.stack ?? error.message}`))
    page.on('dialog', dialog => {
      problem(`dialog: ${dialog.message()}`)
      void dialog.dismiss()
    })
    page.on('request', request => {
      const { host, pathname, protocol } = new URL(request.url())
      if (host !== origin && !['data:', 'blob:'].includes(protocol)) problem(`request to ${request.url()}`)
      // J-10: what the app asks of the server anybody can ask, by the document.
      if (host !== origin || !['fetch', 'xhr'].includes(request.resourceType())) return
      const asked = `${request.method()} ${pathname}`
      void documented?.then(known => {
        if (!known.some(pattern => pattern.test(asked))) problem(`not in the document: ${asked}`)
      })
    })
    page.on('websocket', socket => {
      if (new URL(socket.url()).host !== origin) problem(`socket to ${socket.url()}`)
    })
  }
}

/** Waits until a reading of the page is what it should be; fails with the last reading. */
export async function becomes<T>(read: () => Promise<T>, want: T, what: string, limitMs = 10_000): Promise<void> {
  const end = performance.now() + limitMs
  for (;;) {
    const got = await read()
    try {
      assert.deepEqual(got, want, what)
      return
    } catch (error) {
      if (performance.now() > end) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}
