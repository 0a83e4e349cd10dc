import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ErrorCode, isRegainError } from '../../src/errors.ts'
import type { Ambient } from '../../src/model.ts'
import type { Source, SourceSummary } from '../../src/sources/contract.ts'
import { createFilesSource, type FilesConfig, type FilesOptions } from '../../src/sources/files/source.ts'
import { type Heard, listen } from '../contract/source.ts'
import { removeTree } from './describe-tree.ts'
import { type RecordedPoint, RecordingWriter, type WriterOptions } from './recording-point.ts'

/** After everything that a test makes: no change time is too young to be trusted. */
export const LATER = '2100-01-01T00:00:00.000Z'

export interface Run {
  writer: RecordingWriter
  summary: SourceSummary
  point: RecordedPoint
  heard: Heard
}

/** A folder to back up, one to restore to, and what a files source over them says. */
export class FilesFixture {
  readonly parent = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'regain-files-')))
  readonly root = join(this.parent, 'root')
  readonly target = join(this.parent, 'target')
  readonly logged: string[] = []
  readonly ambient: Ambient = {
    now: () => 0,
    randomBytes: (size) => Buffer.alloc(size),
    log: (level, message) => this.logged.push(`${level} ${message}`),
  }

  constructor() {
    fs.mkdirSync(this.root)
    fs.mkdirSync(this.target)
  }

  /** A file below the root, its folders made; its path. */
  write(path: string, content = path): string {
    const full = join(this.root, path)
    fs.mkdirSync(join(full, '..'), { recursive: true })
    fs.writeFileSync(full, content)
    return full
  }

  source(config: Partial<FilesConfig> = {}, options: FilesOptions = {}): Source {
    return createFilesSource({ paths: [this.root], exclude: [], ...config }, this.ambient, options)
  }

  async backup(from: Source = this.source(), options: WriterOptions = {}, heard: Heard = listen()): Promise<Run> {
    const writer = new RecordingWriter({ startedAt: LATER, ...options })
    const summary = await from.backup(writer, heard.options)
    return { writer, summary, heard, point: await writer.finish(summary, 'files') }
  }

  remove(): void {
    removeTree(this.parent)
  }
}

export function pathsOf(run: Run): string[] {
  return run.point.entries.map((entry) => entry.path)
}

export function hasCode(wanted: ErrorCode): (error: unknown) => boolean {
  return (error) => isRegainError(error, wanted)
}
