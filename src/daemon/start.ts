import type { Ambient } from '../model.ts'
import type { Application } from '../operations/context.ts'
import { daemonLog } from './log.ts'
import { serviceManager } from './notify.ts'
import { planOf } from './operations.ts'
import { serve } from './serve.ts'

export interface DaemonHost {
  version: string
  processId: number
  ambient: Pick<Ambient, 'now' | 'randomBytes'>
  environment: Readonly<Record<string, string | undefined>>
  /** Reads the configuration in effect: at the start, and at every SIGHUP. */
  load(): Promise<Application>
  /** Fires at SIGTERM or SIGINT. */
  stop: AbortSignal
  /** Calls back at every SIGHUP until the returned function is called. */
  onHangUp(listener: () => void): () => void
  /** One line of the log, without its end. */
  writeLog(line: string): void
  /** The log as JSON lines. */
  json: boolean
}

/** `regain serve`: see `serve` for what it resolves and rejects with. */
export async function startDaemon(host: DaemonHost): Promise<void> {
  const { version, processId, stop } = host
  const log = daemonLog(host.writeLog, host.json, host.ambient.now)
  const ambient: Ambient = { ...host.ambient, log }
  await serve({
    version,
    processId,
    ambient,
    stop,
    onReload: host.onHangUp,
    async plan() {
      const application = await host.load()
      return planOf({ ...application, ambient })
    },
    notify: serviceManager(host.environment.NOTIFY_SOCKET, (detail) => log('warning', detail)),
  })
}
