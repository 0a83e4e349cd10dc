import { RegainError } from '../../errors.ts'
import type { RemovedKey } from '../../operations/key.ts'
import type { Register } from '../cli.ts'
import { formatTime, table } from '../format.ts'
import type { Host } from '../host.ts'
import type { Output } from '../output.ts'
import { firstExample, helpCommand } from '../program.ts'
import { tenantTarget } from '../tenant-target.ts'

const EXAMPLES = `
A key only ever opens the keys inside a repository; any number of keys can open the same one.
Keep a copy of every key away from this machine: without a key nobody can read the backups, you included.

Examples:
  regain key list shop
  regain key add shop second      second is a name under keys: in regain.yaml; a key file that is missing is made
  regain key rotate shop second   second takes the place of the key in use, which opens the backups no longer
  regain key remove shop 6ff04eca takes a key out, by the first digits of its name or by its label
  regain key export shop --printable | lpr     the key for the safe: short lines with checks, to be typed in again
  regain key import found.key     makes a key file of a key that is typed in as it was printed (end with Ctrl-D)

Who kept a removed key and an old copy of the repository can still read that copy, and whatever is sealed later under the
same data key if they saved that: regain repository rekey ends it.`

export const register: Register = (program, run) => {
  const key = program
    .command('key')
    .helpGroup('Keys and repositories:')
    .description('the keys that open a repository')
    .addHelpCommand(helpCommand())
    .addHelpText('after', EXAMPLES)
  firstExample(key, 'regain key list shop')

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
    .command('rotate')
    .description('put another key in the place of the one that a service is opened with')
    .argument('<service>', 'the service')
    .argument('<key>', 'name under keys: of the new key; a key file that is missing is made')
    .action((service: string, name: string) =>
      run(async (session) => {
        const application = await session.application()
        const { rotateKey } = await import('../../operations/key.ts')
        const rotated = await rotateKey(application, service, name)
        const { output } = session
        output.say(`The key ${name} now opens ${service}, at ${rotated.destinations.join(', ')}.`)
        if (rotated.isNew) output.say('It was made now. Keep a copy of it elsewhere.')
        sayRemoved(output, rotated)
        output.say(`Now write  key: ${name}  for ${service} in ${application.config.path}: nothing opens it otherwise.`)
        output.result({ operation: 'key-rotate', ...rotated })
        return rotated.locked.length === 0 ? 0 : 3
      }),
    )

  key
    .command('remove')
    .description("let a key open a service's repositories no longer")
    .argument('<service>', 'the service')
    .argument('<which>', 'the first digits of its name, or its label, as regain key list shows them')
    .action((service: string, which: string) =>
      run(async (session) => {
        const application = await session.application()
        const { removeKey } = await import('../../operations/key.ts')
        const outcome = await removeKey(application, service, which)
        sayRemoved(session.output, outcome)
        session.output.result({ operation: 'key-remove', ...outcome })
        return outcome.locked.length === 0 ? 0 : 3
      }),
    )

  key
    .command('export')
    .description('print the key itself, as 64 hex digits: for recovery without Regain, and for key import')
    .argument('<service>', 'the service')
    .option('--printable', 'in short lines with checks, for paper')
    .action((service: string, flags: { printable?: boolean }) =>
      run(async (session) => {
        const application = await session.application()
        const { exportKey } = await import('../../operations/key.ts')
        const exported = await exportKey(application, service)
        session.output.line(flags.printable ? exported.printable.trimEnd() : exported.key)
        session.output.say('This is the key itself: who has it and the repository can read the backups.')
        session.output.result({ operation: 'key-export', ...exported })
        return 0
      }),
    )

  key
    .command('import')
    .description('make a key file of what key export printed, typed or piped in, or of the text of a key file')
    .argument('<file>', 'the key file to make, in a folder that is there; never over another')
    .action((file: string) =>
      run(async (session) => {
        const { importKey } = await import('../../operations/key.ts')
        if (session.host.stdin.isTTY) session.output.say('Type the key, line by line, and end with Ctrl-D:')
        await importKey(session.host, file, await readText(session.host))
        session.output.say(
          `The key is in ${file} now. See whether it opens the backups: name it under keys:, then regain points`,
        )
        session.output.result({ operation: 'key-import', file })
        return 0
      }),
    )

  key
    .command('destroy')
    .description("make a service's backups unreadable for ever, by destroying their data keys")
    .argument('<service>', 'the service')
    .requiredOption('--yes-destroy-all-data <service>', 'the name of the service, or of the tenant, once more')
    .option('--tenant <name>', 'only those of this tenant; <service> is then SERVICE/SOURCE')
    .action((named: string, flags: { yesDestroyAllData: string; tenant?: string }) =>
      run(async (session) => {
        const { yesDestroyAllData: again, tenant } = flags
        if (tenant !== undefined && again !== tenant)
          throw new RegainError('usage', `The tenant's name must be given twice, and "${again}" is not ${tenant}.`)
        const target = await tenantTarget(session, named, tenant)
        const service = tenant === undefined ? target : target.split('/')[0]!
        const application = await session.application()
        const { destroyKeys } = await import('../../operations/key.ts')
        const outcome = await destroyKeys(application, service, tenant === undefined ? again : service)
        const { output } = session
        for (const { destination, objects, proof } of outcome.destroyed) {
          output.say(`${destination}: ${objects.length} wrapped keys were removed.`)
          for (const name of objects) output.say(`  ${name}`)
          output.say(`  Proof, from an attempt to open it with the key that opened it before: ${proof}`)
        }
        output.say(
          'What is left is noise, except to whoever kept a copy of the objects above: other copies of the repository, ' +
            'old versions in a bucket and snapshots of its disk must go as well, or their object lock must run out.',
        )
        output.result({ operation: 'key-destroy', ...outcome })
        return 0
      }),
    )
}

function sayRemoved(output: Output, { removed, locked }: Pick<RemovedKey, 'removed' | 'locked'>): void {
  for (const { destination, kek, label } of locked)
    output.warn(
      `The key ${kek} (${label}) still opens the repository at ${destination}, which keeps its object from being removed: ` +
        'give the command again when that lock has ended.',
    )
  for (const { destination, kek, label } of removed)
    output.say(`The key ${kek} (${label}) does not open the repository at ${destination} any more.`)
  if (removed.length > 0)
    output.say(
      'Whoever kept that key together with an old copy of the repository, or the data key itself, can still read: ' +
        'if it may have leaked, run regain repository rekey.',
    )
}

/** Far more than a key with its comments. */
const MAXIMUM_TEXT = 64 * 1024

async function readText({ stdin }: Host): Promise<string> {
  let text = ''
  for await (const piece of stdin) {
    text += String(piece)
    if (text.length > MAXIMUM_TEXT)
      throw new RegainError('usage', 'What was given is far too large to be a key. No key file was made.')
  }
  return text
}
