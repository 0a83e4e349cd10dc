import type { Register } from '../cli.ts'
import { formatTime, table } from '../format.ts'
import { helpCommand } from '../program.ts'

const EXAMPLES = `
A key only ever opens the keys inside a repository; any number of keys can open the same one.
Keep a copy of every key away from this machine: without a key nobody can read the backups, you included.

Examples:
  regain key list shop
  regain key add shop second      second is a name under keys: in regain.yaml; a key file that is missing is made
  regain key export shop > paper  the key itself, for recovery without Regain. Who has it can read the backups.`

export const register: Register = (program, run) => {
  const key = program
    .command('key')
    .helpGroup('Keys and repositories:')
    .description('the keys that open a repository')
    .addHelpCommand(helpCommand())
    .addHelpText('after', EXAMPLES)

  key
    .command('list')
    .description("list the keys that open a service's repositories")
    .argument('<service>', 'the service')
    .action((service: string) =>
      run(async (session) => {
        const application = await session.application()
        const { listKeys } = await import('../../operations/key.ts')
        const keys = await listKeys(application, service)
        const columns = [
          { title: 'KEY' },
          { title: 'TYPE' },
          { title: 'LABEL' },
          { title: 'ADDED' },
          { title: 'DESTINATION' },
        ]
        const rows = keys.map((listed) => [
          listed.kek,
          listed.type,
          listed.label,
          formatTime(listed.addedAt),
          listed.destination,
        ])
        for (const line of table(columns, rows)) session.output.line(line)
        session.output.result({ operation: 'key-list', keys })
        return 0
      }),
    )

  key
    .command('add')
    .description("let another key open a service's repositories too")
    .argument('<service>', 'the service')
    .argument('<key>', 'its name under keys: in the configuration')
    .action((service: string, name: string) =>
      run(async (session) => {
        const application = await session.application()
        const { addKey } = await import('../../operations/key.ts')
        const added = await addKey(application, service, name)
        const { output } = session
        output.say(`The key ${name} now opens ${service} too, at ${added.destinations.join(', ')}.`)
        if (added.isNew) output.say('It was made now. Keep a copy of it elsewhere.')
        output.result({ operation: 'key-add', ...added })
        return 0
      }),
    )

  key
    .command('export')
    .description('print the key itself, for recovery without Regain')
    .argument('<service>', 'the service')
    .action((service: string) =>
      run(async (session) => {
        const application = await session.application()
        const { exportKey } = await import('../../operations/key.ts')
        const exported = await exportKey(application, service)
        session.output.line(exported.key)
        session.output.say('This is the key itself: who has it and the repository can read the backups.')
        session.output.result({ operation: 'key-export', ...exported })
        return 0
      }),
    )

  key
    .command('rotate')
    .description('not available in this version')
    .argument('<service>', 'the service')
    .action(() =>
      run(async () => {
        const { rotateKey } = await import('../../operations/key.ts')
        return rotateKey()
      }),
    )
}
