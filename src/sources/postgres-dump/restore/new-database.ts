import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'
import type { TocEntry } from './archive-toc.ts'

/**
 * Makes an empty database with the encoding and locale of the one that was dumped. Rejects with `precondition-failed` if the
 * server cannot make such a one.
 */
export async function createDatabase(
  client: pg.Client,
  name: string,
  entries: readonly TocEntry[],
  options: { tablespaces: boolean },
): Promise<void> {
  const definition = entries.find(({ kind }) => kind === 'DATABASE')?.definition ?? ''
  const properties =
    /^\s*CREATE DATABASE (?:"(?:[^"]|"")+"|[^\s"]+)( WITH [\s\S]*?)?;/.exec(definition)?.[1] ??
    ' WITH TEMPLATE = template0'
  const kept = options.tablespaces ? properties : properties.replace(/ TABLESPACE = (?:"(?:[^"]|"")+"|[^\s";]+)/, '')
  try {
    await client.query(`create database ${quoteIdentifier(name)}${kept}`)
  } catch (error) {
    throw new RegainError(
      'precondition-failed',
      `The database ${name} could not be made: ${(error as Error).message}. Nothing was restored.`,
      {
        hint: 'Make it yourself, empty, with an encoding and a locale that this server has, and restore with --database into it.',
        cause: error,
      },
    )
  }
}

/** Its owner, settings (ALTER DATABASE … SET), privileges and comment. What cannot be set is told, and is no failure. */
export async function setProperties(
  client: pg.Client,
  name: string,
  entries: readonly TocEntry[],
  warn: (message: string) => void,
): Promise<void> {
  const database = entries.find(({ kind }) => kind === 'DATABASE')
  const about = entries.filter(
    ({ kind, tag }) =>
      kind === 'DATABASE PROPERTIES' || (tag === `DATABASE ${name}` && ['ACL', 'COMMENT'].includes(kind)),
  )
  const owner = database?.owner ?? ''
  const statements = [
    ...(owner === '' ? [] : [`alter database ${quoteIdentifier(name)} owner to ${quoteIdentifier(owner)}`]),
    ...about.map(({ definition }) => definition),
  ]
  for (const statement of statements) {
    try {
      await client.query(statement)
    } catch (error) {
      warn(`Not all properties of the database ${name} itself could be set: ${(error as Error).message}.`)
    }
  }
}
