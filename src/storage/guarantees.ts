import { isRegainError, type RegainError } from '../errors.ts'
import type { CallOptions, Storage, StoredObject } from './contract.ts'

/**
 * What contract.ts promises, as far as it can be seen from outside by using a store as it is used later. The contract's
 * test suite runs these against every driver; `checkStorage` runs them against a person's own store, in the very bucket
 * and mode it will be used in: stores differ there, and not by what they say of themselves.
 */
export interface Guarantee {
  /** 'lets one of several concurrent creates win'. */
  what: string
  /** What it means for the data if a store does not keep it. For people. */
  otherwise: string
  /** Resolves with null if it is kept, else with what was seen instead. */
  check(place: Place): Promise<string | null>
}

/** An empty part of a store. */
export interface Place {
  storage: Storage
  /** Ends in a slash. */
  prefix: string
  effort: Effort
  options: CallOptions
  randomBytes(size: number): Buffer
}

/** How much of what takes many calls. */
export interface Effort {
  racers: number
  rounds: number
  /** Bytes of the largest object. */
  largest: number
}

const LOST = 'Backups could be incomplete without anybody noticing.'
const BOTH = 'Two writers could both believe that theirs is the one that counts, and data would be lost.'

export const GUARANTEES: readonly Guarantee[] = [
  {
    what: 'gives back what was put, of any size',
    otherwise: 'What is restored would not be what was stored.',
    check: bytes,
  },
  {
    what: 'gives ranges, cut short at the end of the object',
    otherwise: 'Nothing could be restored from packs.',
    check: ranges,
  },
  { what: 'tells absent objects', otherwise: LOST, check: absence },
  { what: 'put replaces, create does not', otherwise: BOTH, check: replacing },
  {
    what: 'deletes, and does not mind an absent object',
    otherwise: 'Old data could not be removed safely.',
    check: deleting,
  },
  { what: 'takes every name that is allowed', otherwise: 'Some objects could not be stored.', check: names },
  { what: 'lists what was put, at once, by prefix', otherwise: LOST, check: listing },
  {
    what: 'lists everything that stays while other objects come, change and go',
    otherwise: LOST,
    check: listingWhileChanging,
  },
  { what: 'lets one of several concurrent creates win', otherwise: BOTH, check: races },
  {
    what: 'never shows a part of an object that is being replaced',
    otherwise: 'A reader could take half an object for the whole.',
    check: wholeness,
  },
  {
    what: 'keeps what is locked from being replaced and removed',
    otherwise: 'Whoever has the credentials could destroy all backups.',
    check: locking,
  },
]

async function bytes({ storage, prefix, effort, options, randomBytes }: Place): Promise<string | null> {
  for (const size of [0, 1, 4096, 1_000_003, effort.largest]) {
    const content = randomBytes(size)
    const name = `${prefix}size/${size}`
    await storage.put(name, content, options)
    if (!(await storage.get(name, undefined, options)).equals(content)) return `${size} bytes came back changed`
    const told = await storage.size(name, options)
    if (told !== size) return `an object of ${size} bytes is said to have ${told}`
  }
  return null
}

async function ranges({ storage, prefix, options }: Place): Promise<string | null> {
  const name = `${prefix}a`
  await storage.put(name, Buffer.from('0123456789'), options)
  const expected: [offset: number, length: number, text: string][] = [
    [0, 10, '0123456789'],
    [3, 4, '3456'],
    [8, 100, '89'],
    [10, 1, ''],
    [1_000_000, 1, ''],
    [5, 0, ''],
  ]
  for (const [offset, length, text] of expected) {
    const found = (await storage.get(name, { offset, length }, options)).toString()
    if (found !== text) return `${length} bytes from ${offset} of 0123456789 are "${found}" and not "${text}"`
  }
  return null
}

async function absence({ storage, prefix, options }: Place): Promise<string | null> {
  for (const name of [`${prefix}a`, `${prefix}a/b/c`]) {
    const errors = [
      await failure(storage.get(name, undefined, options)),
      await failure(storage.get(name, { offset: 0, length: 1 }, options)),
      await failure(storage.get(name, { offset: 0, length: 0 }, options)),
    ]
    for (const error of errors) {
      if (error === null) return 'something could be read where nothing was stored'
      if (error.code !== 'storage-not-found') throw error
    }
    const size = await storage.size(name, options)
    if (size !== null) return `an object that was never stored is said to have ${size} bytes`
  }
  return null
}

