import type { Entry } from '../../model.ts'
import type { Register } from '../cli.ts'
import { formatTime, printable } from '../format.ts'

const TYPE_LETTERS: Record<Entry['type'], string> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
}

const EXAMPLES = `
POINT is an id or enough of it, SERVICE/SOURCE for its newest point, or SERVICE/SOURCE@WHEN.

Examples:
  regain ls shop/files
  regain ls 1f3a9c2e invoices/2026 --recursive
  regain ls shop/files@2026-11-20T14:59:59Z`

export const register: Register = (program, run) => {
  program
    .command('ls')
    .helpGroup('Getting data back:')
    .description('list what a point holds')
    .argument('<point>', 'the point')
    .argument('[path]', 'a directory or file in it', '')
    .option('-r, --recursive', 'directories below it too')
    .addHelpText('after', EXAMPLES)
    .action((point: string, path: string, options: { recursive?: boolean }) =>
      run(async (session) => {
        const application = await session.application()
        const { listEntries } = await import('../../operations/ls.ts')
        const { output } = session
        let entries = 0
        const request = { point, path, recursive: options.recursive === true }
        const found = await listEntries(application, request, session.reporting, (entry) => {
          entries++
          output.line(entryLine(entry))
          output.item('entry', { entry })
          return !output.isClosed
        })
        output.result({ operation: 'ls', point: found.point.id, entries })
        return 0
      }),
    )
}

function entryLine(entry: Entry): string {
  const size = entry.size ?? (entry.major === undefined ? 0 : `${entry.major},${entry.minor}`)
  const owner = `${entry.owner ?? entry.uid}:${entry.group ?? entry.gid}`
  const time = formatTime(new Date(Number(BigInt(entry.mtime) / 1_000_000n)).toISOString())
  const link = entry.target === undefined ? '' : ` -> ${printable(entry.target)}`
  const damaged = entry.damaged === undefined ? '' : `  DAMAGED: ${printable(entry.damaged)}`
  return `${TYPE_LETTERS[entry.type]}${permissions(entry.mode)} ${owner.padEnd(17)} ${String(size).padStart(12)} ${time} ${printable(entry.path)}${link}${damaged}`
}

/** 'rwxr-sr-t' of permission bits. */
function permissions(mode: number): string {
  const triple = (shift: number, special: number, letter: string) => {
    const bits = (mode >> shift) & 7
    const isSpecial = (mode & special) !== 0
    const execute = bits & 1 ? (isSpecial ? letter : 'x') : isSpecial ? letter.toUpperCase() : '-'
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${execute}`
  }
  return triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't')
}
