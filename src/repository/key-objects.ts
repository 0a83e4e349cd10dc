import type { CallOptions, Storage } from '../storage/contract.ts'
import { PREFIX } from './format/object-names.ts'

/** Hex id of a key domain, and its epoch. */
export interface KeyEpoch {
  domain: string
  epoch: number
}

export function keyName({ domain, epoch }: KeyEpoch, kek: string): string {
  return `${PREFIX.keys}${domain}-${epoch}-${kek}.json`
}

/** The name of the KEK that the object was made for. */
export function kekOfKeyName(name: string): string {
  return name.slice(name.lastIndexOf('-') + 1, -'.json'.length)
}

/**
 * Names of a domain key's wrapped forms, sorted. Others may stand beside them, of a repository whose making was given up
 * or lost to another in this very place: they open nothing, and nobody can tell whether their maker still lives.
 */
export async function listKeyNames(storage: Storage, key: KeyEpoch, call: CallOptions = {}): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of storage.list(PREFIX.keys, call))
    if (name.startsWith(`${PREFIX.keys}${key.domain}-${key.epoch}-`)) names.push(name)
  return names.sort()
}
