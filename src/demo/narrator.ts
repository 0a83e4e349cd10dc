import type { StoryLine } from './report.ts'

/** Tells the story as it happens, with the seconds since its beginning, and remembers it for the report. */
export class Narrator {
  readonly lines: StoryLine[] = []
  readonly #say: (line: string) => void
  readonly #now: () => number
  readonly #startedAt: number

  constructor(say: (line: string) => void, now: () => number) {
    this.#say = say
    this.#now = now
    this.#startedAt = now()
  }

  get elapsedMs(): number {
    return Math.max(0, this.#now() - this.#startedAt)
  }

  /** A new scene. */
  scene(title: string): void {
    this.#say('')
    this.#tell('scene', title)
  }

  tell(text: string): void {
    this.#tell('text', text)
  }

  /** A command as one would type it. */
  command(text: string): void {
    this.#tell('command', text)
  }

  #tell(kind: StoryLine['kind'], text: string): void {
    const atMs = this.elapsedMs
    this.lines.push({ atMs, kind, text })
    const clock = `${(atMs / 1000).toFixed(1).padStart(5)} s`
    if (kind === 'scene') this.#say(`${clock}  ${text}`)
    else this.#say(`         ${kind === 'command' ? `$ ${text}` : text}`)
  }
}
