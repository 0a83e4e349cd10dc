import type { Register } from '../cli.ts'
import { helpCommand } from '../program.ts'
import { tellVerified } from './verify.ts'

const EXAMPLES = `
Examples:
  regain repository init          make the repositories that the configuration names and that are missing
  regain repository check shop    every object that points and logs need is there with its right size`

export const register: Register = (program, run) => {
  const repository = program
    .command('repository')
    .helpGroup('Keys and repositories:')
    .description('where the data of a service is kept')
    .addHelpCommand(helpCommand())
    .addHelpText('after', EXAMPLES)

  repository
    .command('init')
    .description('make what is missing')
    .argument('[service]', 'one service; all if left out')
    .action((service: string | undefined) =>
      run(async (session) => {
        const application = await session.application()
        const { initRepositories } = await import('../../operations/repository.ts')
        const repositories = await initRepositories(application, service)
        for (const { service: name, destination, isNew } of repositories) {
          session.output.say(`${name} at ${destination}: ${isNew ? 'made' : 'was there already'}`)
        }
        session.output.result({ operation: 'repository-init', repositories })
        return 0
      }),
    )

  repository
    .command('check')
    .description('check the structure of repositories; contents are checked by regain verify --read-data')
    .argument('[service]', 'one service; all if left out')
    .action((service: string | undefined) =>
      run(async (session) => {
        const application = await session.application()
        const { checkRepositories } = await import('../../operations/repository.ts')
        const outcomes = await checkRepositories(application, service, session.reporting, (outcome) =>
          tellVerified(session, outcome, 'repository-check'),
        )
        return outcomes.every(({ problems }) => problems.length === 0) ? 0 : 4
      }),
    )

  for (const name of ['repair', 'rekey'] as const) {
    repository
      .command(name)
      .description('not available in this version')
      .argument('[service]', 'one service; all if left out')
      .action(() =>
        run(async () => {
          const { repairRepository, rekeyRepository } = await import('../../operations/repository.ts')
          return name === 'repair' ? repairRepository() : rekeyRepository()
        }),
      )
  }
}
