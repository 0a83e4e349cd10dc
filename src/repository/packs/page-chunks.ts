import type { Entry } from '../../model.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import { contentBytes } from '../listing/listing-reader.ts'
import { LIST_IDS } from '../points/content-queue.ts'
import { PAGE_CHUNK_BYTES } from './chunker.ts'

/**
 * Whether content was cut at fixed places, as the number of its chunks tells: cut by content, what is larger than a page has
 * fewer, since the smallest such chunk is twice as large. What is no larger is one chunk both ways.
 */
export function isCutIntoPages(entry: Entry): boolean {
  const pages = Math.ceil(contentBytes(entry) / PAGE_CHUNK_BYTES)
  if (entry.chunkLists !== undefined) return idsIn(entry.chunkLists) === Math.ceil(pages / LIST_IDS)
  return idsIn(entry.chunks ?? '') === pages
}

function idsIn(base64: string): number {
  return Buffer.byteLength(base64, 'base64') / ID_BYTES
}
