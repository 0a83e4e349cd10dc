/**
 * The measurements behind docs/decisions/0003: chunk sizes, group sizes, zstd levels, framing. One thread, CPU seconds,
 * so that a busy machine disturbs little. Usage: node bench/format/study.ts FOLDER [DATABASE_FOLDER]
 */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Chunker, gearTable } from '../../src/repository/packs/chunker.ts'

const MIB = 1024 * 1024
const SAMPLE_BYTES = 1200 * MIB

function files(folder: string): { path: string; size: number }[] {
  const found: { path: string; size: number }[] = []
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) found.push(...files(path))
    else if (entry.isFile()) found.push({ path, size: statSync(path).size })
  }
  return found
}

/** A reproducible part of the tree, all sizes in their proportion. */
function sample(folder: string): Buffer[] {
  const all = files(folder).sort((a, b) => hash(a.path).localeCompare(hash(b.path)))
  const taken: { path: string; size: number }[] = []
  let bytes = 0
  for (const file of all) {
    if (bytes + file.size > SAMPLE_BYTES) continue
    taken.push(file)
    bytes += file.size
  }
  return taken.sort((a, b) => (a.path < b.path ? -1 : 1)).map(({ path, size }) => read(path, size))
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function read(path: string, size: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(size)
  const fd = openSync(path, 'r')
  let filled = 0
  for (let got = -1; got !== 0 && filled < size; filled += got) got = readSync(fd, bytes, filled, size - filled, filled)
  closeSync(fd)
  return bytes.subarray(0, filled)
}

function cpu<T>(work: () => T): { value: T; seconds: number } {
  const before = process.cpuUsage()
  const value = work()
  const { user, system } = process.cpuUsage(before)
  return { value, seconds: (user + system) / 1e6 }
}

function cutAll(
  contents: Buffer[],
  sizes: { minBytes: number; normalBytes: number; maxBytes: number } | number,
): Buffer[] {
  const chunks: Buffer[] = []
  const chunker = typeof sizes === 'number' ? null : new Chunker(gearTable(Buffer.alloc(32, 7)), sizes)
  for (const content of contents)
    for (let start = 0; start < content.length; ) {
      const end = chunker
        ? chunker.cut(content, start, content.length, false)
        : Math.min(start + (sizes as number), content.length)
      chunks.push(content.subarray(start, end))
      start = end
    }
  return chunks
}

function unique(chunks: Buffer[]): { kept: Buffer[]; ids: Set<string> } {
  const ids = new Set<string>()
  const kept = chunks.filter((chunk) => {
    const id = createHmac('sha256', 'k').update(chunk).digest('latin1')
    if (ids.has(id)) return false
    ids.add(id)
    return true
  })
  return { kept, ids }
}

function group(chunks: Buffer[], target: number): Buffer[] {
  const groups: Buffer[] = []
  let current: Buffer[] = []
  let bytes = 0
  for (const chunk of chunks) {
    current.push(chunk)
    bytes += chunk.length
    if (bytes < target) continue
    groups.push(Buffer.concat(current))
    current = []
    bytes = 0
  }
  if (current.length > 0) groups.push(Buffer.concat(current))
  return groups
}

const sum = (buffers: readonly Buffer[]) => buffers.reduce((total, { length }) => total + length, 0)
const mb = (bytes: number) => (bytes / 1e6).toFixed(1)

function compressAll(groups: Buffer[], level: number) {
  const packed = cpu(() =>
    groups.map((raw) => zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: level } })),
  )
  const opened = cpu(() =>
    packed.value.map((bytes, i) =>
      zstdDecompressSync(bytes, { chunkSize: Math.max(64, (groups[i] as Buffer).length) }),
    ),
  )
  return {
    bytes: sum(packed.value),
    seconds: packed.seconds,
    openSeconds: opened.seconds,
    sizes: packed.value.map(({ length }) => length),
  }
}

