import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCli } from './cli/cli.ts'
import type { Host } from './cli/host.ts'
import type { Drivers } from './operations/context.ts'

/**
 * The composition root: the one file that reads the clock, the environment and global randomness, and that knows every
 * driver. A driver's code is loaded when it is first needed, which keeps every other start fast.
 */
export const drivers: Drivers = {
  async createStorage(destination, service, ambient) {
    const { createLocalStorage } = await import('./storage/local.ts')
    return createLocalStorage(join(destination.path, service), ambient)
  },
  async openStorage(destination, service, ambient) {
    const { openLocalStorage } = await import('./storage/local.ts')
    return openLocalStorage(join(destination.path, service), ambient)
  },
}

const home = join(import.meta.dirname, '..')

if (import.meta.main) {
  // Whatever escapes every handler is a bug: it is told as one, and never looks like success.
  process.on('unhandledRejection', (reason) => {
    throw reason
  })
  process.exitCode = await runCli(process.argv.slice(2), hostOfThisProcess())
}

function hostOfThisProcess(): Host {
  return {
    version: (JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as { version: string }).version,
    ambient: { now: Date.now, randomBytes },
    environment: process.env,
    drivers,
    launcher: join(home, 'regain'),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: interruption(),
    processId: process.pid,
    userId: process.getuid?.() ?? null,
  }
}

/** Fires at the first signal, so that everything ends cleanly; the second one ends the process at once. */
function interruption(): AbortSignal {
  const controller = new AbortController()
  const interrupt = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort(new Error(name))
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt)
  return controller.signal
}
