import type { CheckFinding } from '../../operations/check.ts'
import type { Register, Session } from '../cli.ts'
import { count } from '../format.ts'

const SIGNS = { ok: 'ok      ', warning: 'WARNING ', error: 'ERROR   ' } as const

const EXAMPLES = `
Looks at keys, destinations and sources, and names a fix for each finding. Changes nothing.
Exit status 6 if anything would keep a backup or its restore from working.

Examples:
  regain check
  regain check shop/db`

export const register: Register = (program, run) => {
  program
    .command('check')
    .helpGroup('Setting up:')
    .description('find out whether backups and restores will work')
    .argument('[service[/source]]', 'what to check; everything if left out')
    .addHelpText('after', EXAMPLES)
    .action((target: string | undefined) =>
      run(async (session) => {
        const application = await session.application()
        const { check } = await import('../../operations/check.ts')
        const findings = await check(application, { target }, session.reporting, (finding) => tell(session, finding))
        const errors = findings.filter(({ severity }) => severity === 'error').length
        const warnings = findings.filter(({ severity }) => severity === 'warning').length
        session.output.say(
          errors === 0
            ? `Backups and restores should work${warnings === 0 ? '.' : `; ${count(warnings, 'warning')}.`}`
            : `${count(errors, 'problem')} will keep backups or restores from working, ${count(warnings, 'warning')}.`,
        )
        session.output.result({ operation: 'check', errors, warnings, findings })
        return errors === 0 ? 0 : 6
      }),
    )
}

function tell({ output }: Session, finding: CheckFinding): void {
  const { service, source, destination, severity, message, fix } = finding
  const about =
    source !== undefined ? `${service}/${source}` : destination !== undefined ? `${service} at ${destination}` : service
  output.line(`${SIGNS[severity]}${about}: ${message}`)
  if (fix !== undefined && severity !== 'ok') output.line(`        fix: ${fix}`)
}
