import type { Register } from './cli.ts'

type Load = () => Promise<{ register: Register }>

/** Every command, in the order of the help. A start loads only the one that is asked for. */
export const COMMANDS = {
  demo: () => import('./commands/demo.ts'),
  init: () => import('./commands/init.ts'),
  check: () => import('./commands/check.ts'),
  serve: () => import('./commands/serve.ts'),
  backup: () => import('./commands/backup.ts'),
  tenants: () => import('./commands/tenants.ts'),
  points: () => import('./commands/points.ts'),
  restore: () => import('./commands/restore.ts'),
  verify: () => import('./commands/verify.ts'),
  drill: () => import('./commands/drill.ts'),
  prune: () => import('./commands/prune.ts'),
  hold: () => import('./commands/hold.ts'),
  replicate: () => import('./commands/replicate.ts'),
  ls: () => import('./commands/ls.ts'),
  cat: () => import('./commands/cat.ts'),
  diff: () => import('./commands/diff.ts'),
  key: () => import('./commands/key.ts'),
  repository: () => import('./commands/repository.ts'),
  config: () => import('./commands/config.ts'),
  completion: () => import('./commands/completion.ts'),
  log: () => import('./commands/log.ts'),
  wal: () => import('./commands/wal.ts'),
} as const satisfies Record<string, Load>

export type CommandName = keyof typeof COMMANDS
