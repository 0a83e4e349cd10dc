import { isRegainError } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import { type AskedServer, askServers, describeAnswer } from './protocol/choose-server.ts'
import { type ConnectionConfig, describeHost, type ServerUrl } from './protocol/connection-url.ts'
import type { ServerFacts } from './server/server-facts.ts'

/**
 * With several hosts: what each of them is, and whether the one which is not used now could be. `rights` tries out whether
 * it lets Regain replicate.
 */
export async function checkHosts(
  url: ServerUrl,
  chosen: ConnectionConfig,
  signal: AbortSignal,
  rights: (host: ConnectionConfig) => Promise<Finding>,
): Promise<Finding[]> {
  if (url.candidates.length === 1) return []
  const asked = await askServers(url, signal, null)
  return Promise.all(asked.map((server) => checkHost(server, server.config === chosen, rights)))
}

async function checkHost(
  server: AskedServer,
  isChosen: boolean,
  rights: (host: ConnectionConfig) => Promise<Finding>,
): Promise<Finding> {
  const where = describeHost(server.config)
  const answer = describeAnswer(server)
  if (isChosen)
    return { severity: 'ok', code: 'host', message: `${where} is ${answer}, and the one that is backed up now.` }
  if (server.answer === null || isRegainError(server.answer))
    return {
      severity: 'warning',
      code: 'host',
      message: `${where} could not take over now: ${answer}.`,
      fix: (isRegainError(server.answer) ? server.answer.hint : '') || 'Start it, or take it out of the URL.',
    }
  const { severity, message, fix } = await rights(server.config)
  if (severity === 'ok') return { severity, code: 'host', message: `${where} is ${answer}.` }
  return {
    severity: 'warning',
    code: 'host',
    message: `${where} is ${answer}, and its log could not be followed now: ${message}`,
    ...(fix === undefined ? {} : { fix }),
  }
}

/** What it means that points, and the log, come from a standby. */
export function checkStandby(
  { continuous }: { continuous: boolean },
  config: ConnectionConfig,
  facts: ServerFacts,
): Finding[] {
  if (!facts.standby) return []
  const what = continuous ? 'Points and the log come' : 'Points come'
  const message = `${what} from the standby ${describeHost(config)}, which spares the primary. What the primary has acknowledged and this standby has not received yet is not protected.`
  return [{ severity: 'ok', code: 'standby', message }]
}
