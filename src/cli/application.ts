import { configurationPath } from '../config/find.ts'
import { loadConfiguration } from '../config/load.ts'
import type { Application } from '../operations/context.ts'
import type { Host } from './host.ts'
import type { Output } from './output.ts'

/** Reads the configuration in effect and puts the application together. */
export async function loadApplication(
  host: Host,
  output: Output,
  configFlag: string | undefined,
): Promise<Application> {
  const path = configurationPath(configFlag, host.environment)
  const config = await loadConfiguration({ path, environment: host.environment })
  return {
    version: host.version,
    ambient: { ...host.ambient, log: output.log },
    environment: host.environment,
    launcher: host.launcher,
    processId: host.processId,
    config,
    drivers: host.drivers,
  }
}
