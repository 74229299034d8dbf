/** A generator with its sockets open at one subject, and the CPU that the subject spends meanwhile. Owns the generator's process. */
import { type ChildProcess, fork } from 'node:child_process'
import path from 'node:path'
import { ask } from './ask.ts'
import type { FromGenerator, Measured, ToGenerator } from './generator.ts'
import type { Subject } from './subjects.ts'
import type { Sender } from './wires.ts'

export type Cpu = Record<string, number>

export class Load {
  readonly #child: ChildProcess
  readonly #subject: Pick<Subject, 'cpu'>
  private constructor(subject: Pick<Subject, 'cpu'>) {
    this.#subject = subject
    this.#child = fork(path.join(import.meta.dirname, 'generator.ts'), [], { stdio: 'inherit' })
  }

  static async open(subject: Pick<Subject, 'cpu' | 'name' | 'url'>, senders: Sender[]): Promise<Load> {
    const load = new Load(subject)
    const order: ToGenerator = { kind: 'open', wire: subject.name, url: subject.url, senders }
    await ask<FromGenerator, 'open'>(load.#child, order, 'open')
    return load
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** With CPU per send, µs: of all components together, and by component. */
  async measure(
    order: Extract<ToGenerator, { kind: 'step' | 'closed' }>,
  ): Promise<Measured & { cpuUs: number; parts: Cpu }> {
    const before = this.#subject.cpu()
    const measured = await ask<FromGenerator, 'measured'>(this.#child, order, 'measured')
    const after = this.#subject.cpu()
    const sends = Math.max(1, measured.sends)
    const parts = Object.fromEntries(
      Object.entries(after).map(([name, ms]) => [name, ((ms - (before[name] ?? 0)) * 1000) / sends]),
    )
    return { ...measured, parts, cpuUs: Object.values(parts).reduce((a, b) => a + b, 0) }
  }

  end(): Promise<void> {
    return new Promise(resolve => {
      this.#child.once('exit', () => resolve())
      this.#child.send({ kind: 'end' } satisfies ToGenerator)
    })
  }
}
