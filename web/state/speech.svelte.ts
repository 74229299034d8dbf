/** How much of an answer is said to screen readers while it comes: a choice kept in this browser. */
export const speeches = ['sentences', 'ends', 'off'] as const
export type SpeechChoice = (typeof speeches)[number]

const key = 'parley.speech'

export class Speech {
  choice: SpeechChoice = $state(speeches.find(one => one === localStorage.getItem(key)) ?? 'sentences')

  choose(choice: SpeechChoice): void {
    this.choice = choice
    localStorage.setItem(key, choice)
  }
}
