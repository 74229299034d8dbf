/** What counts as a call of the assistant in a text, for the engine that starts a turn and the gateway that counts it. */

const mention = /(?<![\p{L}\p{M}\p{N}_])@assistant(?![\p{L}\p{M}\p{N}_])/iu

/** Case does not matter, a longer word does not count. */
export function mentionsAssistant(content: string): boolean {
  return mention.test(content)
}