/** What an edit in place and an insertion near the beginning of every file over 2 MiB cost in new chunk bytes. */
function edited(contents: Buffer[]): Buffer[] {
  return contents
    .filter((content) => content.length > 2 * MIB)
    .map((content) => Buffer.concat([content.subarray(0, 300_000), Buffer.from('inserted'), content.subarray(300_000)]))
}

function studyChunks(
  contents: Buffer[],
  choices: Record<string, Parameters<typeof cutAll>[1]>,
  changed: Buffer[],
): void {
  console.log('\n| chunks | count | unique MB | new MB after the change | cut, CPU s/GB |\n|---|---|---|---|---|')
  for (const [name, sizes] of Object.entries(choices)) {
    const cut = cpu(() => cutAll(contents, sizes))
    const first = unique(cut.value)
    const fresh = cutAll(changed, sizes).filter(
      (chunk) => !first.ids.has(createHmac('sha256', 'k').update(chunk).digest('latin1')),
    )
    const perGb = (cut.seconds / sum(contents)) * 1e9
    console.log(`| ${name} | ${cut.value.length} | ${mb(sum(first.kept))} | ${mb(sum(fresh))} | ${perGb.toFixed(2)} |`)
  }
}

function studyGroups(chunks: Buffer[]): void {
  console.log(
    '\n| group | level | stored MB | ratio | compress MB/CPU s | open MB/CPU s | one 64 KiB file reads, 256 KiB frames | group-sized frames |',
  )
  console.log('|---|---|---|---|---|---|---|---|')
  const raw = sum(chunks)
  for (const target of [0, 256 * 1024, MIB, 4 * MIB])
    for (const level of [1, 2, 3]) {
      const result = compressAll(group(chunks, target), level)
      const mean = result.bytes / result.sizes.length
      // A stretch of s bytes at a random place touches s/256 KiB + 1 fixed frames.
      const fixed = (mean / (256 * 1024) + 1) * 256
      console.log(
        `| ${target === 0 ? 'each chunk alone' : `${target / 1024} KiB`} | ${level} | ${mb(result.bytes)} | ${(raw / result.bytes).toFixed(2)} | ` +
          `${mb(raw / result.seconds)} | ${mb(raw / result.openSeconds)} | ${fixed.toFixed(0)} KiB | ${(mean / 1024).toFixed(0)} KiB |`,
      )
    }
}

const [folder, database] = process.argv.slice(2)
if (!folder) throw new Error('usage: node bench/format/study.ts FOLDER [DATABASE_FOLDER]')
const K = 1024
const cdc = (min: number, normal: number, max: number) => ({
  minBytes: min * K,
  normalBytes: normal * K,
  maxBytes: max * K,
})
const contents = sample(folder)
console.log(`Files: ${contents.length}, ${mb(sum(contents))} MB`)
studyChunks(
  contents,
  {
    '64/256/1024 KiB': cdc(64, 256, 1024),
    '128/512/2048 KiB': cdc(128, 512, 2048),
    '256/1024/4096 KiB': cdc(256, 1024, 4096),
    '512/2048/8192 KiB': cdc(512, 2048, 8192),
  },
  edited(contents),
)
studyGroups(unique(cutAll(contents, cdc(256, 1024, 4096))).kept)
if (database) {
  const pages = sample(database)
  console.log(
    `\nDatabase: ${pages.length} files, ${mb(sum(pages))} MB; the change is one 8 KiB page in a hundred, at random`,
  )
  const changed = pages.map((content) => {
    const copy = Buffer.from(content)
    for (let at = 0; at + 8192 <= copy.length; at += 8192)
      if (Math.random() < 0.01) randomBytes(200).copy(copy, at + 100)
    return copy
  })
  studyChunks(
    pages,
    {
      'fixed 32 KiB': 32 * K,
      'fixed 64 KiB': 64 * K,
      'fixed 128 KiB': 128 * K,
      'fixed 256 KiB': 256 * K,
      '256/1024/4096 KiB': cdc(256, 1024, 4096),
    },
    changed,
  )
  studyGroups(unique(cutAll(pages, 128 * K)).kept)
}
