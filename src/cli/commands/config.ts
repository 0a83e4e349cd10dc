import type { Register } from '../cli.ts'
import { count } from '../format.ts'
import { firstExample, helpCommand } from '../program.ts'

const EXAMPLES = `
Examples:
  regain config check                   every mistake with its line and column; exit 2 if there is one
  regain config show                    what is in effect, defaults filled in, secrets masked
  regain config schema > regain.schema.json
                                        for editors; then begin regain.yaml with
                                        # yaml-language-server: $schema=regain.schema.json`

export const register: Register = (program, run) => {
  const config = program
    .command('config')
    .helpGroup('Setting up:')
    .description('check, show or describe the configuration')
    .addHelpCommand(helpCommand())
    .addHelpText('after', EXAMPLES)
  firstExample(config, 'regain config check')

  config
    .command('check')
    .description('read the configuration and say what is wrong or not acted on')
    .action(() =>
      run(async (session) => {
        const { config, drivers } = await session.application()
        const { output } = session
        const { checkConfiguration } = await import('../../operations/check-configuration.ts')
        const report = await checkConfiguration(config, drivers)
        for (const note of report.warnings) output.warn(`${note.place}: ${note.message}`)
        output.say(`${report.path} is valid: ${count(report.services, 'service')}, ${count(report.sources, 'source')}.`)
        output.result({ operation: 'config-check', ...report })
        return 0
      }),
    )

  config
    .command('show')
    .description('print what is in effect, secrets masked, as YAML')
    .action(() =>
      run(async (session) => {
        const { config } = await session.application()
        const { shownText } = await import('../../config/show.ts')
        session.output.line(shownText(config.shown))
        session.output.result({ operation: 'config-show', path: config.path, configuration: config.shown })
        return 0
      }),
    )

  config
    .command('schema')
    .description('print the JSON Schema of regain.yaml')
    .action(() =>
      run(async ({ output }) => {
        const { configurationJsonSchema } = await import('../../config/json-schema.ts')
        const schema = configurationJsonSchema()
        output.line(JSON.stringify(schema, null, 2))
        output.result({ operation: 'config-schema', schema })
        return 0
      }),
    )
}
