import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { testAmbient } from '../../../test/support/repository.ts'
import { openMemoryStorage } from '../../storage/memory.ts'
import { deriveDomainKeys } from '../format/domain-keys.ts'
import { packName } from '../format/object-names.ts'
import { encodeDirectory, type Group, METHOD_STORED } from '../format/pack.ts'
import { sealObject } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'
import { PackDirectories, readPackDirectory } from './pack-directories.ts'

const FRAME = 256 * 1024
const keys = deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 1)
const storage = openMemoryStorage()
const state = { storage, keys, ambient: testAmbient(), service: 'shop' } as unknown as RepositoryState

/** A pack with one group of `bytes`, cut into `chunks`. */
function makePack(bytes: number, chunks: number): { name: string; size: number; directory: Buffer } {
  const ids = Array.from({ length: chunks }, (_, i) => ({
    id: createHash('sha256').update(`${i}`).digest(),
    offset: i,
    length: 1,
  }))
  const group: Group = { offset: 0, storedBytes: bytes, rawBytes: bytes, method: METHOD_STORED, chunks: ids }
  const directory = encodeDirectory([group])
  const footer = Buffer.alloc(8)
  footer.writeUInt32LE(directory.length)
  return { ...put(Buffer.concat([Buffer.alloc(bytes), directory, footer])), directory }
}

function put(plain: Buffer): { name: string; size: number } {
  const sealed = sealObject(keys, 'P', '', plain, randomBytes(32))
  const name = createHash('sha256').update(sealed).digest('hex')
  storage.objects.set(packName(name), sealed)
  return { name, size: sealed.length }
}

const read = ({ name, size }: { name: string; size: number }) => readPackDirectory(state, name, size, undefined)

describe('the directory of a pack, read from its end', () => {
  // The directory of one chunk is 68 bytes, the footer 8.
  const CASES: Record<string, [bytes: number, chunks: number]> = {
    'in a pack of one frame': [10, 1],
    'in a frame of its own': [FRAME, 1],
    'that ends with a frame': [2 * FRAME - 76, 1],
    'that goes on in the last frame by a byte': [3 * FRAME - 75, 1],
    'over more frames than are read at first': [5 * FRAME + 17, 20_000],
    'that is all of a pack': [1, 65_000],
  }
  for (const [where, [bytes, chunks]] of Object.entries(CASES))
    it(where, async () => {
      const made = makePack(Math.max(bytes, chunks), chunks)
      const { name, sizeBytes, directory } = await read(made)
      assert.equal(name.toString('hex'), made.name)
      assert.equal(sizeBytes, made.size)
      assert.ok(directory.equals(made.directory))
    })

  it('is refused wherever it is not what was written', async () => {
    const made = makePack(10, 3)
    const sound = storage.objects.get(packName(made.name))!
    for (let offset = 0; offset < sound.length; offset++) {
      const changed = Buffer.from(sound)
      changed[offset] = changed[offset]! ^ 4
      storage.objects.set(packName(made.name), changed)
      await assert.rejects(read(made), isDamage)
    }
    for (const length of [0, 96, sound.length - 1]) {
      storage.objects.set(packName(made.name), sound.subarray(0, length))
      await assert.rejects(read(made), { code: 'repository-damaged' })
      await assert.rejects(read({ name: made.name, size: length }), { code: 'repository-damaged' })
    }
  })

  it('is refused if it is longer than it says, or than the pack', async () => {
    const footer = Buffer.alloc(8)
    for (const [length, directory] of [
      [1000, encodeDirectory([])],
      [9, Buffer.concat([encodeDirectory([]), Buffer.alloc(1)])],
      [0, encodeDirectory([])],
    ] as const) {
      footer.writeUInt32LE(length)
      await assert.rejects(read(put(Buffer.concat([directory, footer]))), { code: 'repository-damaged' })
    }
    await assert.rejects(read(put(Buffer.alloc(3))), { code: 'repository-damaged' })
    footer.writeUInt32LE(8, 0)
    footer.writeUInt32LE(1, 4)
    await assert.rejects(read(put(Buffer.concat([encodeDirectory([]), footer]))), { code: 'repository-version' })
  })

  it('is read once, and one that can not be read is told once', async () => {
    const made = makePack(10, 1)
    const told: string[] = []
    const directories = new PackDirectories(state, { unreadable: (pack) => void told.push(pack) })
    const gone = 'f'.repeat(64)
    for (let turn = 0; turn < 2; turn++) {
      const found = await directories.read([
        [made.name, made.size],
        [gone, 500],
      ])
      assert.deepEqual(
        found.map(({ name }) => name.toString('hex')),
        [made.name],
      )
      storage.objects.delete(packName(made.name))
    }
    assert.deepEqual(told, [gone])
    assert.equal(directories.takeNews(), 2)
  })
})
