import type { Register } from '../cli.ts'

const EXAMPLES = `
POINT is an id or enough of it, SERVICE/SOURCE for its newest point, or SERVICE/SOURCE@WHEN.

Examples:
  regain cat shop/files etc/app.toml
  regain cat 1f3a9c2e photos/cat.jpg > cat.jpg`

export const register: Register = (program, run) => {
  program
    .command('cat')
    .helpGroup('Getting data back:')
    .description("write a file's content to standard output")
    .argument('<point>', 'the point')
    .argument('<path>', 'the file')
    .addHelpText('after', EXAMPLES)
    .action((point: string, path: string) =>
      run(async (session) => {
        const application = await session.application()
        const { readContent } = await import('../../operations/cat.ts')
        const { output } = session
        await readContent(application, { point, path }, session.reporting, async (bytes) => {
          await output.bytes(bytes)
          return !output.isClosed
        })
        return 0
      }),
    )
}
