import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RUN_PREFIX } from '../sources/postgres/server/run-directory.ts'
import type { Stage } from './stage.ts'

/** A recovered shop that is left running. */
export interface KeptShop {
  title: string
  /** With the password: the server listens on loopback only, and holds nothing but the demo. */
  url: string
  /** Data directory. */
  data: string
}

/** Tells how to look at what was left running, and leaves a script that ends it. */
export async function tellHowToExplore(
  say: (line: string) => void,
  stage: Stage,
  regain: readonly string[],
  shops: readonly KeptShop[],
): Promise<void> {
  const end = join(stage.directory, 'end-demo')
  await writeFile(end, await endScript(stage.directory, shops), { mode: 0o755 })
  const state = `XDG_STATE_HOME=${quote(join(stage.directory, 'state'))}`
  say('')
  say('It is left running. Look around:')
  say(`  cd ${quote(stage.directory)}`)
  for (const { title, url } of shops) {
    say(`  # ${title}`)
    say(`  psql ${quote(url)}`)
  }
  say(`  ${state} ${regain.map(quote).join(' ')} points shop`)
  say(`  ${state} ${regain.map(quote).join(' ')} restore shop/files --to again`)
  say(`End it, and remove everything: ${quote(end)}`)
}

async function endScript(directory: string, shops: readonly KeptShop[]): Promise<string> {
  const stops: string[] = []
  for (const { data } of shops) {
    const [pid = '', , , , sockets = ''] = (await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')
    // Its process id may belong to somebody else by the time this runs: ask its directory's own file again.
    stops.push(
      `[ "$(head -n 1 ${quote(join(data, 'postmaster.pid'))} 2>/dev/null)" = ${quote(pid)} ] && kill -INT ${quote(pid)}`,
      `while [ -e ${quote(join(data, 'postmaster.pid'))} ]; do sleep 0.2; done`,
      // The folder of its socket and log is its own; the socket's folder lies inside.
      ...(sockets.includes(`/${RUN_PREFIX}`) ? [`rm -rf ${quote(join(sockets, '..'))}`] : []),
    )
  }
  stops.push(`rm -rf ${quote(directory)}`)
  return `#!/bin/sh\n# Ends what regain demo --keep left running, and removes it.\n${stops.join('\n')}\n`
}

function quote(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
