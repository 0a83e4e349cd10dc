import { RegainError } from '../errors.ts'
import type { LogStore, Source } from '../sources/contract.ts'
import type { Application, SourceRequest } from './context.ts'

/** Builds the driver of a source whose configuration is whole. */
export async function openSource(
  application: Application,
  parts: Pick<SourceRequest, 'service' | 'source' | 'destination'> & { log: LogStore },
): Promise<Source> {
  if (parts.source.unresolved !== undefined) {
    throw new RegainError('config-invalid', parts.source.unresolved, {
      hint: 'Set the variable where Regain runs, or correct the reference.',
    })
  }
  return application.drivers.createSource(sourceRequest(application, parts))
}

/** For restores: the source itself need not be there any more, nor what its configuration refers to. */
export async function openSourceForRestore(
  application: Application,
  parts: Pick<SourceRequest, 'service' | 'source' | 'destination'> & { log: LogStore },
): Promise<Source> {
  return application.drivers.createSource(sourceRequest(application, parts))
}

export function sourceRequest(
  application: Application,
  parts: Pick<SourceRequest, 'service' | 'source' | 'destination' | 'log'>,
): SourceRequest {
  const { ambient, config, launcher } = application
  return { ...parts, ambient, config, launcher }
}
