import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { isRegainError } from '../../src/errors.ts'
import { openKeyFile } from '../../src/keys/file.ts'
import { openLocalStorage } from '../../src/storage/local.ts'
import { backUp, openTestRepository, restore } from '../support/repository.ts'

/** Interrupts a backup and a restore and does nothing else: the process must then end by itself (interrupt.test.ts). */
const [folder = '', keyFile = '', point = '', closing = ''] = process.argv.slice(2)

const storage = await openLocalStorage(join(folder, 'store'))
const repository = await openTestRepository(storage, await openKeyFile(keyFile))
await interrupted((signal, progress) =>
  backUp(repository, join(folder, 'tree'), { kind: 'full', source: 'new', signal, progress }),
)
await interrupted((signal) => restore(repository, point, signal))
if (closing === 'close') {
  await repository.close()
  await storage.close()
  const left = readdirSync('/proc/self/fd')
    .map(target)
    .filter((path) => path.startsWith(folder))
  if (left.length > 0) throw new Error(`handles left open: ${left}`)
}
process.stdout.write('the last line')

async function interrupted(work: (signal: AbortSignal, progress: () => void) => Promise<unknown>): Promise<void> {
  const controller = new AbortController()
  setTimeout(() => controller.abort(), 30)
  try {
    await work(controller.signal, () => controller.abort())
  } catch (error) {
    if (isRegainError(error, 'interrupted')) return
    throw error
  }
}

function target(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return '' // The handle of the listing itself.
  }
}
