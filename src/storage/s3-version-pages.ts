import { RegainError } from '../errors.ts'

/** Of a name with more versions than fit into a page, which only somebody else makes. */
const MAX_LISTINGS = 10

export interface Version {
  id: string
  sizeBytes: number
}

export interface NamedVersion extends Version {
  name: string
}

/** Where a page begins: behind this version of that name. */
export interface Marker {
  name: string
  id: string | undefined
}

export interface VersionPage {
  /** Sorted by name, those of a name with the newest first. Without delete markers. */
  versions: NamedVersion[]
  /** Null: this was the last page. It may name a delete marker. */
  next: Marker | null
}

export interface VersionPages {
  readonly description: string
  page(prefix: string, from: Marker | null): Promise<VersionPage>
}

/**
 * Every version under a prefix; those of one name together, the newest first.
 *
 * A page may end between the versions of a name. When the one it ended with is removed before the next page is asked for,
 * radosgw (16.2) goes on behind the *name*, so older versions are left out, the object itself among them. Hence such a name
 * is looked up by itself.
 */
export async function* everyVersion(pages: VersionPages, prefix: string): AsyncGenerator<NamedVersion> {
  let from: Marker | null = null
  let lookedUp: string | null = null
  do {
    const { versions, next }: VersionPage = await pages.page(prefix, from)
    for (const version of versions) if (version.name !== lookedUp && version.name !== next?.name) yield version
    from = next
    if (next === null || next.name === lookedUp) continue
    lookedUp = next.name
    const whole = await versionsOf(pages, next.name)
    for (const version of whole) yield { name: next.name, ...version }
    // Behind its oldest version: if that is removed, going on behind the name is right.
    const oldest = whole.at(-1)
    if (oldest) from = { name: next.name, id: oldest.id }
  } while (from !== null)
}

/** All of one name, the newest first. */
export async function versionsOf(pages: VersionPages, name: string): Promise<Version[]> {
  for (let listing = 0; listing < MAX_LISTINGS; listing++) {
    const found = await versionsOnce(pages, name)
    if (found !== null) return found
  }
  throw new RegainError(
    'storage-unavailable',
    `Somebody adds and removes so many versions of object ${name} in ${pages.description} that they can not be listed.`,
  )
}

/** Null: what a page ended with was removed, so the one after it may have left some out. */
async function versionsOnce(pages: VersionPages, name: string): Promise<Version[] | null> {
  const found: Version[] = []
  let before: Marker | null = null
  let from: Marker | null = null
  for (;;) {
    const { versions, next }: VersionPage = await pages.page(name, from)
    // The page before still ends in the same place, so this one began behind what is there. (HEAD does not tell: radosgw
    // answers 404 to it for delete markers, which a page may end with too.)
    if (from !== null && (await pages.page(name, before)).next?.id !== from.id) return null
    // Sorted, so what only begins with the name comes after all of its own.
    for (const { id, sizeBytes } of versions.filter((version) => version.name === name)) found.push({ id, sizeBytes })
    if (next?.name !== name) return found
    before = from
    from = next
  }
}
