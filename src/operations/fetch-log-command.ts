import type { SourceRequest } from './context.ts'

/** Program and arguments with which a restored server gets a file of its log; the file's name and place follow. */
export function fetchLogCommand({ launcher, config, service, source, destination }: SourceRequest): string[] {
  const target = `${service.name}/${source.name}`
  return [launcher, '--config', config.path, '--quiet', 'log', 'fetch', '--destination', destination.name, target]
}
