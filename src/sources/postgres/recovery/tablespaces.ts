import { lstat, mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { RegainError } from '../../../errors.ts'
import { syncFolder } from '../../../filesystem/durable.ts'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import type { Positions } from '../backup/positions.ts'

/** Where a tablespace goes that has a folder of its own, outside of the data directory. */
export interface TablespacePlace {
  oid: string
  /** Of its entries in a point. */
  path: string
  /** Absolute. */
  directory: string
}

export interface PlacesRequest {
  /** The data directory. */
  directory: string
  /** Folders that a person chose, by oid or by the original's folder. */
  chosen: Readonly<Record<string, string>>
  /** What the data directory links to now is used where nothing was chosen. */
  inPlace: boolean
}

/**
 * Where the tablespaces of a point go: beside the data directory, unless chosen otherwise. Rejects with `usage` if a choice
 * names no tablespace, or two would share a folder. Changes nothing.
 */
export async function tablespacePlaces(positions: Positions, request: PlacesRequest): Promise<TablespacePlace[]> {
  const places: TablespacePlace[] = []
  const used = new Set<string>()
  for (const { oid, location } of outside(positions)) {
    const name = [oid, location].find((key) => Object.hasOwn(request.chosen, key))
    if (name !== undefined) used.add(name)
    const present = request.inPlace ? await linkedFolder(request.directory, oid) : null
    const directory = name === undefined ? (present ?? join(besideOf(request.directory), oid)) : request.chosen[name]!
    places.push({ oid, path: `pg_tblspc/${oid}`, directory: resolve(directory) })
  }
  const unknown = Object.keys(request.chosen).find((key) => !used.has(key))
  if (unknown !== undefined) {
    const known = outside(positions).map(({ oid, location }) => `${oid} (${location})`)
    throw new RegainError(
      'usage',
      `The point has no tablespace ${unknown} outside of the data directory. Nothing was changed.`,
      { hint: known.length > 0 ? `It has ${known.join(', ')}.` : 'It has none.' },
    )
  }
  refuseSharing(resolve(request.directory), places)
  return places
}

/** What a restore writes outside of the data directory, each of which must be empty or absent for a new one. */
export function foldersBeside(directory: string, places: readonly TablespacePlace[]): string[] {
  const beside = besideOf(directory)
  return [...new Set(places.map((place) => (contains(beside, place.directory) ? beside : place.directory)))]
}

/** For a new restore. Rejects with `target-not-empty` if something is where tablespaces would go. */
export async function requireEmptyPlaces(directory: string, places: readonly TablespacePlace[]): Promise<void> {
  for (const folder of foldersBeside(directory, places)) {
    const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw new RegainError(
        'target-not-empty',
        `${folder}, where tablespaces would go, cannot be used. Nothing was changed.`,
        { cause: error },
      )
    })
    if (names.length > 0)
      throw new RegainError(
        'target-not-empty',
        `${folder}, where tablespaces would go, is not empty. Nothing was changed.`,
      )
  }
}

/** Makes the folders, for this user alone; their parents may be passed by whoever could pass before. */
export async function makePlaces(directory: string, places: readonly TablespacePlace[]): Promise<void> {
  for (const folder of foldersBeside(directory, places)) await mkdir(folder, { recursive: true, mode: 0o700 })
  for (const place of places) await mkdir(place.directory, { recursive: true, mode: 0o700 })
}

/** Takes back what a new restore wrote there. Folders that were there before stay, empty. */
export async function clearPlaces(directory: string, places: readonly TablespacePlace[]): Promise<void> {
  for (const folder of foldersBeside(directory, places)) {
    if (folder === besideOf(directory)) await rm(folder, { recursive: true, force: true })
    else
      for (const name of await readdir(folder).catch(ifAbsent([])))
        await rm(join(folder, name), { recursive: true, force: true })
  }
}

/** Links the data directory to the folders. Durable when it resolves. */
export async function linkPlaces(directory: string, places: readonly TablespacePlace[]): Promise<void> {
  if (places.length === 0) return
  const folder = join(directory, 'pg_tblspc')
  for (const place of places) {
    const link = join(folder, place.oid)
    if ((await readlink(link).catch(() => null)) === place.directory) continue
    const part = `${link}.part`
    await rm(part, { force: true })
    await symlink(place.directory, part)
    await rename(part, link)
  }
  await syncFolder(folder)
  for (const place of places) await syncFolder(join(place.directory, '..'))
}

/** The text of tablespace_map: from it the server makes the links anew when recovery begins. A line ends the entry, a backslash quotes. */
export function tablespaceMap(places: readonly TablespacePlace[]): string {
  const escaped = (path: string): string => path.replace(/[\\\n\r]/g, (character) => `\\${character}`)
  return places.map(({ oid, directory }) => `${oid} ${escaped(directory)}\n`).join('')
}

/** Tablespaces of a folder of their own; those "in place" are part of the data directory. */
function outside(positions: Positions): Positions['tablespaces'] {
  return positions.tablespaces.filter(({ location }) => location.startsWith('/'))
}

export function hasTablespacesOutside(positions: Positions): boolean {
  return outside(positions).length > 0
}

function besideOf(directory: string): string {
  return `${resolve(directory)}.tablespaces`
}

async function linkedFolder(directory: string, oid: string): Promise<string | null> {
  const link = join(directory, 'pg_tblspc', oid)
  const stat = await lstat(link).catch(ifAbsent(null))
  if (!stat?.isSymbolicLink()) return null
  return resolve(directory, 'pg_tblspc', await readlink(link))
}

function refuseSharing(directory: string, places: readonly TablespacePlace[]): void {
  places.forEach((place, index) => {
    const others = [directory, ...places.slice(0, index).map((other) => other.directory)]
    const shared = others.find((other) => contains(other, place.directory) || contains(place.directory, other))
    if (shared === undefined) return
    throw new RegainError(
      'usage',
      `The tablespace ${place.oid} would go to ${place.directory}, which is in, or holds, ${shared}. Nothing was changed.`,
      { hint: 'Name a folder of its own for each: --tablespace OID=FOLDER.' },
    )
  })
}

export function contains(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way === '' || (way !== '..' && !way.startsWith('../'))
}
