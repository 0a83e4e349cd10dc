import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestPostgres } from './postgres.ts'

const execute = promisify(execFile)

/** Where the client programs of a version are; only Debian's have them. */
const PROGRAMS = '/usr/lib/postgresql/15/bin'

/**
 * Holds a running cluster to PostgreSQL's own checks: every table against its indexes (pg_amcheck), then, stopped, every
 * page's checksum (pg_checksums). For version 15, whose programs are there; the server is stopped afterwards.
 */
export async function assertSoundCluster(
  postgres: TestPostgres,
  port: number,
  stop: () => Promise<void>,
): Promise<void> {
  assert.equal(postgres.major, 15)
  const connection = ['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres']
  await execute(join(PROGRAMS, 'pg_amcheck'), [...connection, '--all', '--install-missing', '--heapallindexed'])
  await stop()
  await execute(join(PROGRAMS, 'pg_checksums'), ['--check', '-D', postgres.directory])
  await access(join(postgres.directory, 'global/pg_control'))
}
