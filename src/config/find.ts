import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const SYSTEM_PATH = '/etc/regain/regain.yaml'
const LOCAL_NAME = 'regain.yaml'

/**
 * Absolute path of the configuration to use: --config, else $REGAIN_CONFIG, else the first that exists of ./regain.yaml
 * and /etc/regain/regain.yaml, else ./regain.yaml.
 */
export function configurationPath(
  flag: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): string {
  if (flag !== undefined) return resolve(flag)
  if (environment.REGAIN_CONFIG) return resolve(environment.REGAIN_CONFIG)
  const local = resolve(LOCAL_NAME)
  return !existsSync(local) && existsSync(SYSTEM_PATH) ? SYSTEM_PATH : local
}
