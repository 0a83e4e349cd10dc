import type { Register } from '../cli.ts'

const EXAMPLES = `
Starts an embedded PostgreSQL with generated business data and steady orders, protects it together with a folder of
files, drops a table by accident, deletes everything, recovers to the second before the accident and then to the end,
and compares every row, every acknowledged commit and every file. Needs no PostgreSQL, no configuration, no root.

Examples:
  regain demo
  regain demo --size 100                a smaller shop
  regain demo --dir /mnt/fast/demo      elsewhere than in the temporary folder
  regain demo --keep                    leaves all of it running, with the commands to explore it`

export const register: Register = (program, run) => {
  program
    .command('demo')
    .helpGroup('Setting up:')
    .description('see it work: protect, destroy and recover a real database')
    .option('--keep', 'leave it running, to explore')
    .option('--dir <dir>', 'where it happens: an empty or new directory')
    .option('--size <megabytes>', 'size of the database, about', '500')
    .addHelpText('after', EXAMPLES)
    .action((options: { keep?: boolean; dir?: string; size: string }) =>
      run(async (session) => {
        const { host, output, signal } = session
        const { runDemo } = await import('../../demo/demo.ts')
        const report = await runDemo(
          { directory: options.dir, keep: options.keep === true, sizeMegabytes: Number(options.size) },
          {
            version: host.version,
            ambient: { ...host.ambient, log: output.log },
            environment: host.environment,
            regain: [host.launcher],
            isRoot: host.userId === 0,
            signal,
            say: output.say,
          },
        )
        output.result({ operation: 'demo', ...report })
        return report.passed ? 0 : 4
      }),
    )
}
