import type { Register } from '../cli.ts'

const EXAMPLES = `
Examples:
  regain completion bash > /etc/bash_completion.d/regain        or: eval "$(regain completion bash)" in ~/.bashrc
  regain completion zsh > "\${fpath[1]}/_regain"
  regain completion fish > ~/.config/fish/completions/regain.fish`

export const register: Register = (program, run) => {
  const completion = program
    .command('completion')
    .helpGroup('Setting up:')
    .description('print a completion script for a shell')
    .addHelpText('after', EXAMPLES)
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    completion
      .command(shell)
      .description(`for ${shell}`)
      .action(() =>
        run(async (session) => {
          const { completionScript } = await import('../completion.ts')
          const script = completionScript(shell, await session.wholeProgram())
          session.output.line(script.trimEnd())
          session.output.result({ operation: 'completion', shell, script })
          return 0
        }),
      )
  }
}