async function replacing({ storage, prefix, options }: Place): Promise<string | null> {
  const name = `${prefix}a/b`
  const holds = async (text: string) => (await storage.get(name, undefined, options)).toString() === text
  if (!(await storage.create(name, Buffer.from('first'), options))) return 'create says that a free name is taken'
  if (await storage.create(name, Buffer.from('second'), options)) return 'create made an object that was there already'
  if (!(await holds('first'))) return 'create changed an object that was there already'
  for (const text of ['third, longer', '4th']) {
    await storage.put(name, Buffer.from(text), options)
    if (!(await holds(text))) return 'an object that was replaced still has its old content'
  }
  const [object, ...more] = await listed(storage, prefix, options)
  return object?.size === 3 && more.length === 0 ? null : 'an object that was replaced is listed with its old size'
}

async function deleting({ storage, prefix, options }: Place): Promise<string | null> {
  const name = `${prefix}a/b`
  for (let round = 0; round < 2; round++) {
    if (!(await storage.create(name, Buffer.from('x'), options)))
      return 'a name is still taken after its object was deleted'
    for (const gone of [name, name, `${prefix}never/was/there`]) await storage.delete(gone, options)
    if ((await storage.size(name, options)) !== null) return 'an object is there after it was deleted'
    if ((await failure(storage.get(name, undefined, options))) === null)
      return 'an object can be read after it was deleted'
    if ((await listed(storage, prefix, options)).length > 0) return 'an object is listed after it was deleted'
  }
  return null
}

async function names({ storage, prefix, options }: Place): Promise<string | null> {
  // None is a folder of another: where names are paths, that cannot be, and no caller needs it.
  const room = 200 - prefix.length
  const deep = `${'d/'.repeat(Math.floor(room / 2) - 1)}${room % 2 === 0 ? 'bb' : 'b'}`
  const all = ['a', 'A', '...', '.a', '-', '_', 'tmp/a', 'a.b-c_d/0/Z', 'x'.repeat(room), deep].map(
    (name) => prefix + name,
  )
  for (const name of all) {
    await storage.put(name, Buffer.from(name), options)
    if ((await storage.get(name, undefined, options)).toString() !== name) return `${name} holds something else`
  }
  const found = (await listed(storage, prefix, options)).map(({ name }) => name)
  return found.join('\n') === all.sort().join('\n') ? null : `${found.length} of ${all.length} names are listed`
}

async function listing({ storage, prefix, options }: Place): Promise<string | null> {
  const all = ['top', 'a/1', 'a/2', 'a/b/3', 'a/b/c/4', 'ab/5', 'b/6']
  for (const [i, name] of all.entries()) {
    await storage.put(prefix + name, Buffer.alloc(i), options)
    const found = await listed(storage, prefix, options)
    const expected = all.slice(0, i + 1).map((each, size) => `${prefix}${each} ${size}`)
    const told = found.map((object) => `${object.name} ${object.size}`)
    if (told.join('\n') !== expected.sort().join('\n')) return `after ${i + 1} objects were stored, the list is another`
  }
  const under = async (folder: string) =>
    (await listed(storage, prefix + folder, options)).map(({ name }) => name.slice(prefix.length)).join(' ')
  if ((await under('a/')) !== 'a/1 a/2 a/b/3 a/b/c/4') return `below a/ it lists ${await under('a/')}`
  if ((await under('c/')) !== '' || (await under('top/')) !== '')
    return 'it lists objects that are not below the folder'
  await storage.delete(`${prefix}a/b/3`, options)
  return (await under('a/b/')) === 'a/b/c/4' ? null : 'an object is listed after it was deleted'
}

