import { isRegainError, RegainError } from '../../../errors.ts'
import type { Entry } from '../../../model.ts'
import type { PointReader } from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { loadDatabases } from '../search/load-catalog.ts'
import type { PointFiles } from '../search/point-files.ts'

/** Below it are the databases that initdb makes: templates, postgres (FirstNormalObjectId, src/include/access/transam.h). */
const FIRST_NORMAL_OID = 16384

/** What is laid out without its content, and whose that is. */
export interface LeftOut {
  databases: string[]
  oids: number[]
  hollow(entry: Entry): boolean
}

/**
 * For a cluster that is to have the content of some databases alone. The files of the others are made with their sizes and read as
 * zeros, so that the log, which is of all of them, can be replayed: a page is written whole into it when it is first changed
 * after the point's start, and of what is not, hollow-pages.ts takes care. Rejects with `usage` if there is no such database.
 */
export async function leaveOutOthers(
  reader: PointReader,
  major: number,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<LeftOut> {
  const databases = await loadDatabases(filesOf(reader), major, signal)
  const own = databases.filter(({ oid }) => oid >= FIRST_NORMAL_OID)
  const unknown = wanted.find((name) => !databases.some((database) => database.name === name))
  if (unknown !== undefined) {
    throw new RegainError('usage', `The point has no database "${unknown}". Nothing was done.`, {
      hint: `It has ${databases.map(({ name }) => name).join(', ')}.`,
    })
  }
  const kept = new Set(own.filter(({ name }) => wanted.includes(name)).map(({ oid }) => oid))
  const left = own.filter(({ oid }) => !kept.has(oid))
  return {
    databases: left.map(({ name }) => name),
    oids: left.map(({ oid }) => oid),
    hollow: (entry) => {
      const oid = databaseOf(entry.path)
      return oid !== null && oid >= FIRST_NORMAL_OID && !kept.has(oid)
    },
  }
}

/** Names of those that leaveOutOthers leaves out. Rejects as it does. */
export async function leftOutBeside(
  reader: PointReader,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  return (await leaveOutOthers(reader, positionsOf(reader.point).major, wanted, signal)).databases
}

/** The database whose content a file is; its PG_VERSION is not, for a server looks at that in each. */
function databaseOf(path: string): number | null {
  const match = /^(?:base|pg_tblspc\/\d+\/PG_[^/]+)\/(\d+)\/(.+)$/.exec(path)
  return match === null || match[2] === 'PG_VERSION' ? null : Number(match[1])
}

/** What a person must do about it. */
export function tellLeftOut(names: readonly string[]): string {
  const drops = names.map((name) => `DROP DATABASE "${name.replaceAll('"', '""')}";`)
  return `Without their content, and no use to anybody, are: ${names.join(', ')}. Nobody can connect to them. Remove them: ${drops.join(' ')}`
}

function filesOf(reader: PointReader): PointFiles {
  return {
    async read(path) {
      try {
        const bytes = await reader.readFile(path)
        return (async function* () {
          yield bytes
        })()
      } catch (error) {
        if (isRegainError(error, 'point-not-found')) return null
        throw error
      }
    },
  }
}
