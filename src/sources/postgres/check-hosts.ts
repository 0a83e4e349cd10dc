import { isRegainError } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import { askServers, describeAnswer } from './choose-server.ts'
import { type ConnectionConfig, describeHost, type ServerUrl } from './connection-url.ts'
import type { ServerFacts } from './server-facts.ts'

/** With several hosts: what each of them is, and that the one which is not used now could be. */
export async function checkHosts(url: ServerUrl, chosen: ConnectionConfig, signal: AbortSignal): Promise<Finding[]> {
  if (url.candidates.length === 1) return []
  const asked = await askServers(url, signal, null)
  return asked.map((server): Finding => {
    const where = describeHost(server.config)
    const answer = describeAnswer(server)
    const isChosen = server.config === chosen
    if (isChosen || (server.answer !== null && !isRegainError(server.answer)))
      return {
        severity: 'ok',
        code: 'host',
        message: `${where} is ${answer}${isChosen ? ', and the one that is backed up now' : ''}.`,
      }
    return {
      severity: 'warning',
      code: 'host',
      message: `${where} could not take over now: ${answer}.`,
      fix: (isRegainError(server.answer) ? server.answer.hint : '') || 'Start it, or take it out of the URL.',
    }
  })
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
