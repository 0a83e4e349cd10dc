import type { Register } from '../cli.ts'

export const register: Register = (program, run) => {
  program
    .command('prune')
    .helpGroup('Every day:')
    .description('not available in this version: every point is kept')
    .argument('[service]', 'one service; all if left out')
    .option('--dry-run', 'print the plan and do nothing')
    .action(() =>
      run(async () => {
        const { prune } = await import('../../operations/repository.ts')
        return prune()
      }),
    )
}
