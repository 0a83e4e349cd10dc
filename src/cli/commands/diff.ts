import type { Difference } from '../../operations/diff.ts'
import type { Register } from '../cli.ts'
import { count, formatBytes, printable } from '../format.ts'

const LETTERS: Record<Difference['change'], string> = { added: '+', removed: '-', content: 'M', attributes: 'a' }

const EXAMPLES = `
One line for each path: + added, - removed, M content changed, a only attributes changed.
POINT is an id or enough of it, SERVICE/SOURCE for its newest point, or SERVICE/SOURCE@WHEN.

Examples:
  regain diff 1f3a9c2e shop/files
  regain diff shop/files@2026-11-19T00:00:00Z shop/files`

export const register: Register = (program, run) => {
  program
    .command('diff')
    .helpGroup('Getting data back:')
    .description('show what changed between two points')
    .argument('<point>', 'the earlier point')
    .argument('<other>', 'the later point')
    .addHelpText('after', EXAMPLES)
    .action((from: string, to: string) =>
      run(async (session) => {
        const application = await session.application()
        const { diffPoints } = await import('../../operations/diff.ts')
        const { output } = session
        const changes = { added: 0, removed: 0, content: 0, attributes: 0 }
        await diffPoints(application, { from, to }, session.reporting, (difference) => {
          changes[difference.change]++
          output.line(differenceLine(difference))
          output.item('difference', difference)
          return !output.isClosed
        })
        output.say(
          `${count(changes.added, 'path')} added, ${changes.removed} removed, ${changes.content} with other content, ${changes.attributes} with other attributes`,
        )
        output.result({ operation: 'diff', ...changes })
        return 0
      }),
    )
}

function differenceLine({ change, path, entryType, sizeBefore, sizeAfter }: Difference): string {
  const folder = entryType === 'directory' ? '/' : ''
  const sizes =
    change === 'content' && sizeBefore !== sizeAfter && sizeBefore !== null && sizeAfter !== null
      ? `  (${formatBytes(sizeBefore)} to ${formatBytes(sizeAfter)})`
      : ''
  return `${LETTERS[change]} ${printable(path)}${folder}${sizes}`
}
