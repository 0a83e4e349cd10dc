import { readFileSync } from 'node:fs'
import { FORMAT_TEXT, RECOVERY_PROGRAM } from './object-names.ts'

/** The two files that every repository carries in clear, so that a stranger with the key needs nothing else. */
export function companions(): Record<string, Buffer> {
  return {
    [FORMAT_TEXT]: readFileSync(new URL('./companions/FORMAT.txt', import.meta.url)),
    [RECOVERY_PROGRAM]: readFileSync(new URL('./companions/recover.py', import.meta.url)),
  }
}
