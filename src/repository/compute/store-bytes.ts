import { PAGE_CHUNK_BYTES } from '../packs/chunker.ts'
import type { BytesJob, Chunking, StoredBytes } from './messages.ts'
import type { SessionStore } from './store.ts'

/** Cuts and stores each part of the job's buffer. */
export async function storeBytes(store: SessionStore, job: BytesJob): Promise<StoredBytes> {
  const counts: number[] = []
  const ids: Buffer[] = []
  let start = 0
  for (const part of job.parts) {
    const before = ids.length
    const bytes = new Uint8Array(job.buffer, start, part.length)
    for (let at = 0; at < bytes.length; ) {
      const end = cut(store, bytes, at, part.chunking)
      for (const chunk of identified(store, bytes, at, end, part.chunking)) {
        const waiting = store.room()
        if (waiting) await waiting
        if (!job.metadata) store.pace?.read(chunk.bytes.length)
        ids.push(store.putAs(chunk.id, chunk.bytes, job.metadata))
        at += chunk.bytes.length
      }
    }
    counts.push(ids.length - before)
    start += part.length
  }
  return { counts, ids: Buffer.concat(ids) }
}

/** The chunk, and of pages the one behind it too if it is of the same length: two at once take less time. */
function identified(
  store: SessionStore,
  bytes: Uint8Array,
  start: number,
  end: number,
  chunking: Chunking,
): { id: Buffer; bytes: Uint8Array }[] {
  const chunk = bytes.subarray(start, end)
  const next = bytes.subarray(end, end + chunk.length)
  if (chunking !== 'pages' || next.length < chunk.length) return [{ id: store.identify(chunk), bytes: chunk }]
  const [id, nextId] = store.identifyPair(chunk, next, 0)
  return [
    { id, bytes: chunk },
    { id: nextId, bytes: next },
  ]
}

function cut(store: SessionStore, bytes: Uint8Array, start: number, chunking: Chunking): number {
  if (chunking === 'one') return bytes.length
  if (chunking === 'pages') return Math.min(start + PAGE_CHUNK_BYTES, bytes.length)
  const chunker = chunking === 'dump' ? store.dumpChunker : store.chunker
  return chunker.cut(bytes, start, bytes.length, false)
}
