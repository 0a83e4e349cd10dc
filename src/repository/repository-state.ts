import type { Ambient } from '../model.ts'
import type { Storage } from '../storage/contract.ts'
import type { Pool } from './compute/pool.ts'
import type { DomainKeys } from './format/domain-keys.ts'
import type { Keyring } from './keys/keyring.ts'
import type { PackHeaders } from './packs/pack-headers.ts'

/** What every part of an open repository shares. */
export interface RepositoryState {
  readonly id: string
  readonly service: string
  readonly storage: Storage
  /** Of the current epoch, with what opens older ones. */
  readonly keys: DomainKeys
  readonly keyring: Keyring
  readonly ambient: Ambient
  readonly pool: Pool
  readonly headers: PackHeaders
}
