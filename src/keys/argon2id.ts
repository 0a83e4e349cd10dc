import { argon2 } from 'node:crypto'
import { promisify } from 'node:util'
import { RegainError } from '../errors.ts'
import type { WrappedKey } from './contract.ts'
import { KEY_BYTES } from './key-wrap.ts'

export type Argon2idParameters = NonNullable<WrappedKey['argon2id']>

/**
 * For new keys: beyond what OWASP's password storage cheat sheet asks (19 MiB, 2 passes), as RFC 9106 recommends for
 * machines without memory to spare (64 MiB, 3 passes, 4 lanes). About a third of a second.
 */
export const STRENGTH = { memoryKiB: 64 * 1024, passes: 3, parallelism: 4 }

/**
 * Parameters come from the repository, which anyone with its storage can write. These bounds keep a hostile one from
 * exhausting this machine; they leave room for stronger ones to come. At the limit a derivation takes a minute or so.
 */
const LIMIT = { memoryKiB: 1024 * 1024, passes: 64, parallelism: 16, workKiB: 16 * 1024 * 1024 }

/** RFC 9106, 3.1: argon2 needs at least this much memory for each lane. */
const LANE_MINIMUM_KIB = 8

/**
 * The KEK of a passphrase. The salt is the ASCII text of 32 hex digits itself, so that command line tools can take it.
 * Rejects with RegainError `repository-damaged` for parameters out of bounds, `key-unavailable` with too little memory.
 */
export async function deriveKek(passphrase: Buffer, parameters: Argon2idParameters): Promise<Buffer> {
  checkParameters(parameters)
  const { salt, memoryKiB, passes, parallelism } = parameters
  try {
    return await promisify(argon2)('argon2id', {
      message: passphrase,
      nonce: Buffer.from(salt, 'ascii'),
      memory: memoryKiB,
      passes,
      parallelism,
      tagLength: KEY_BYTES,
    })
  } catch (error) {
    throw new RegainError(
      'key-unavailable',
      `The key could not be derived from the passphrase, which takes ${memoryKiB} KiB of memory. Nothing was changed.`,
      { cause: error, hint: 'Run this on a machine, or under a limit, with more free memory.' },
    )
  }
}

export function isAtLeast(parameters: Argon2idParameters, strength: typeof STRENGTH): boolean {
  return parameters.memoryKiB >= strength.memoryKiB && parameters.passes >= strength.passes
}

function checkParameters({ salt, memoryKiB, passes, parallelism }: Argon2idParameters): void {
  const problem = !/^[0-9a-f]{32}$/.test(salt)
    ? 'a salt that is not 32 hex digits'
    : !isWithin(parallelism, 1, LIMIT.parallelism)
      ? `${parallelism} lanes`
      : !isWithin(memoryKiB, LANE_MINIMUM_KIB * parallelism, LIMIT.memoryKiB)
        ? `${memoryKiB} KiB of memory`
        : !isWithin(passes, 1, LIMIT.passes)
          ? `${passes} passes`
          : memoryKiB * passes > LIMIT.workKiB
            ? `${passes} passes over ${memoryKiB} KiB of memory`
            : null
  if (problem === null) return
  throw new RegainError(
    'repository-damaged',
    `The repository asks for argon2id with ${problem}, which Regain neither writes nor accepts: ` +
      'its list of keys is damaged or forged. The passphrase was not used.',
    { hint: 'Use another key of this repository, or another copy of it.' },
  )
}

function isWithin(value: number, minimum: number, maximum: number): boolean {
  return Number.isInteger(value) && value >= minimum && value <= maximum
}
