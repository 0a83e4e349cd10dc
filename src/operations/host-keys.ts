import { addSetting } from '../config/add-setting.ts'
import type { Application } from './context.ts'

/** The key of a server that the configuration does not know yet. */
export interface UnknownHostKey {
  destination: string
  /** 'ssh-ed25519' */
  type: string
  /** 'SHA256:…', as ssh-keygen -l prints it. */
  fingerprint: string
}

/** Asks each server whose host key the configuration does not name. Nothing is sent to them but the question. */
export async function unknownHostKeys({ config, drivers }: Application): Promise<UnknownHostKey[]> {
  const unknown: UnknownHostKey[] = []
  for (const destination of Object.values(config.destinations)) {
    const shown = await drivers.unknownHostKey(destination)
    if (shown !== null) unknown.push({ destination: destination.name, ...shown })
  }
  return unknown
}

/** Writes into the configuration that this is the server's key: from now on no other is accepted. */
export async function trustHostKey(
  { config }: Application,
  { destination, fingerprint }: UnknownHostKey,
): Promise<void> {
  await addSetting(config.path, ['destinations', destination], 'hostKey', fingerprint)
}
