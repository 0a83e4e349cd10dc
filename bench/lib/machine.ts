import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { execute } from './run.ts'

/** The machine, without anything that names it or its places. */
export async function describeMachine(directory: string): Promise<string[]> {
  return [
    `${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB of memory`,
    `${await system()}, kernel ${release()}, Node ${process.version}`,
    `data on ${await fileSystemOf(directory)}, page cache warm`,
  ]
}

async function system(): Promise<string> {
  const text = readFileSync('/etc/os-release', 'utf8')
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? 'Linux'
}

async function fileSystemOf(directory: string): Promise<string> {
  return (await execute({ argv: ['stat', '-f', '-c', '%T', directory] })).trim()
}
