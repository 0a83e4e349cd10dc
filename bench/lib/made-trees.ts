import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

const FILES_PER_FOLDER = 250
const FOLDERS_PER_FOLDER = 100
const WORDS = 4096
const MIB = 1024 * 1024

/** The same numbers each time: glibc's old rand, which is random enough for names and text. */
function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state >>> 8
  }
}

/** Small files of up to 2,000 bytes of text, each of another content, in folders of 250. */
export function makeSmallFiles(directory: string, count: number): void {
  const next = numbers(1)
  const words = Array.from({ length: WORDS }, () => next().toString(36))
  for (let file = 0; file < count; file++) {
    const number = Math.floor(file / FILES_PER_FOLDER)
    const folder = join(directory, `${Math.floor(number / FOLDERS_PER_FOLDER)}`, `${number}`)
    if (file % FILES_PER_FOLDER === 0) mkdirSync(folder, { recursive: true })
    let text = `${file} `
    for (const bytes = next() % 2000; text.length < bytes; ) text += `${words[next() % WORDS]} `
    writeFileSync(join(folder, `${file}.txt`), text)
  }
}

/** One file without holes, half of it text that compresses to a third, half of it noise. */
export function makeLargeFile(path: string, bytes: number): void {
  mkdirSync(join(path, '..'), { recursive: true })
  const next = numbers(2)
  const block = Buffer.alloc(MIB)
  const fd = openSync(path, 'w')
  try {
    for (let at = 0; at < bytes; at += MIB) {
      const isText = (at / MIB) % 2 === 0
      for (let word = 0; word < MIB; word += 4)
        block.writeUInt32LE(isText ? next() % WORDS : next() * 256 + (next() & 255), word)
      writeSync(fd, block, 0, Math.min(MIB, bytes - at))
    }
  } finally {
    closeSync(fd)
  }
}
