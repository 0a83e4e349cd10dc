import { rm } from 'node:fs/promises'
import type { Ambient } from '../model.ts'
import { isoMicroseconds } from './acknowledged.ts'
import type { Narrator } from './narrator.ts'
import { dropOrders, type OpenShop } from './opening.ts'
import type { Protection } from './protection.ts'
import { thousands } from './report.ts'
import { waitFor } from './wait.ts'
import type { Writer } from './writer.ts'

export interface Accident {
  /** When the DROP TABLE was committed. */
  droppedUs: bigint
  /** The second before somebody typed it: what act one recovers to. */
  targetUs: bigint
}

export interface Crash {
  /** When the server was killed, in ms since the epoch. */
  at: number
  /** What `regain serve` had last called durable. */
  durableUntil: number
}

/** Somebody drops the table of orders. The shop turns customers away from then on, but payments still come in. */
export async function destroyOrders(
  shop: OpenShop,
  writer: Writer,
  narrator: Narrator,
  signal: AbortSignal,
): Promise<Accident> {
  narrator.scene('An accident')
  narrator.command('psql shop -c "DROP TABLE orders CASCADE"')
  const { beforeUs, droppedUs } = await dropOrders(shop)
  await waitFor('The shop noticing', 30_000, signal, () => (writer.refusedOrders() > 0 ? true : null))
  narrator.tell(`${isoMicroseconds(droppedUs)}: the orders are gone. New ones fail; payments of earlier ones go on.`)
  const microsecondsInMillisecond = 1000n
  const second = 1_000_000n
  // Whole milliseconds, because that is what a person would type.
  return { droppedUs, targetUs: ((beforeUs - second) / microsecondsInMillisecond) * microsecondsInMillisecond }
}

/**
 * The machine is lost: server and follower die in the same moment, so that nothing more is shipped, and the data
 * directory and the folder are deleted. What is left is the repository.
 */
export async function destroyEverything(
  shop: OpenShop,
  writer: Writer,
  protection: Protection,
  folder: string,
  narrator: Narrator,
  ambient: Ambient,
): Promise<Crash> {
  narrator.scene('A disaster')
  narrator.command(`kill -9 ${shop.server.pid} ${protection.pid}; rm -rf database uploads`)
  const at = ambient.now()
  await Promise.all([protection.kill(), shop.server.crash()])
  await writer.ended
  // It is dead; this only removes the folder of its socket.
  await shop.server.stop('immediate')
  await rm(shop.data, { recursive: true })
  await rm(folder, { recursive: true })
  const durableUntil = protection.durableUntil() ?? 0
  narrator.tell(
    `${new Date(at).toISOString()}: the server and regain serve die at once. Nothing is left but the repository. ` +
      `Acknowledged: ${thousands(writer.commits.length)} commits; called durable: all until ${new Date(durableUntil).toISOString()}.`,
  )
  return { at, durableUntil }
}
