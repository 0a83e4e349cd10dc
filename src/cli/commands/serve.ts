import type { Register } from '../cli.ts'

const EXAMPLES = `
Runs until it is asked to end (SIGTERM, Ctrl-C), which takes seconds and leaves nothing half-done. SIGHUP reads the
configuration again. One daemon for each state directory; no other command needs it.
It logs to standard error, one line each; with --json each line is a JSON object.

Examples:
  regain serve
  regain --config /etc/regain/regain.yaml --json serve 2>> /var/log/regain.log`

export const register: Register = (program, run) => {
  program
    .command('serve')
    .helpGroup('Every day:')
    .description('follow the logs and run the schedules')
    .addHelpText('after', EXAMPLES)
    .action(() =>
      run(async (session) => {
        const { host, output, signal } = session
        const { startDaemon } = await import('../../daemon/start.ts')
        await startDaemon({
          version: host.version,
          processId: host.processId,
          ambient: host.ambient,
          environment: host.environment,
          load: session.application,
          stop: signal,
          onHangUp: host.onHangUp,
          writeLog: (line) => host.stderr.write(`${line}\n`),
          json: output.isJson,
        })
        output.result({ operation: 'serve' })
        return 0
      }),
    )
}
