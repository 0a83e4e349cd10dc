import type { Register } from '../cli.ts'
import { formatTime, table } from '../format.ts'
import { pointShape } from '../shapes.ts'

const EXAMPLES = `
A tenant's points are in a repository of its own, which all commands know by the NAME that is shown here, in the place of a
service. Who it is stands in that repository alone: when its keys are destroyed, nobody can tell any more.

Examples:
  regain tenants shop
  regain restore shop/accounts --tenant acme --to /srv/acme
  regain key destroy shop/accounts --tenant acme --yes-destroy-all-data acme
  regain verify shop.accounts.0a1b2c3d4e5f60718293a4b5 --read-data`

export const register: Register = (program, run) => {
  program
    .command('tenants')
    .helpGroup('Every day:')
    .description('list the tenants that have points of their own')
    .argument('<service[/source]>', 'what to list them of')
    .option('--destination <name>', 'look at this destination only')
    .addHelpText('after', EXAMPLES)
    .action((target: string, options: { destination?: string }) =>
      run(async (session) => {
        const application = await session.application()
        const { listTenants } = await import('../../operations/tenants.ts')
        const { output } = session
        const tenants = await listTenants(application, target, options.destination, session.reporting)
        const columns = [
          { title: 'TENANT' },
          { title: 'NAME' },
          { title: 'POINTS', align: 'right' as const },
          { title: 'NEWEST' },
          { title: 'DESTINATION' },
        ]
        const rows = tenants.map((one) => [
          one.tenant ?? `(${one.state.replaceAll('-', ' ')})`,
          one.name,
          String(one.points),
          one.newest === null ? '' : formatTime(one.newest.committedAt),
          one.destination,
        ])
        for (const line of table(columns, rows)) output.line(line)
        for (const { state, detail } of tenants) if (state === 'unreadable' && detail !== null) output.warn(detail)
        const shaped = tenants.map((one) => ({ ...one, newest: one.newest === null ? null : pointShape(one.newest) }))
        output.result({ operation: 'tenants', tenants: shaped })
        return tenants.some(({ state }) => state === 'unreadable') ? 3 : 0
      }),
    )
}