async function listingWhileChanging({ storage, prefix, effort, options }: Place): Promise<string | null> {
  const staying = Array.from({ length: effort.racers * 3 }, (_, i) => `${prefix}a/${i % 3}/${i}`)
  await Promise.all(staying.map((name) => storage.put(name, Buffer.from(name), options)))
  let isDone = false
  const change = async () => {
    for (let i = 0; !isDone; i++) {
      const passing = `${prefix}a/${i % 3}/passing-${i}`
      await storage.put(passing, Buffer.from('x'), options)
      await storage.put(staying[i % staying.length]!, Buffer.from('replaced'), options)
      await storage.delete(passing, options)
    }
    return null
  }
  const look = async () => {
    try {
      for (let i = 0; i < effort.rounds * 4; i++) {
        const seen = (await listed(storage, prefix, options)).map(({ name }) => name)
        if (new Set(seen).size < seen.length) return 'an object is listed twice'
        const missing = staying.filter((name) => !seen.includes(name))
        if (missing.length > 0) return `${missing.length} of ${staying.length} objects are missing from a list`
      }
      return null
    } finally {
      isDone = true
    }
  }
  const [found] = await settled([look(), change()])
  return found!
}

async function races({ storage, prefix, effort, options }: Place): Promise<string | null> {
  for (let round = 0; round < effort.rounds; round++) {
    const name = `${prefix}race/${round}`
    const writers = Array.from({ length: effort.racers }, (_, i) => Buffer.from(`writer ${i}`))
    const won = await settled(writers.map((content) => storage.create(name, content, options)))
    const winners = won.filter(Boolean).length
    if (winners !== 1)
      return `of ${effort.racers} who made the same object at the same time, ${winners} were told that they did`
    const content = (await storage.get(name, undefined, options)).toString()
    if (content !== `writer ${won.indexOf(true)}`)
      return 'the object is not that of the one who was told to have made it'
  }
  return null
}

async function wholeness({ storage, prefix, effort, options }: Place): Promise<string | null> {
  // Two whole states, told apart by every byte and by the length.
  const states = [Buffer.alloc(300_000, 'a'), Buffer.alloc(500_000, 'b')] as const
  const sizes: (number | null | undefined)[] = states.map(({ length }) => length)
  const name = `${prefix}a`
  await storage.put(name, states[0], options)
  let isDone = false
  const write = async () => {
    try {
      for (let i = 1; i <= 6 * effort.rounds; i++) await storage.put(name, states[i % 2]!, options)
      return null
    } finally {
      isDone = true
    }
  }
  const read = async () => {
    while (!isDone) {
      const seen = await storage.get(name, undefined, options)
      if (!states.some((state) => state.equals(seen))) return 'half of an object was read'
      if (!sizes.includes(await storage.size(name, options)))
        return 'an object is said to have a size that it never had'
      const [object] = await listed(storage, prefix, options)
      if (!sizes.includes(object?.size)) return 'an object is listed with a size that it never had'
    }
    return null
  }
  return (await settled([write(), read(), read()])).find((found) => found !== null) ?? null
}

/** One object for good, the same whenever it is checked: it cannot be removed until its lock ends. */
async function locking({ storage, prefix, options }: Place): Promise<string | null> {
  const { immutability } = storage
  if (immutability === undefined) return null
  const name = `${prefix.slice(0, prefix.indexOf('/'))}/locked`
  await storage.create(name, Buffer.from('x'), { ...options, keep: true })
  if ((await immutability.lockedUntil(name, options)) === 0) return 'an object that was to be locked is not'
  await immutability.extend(name, options)
  if (!(await immutability.isExtended(name, options))) return 'a lock was not extended'
  const attempts = [() => storage.delete(name, options), () => storage.put(name, Buffer.from('other'), options)]
  for (const attempt of attempts) {
    const error = await failure(attempt())
    if (error === null) return 'a locked object could be removed or replaced'
    if (error.code !== 'storage-locked') throw error
  }
  const content = (await storage.get(name, undefined, options)).toString()
  return content === 'x' ? null : 'a locked object has another content'
}

async function failure(outcome: Promise<unknown>): Promise<RegainError | null> {
  try {
    await outcome
    return null
  } catch (error) {
    if (isRegainError(error)) return error
    throw error
  }
}

/** All have ended when it does: nothing writes on while the next check runs. */
export async function settled<T>(work: Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(work)
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  })
}

/** Everything under the prefix, sorted by name. */
export async function listed(storage: Storage, prefix: string, options: CallOptions = {}): Promise<StoredObject[]> {
  const all: StoredObject[] = []
  for await (const object of storage.list(prefix, options)) all.push(object)
  return all.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}
