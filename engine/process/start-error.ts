/** A start that cannot succeed as things are: one sentence for people that names the setting. Never carries a stack to them. */
export class StartError extends Error {
  override name = 'StartError'
  readonly exitCode: number

  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}
