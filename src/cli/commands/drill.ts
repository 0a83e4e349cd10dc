import type { Register } from '../cli.ts'

export const register: Register = (program, run) => {
  program
    .command('drill')
    .helpGroup('Getting data back:')
    .description('not available in this version: rehearse with regain restore --start')
    .argument('<service>', 'the service')
    .action(() =>
      run(async () => {
        const { drill } = await import('../../operations/repository.ts')
        return drill()
      }),
    )
}
