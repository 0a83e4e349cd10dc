import { open, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { isMap, type Pair, parseDocument, type YAMLMap } from 'yaml'
import { RegainError } from '../errors.ts'
import { syncFolder } from '../filesystem/durable.ts'

type Setting = string | Readonly<Record<string, string>>

/**
 * Adds a setting to a configuration, which otherwise stays as it is to the last comment. Rejects with
 * `precondition-failed`, and changes nothing, if there is no place for it that is certain to be right: then a person adds it.
 *
 * Written beside the file and synced, then put in its place: at any crash the file is the old or the new one.
 */
export async function addSetting(file: string, path: readonly string[], key: string, value: Setting): Promise<void> {
  // Where configurations are managed, the name is often a link.
  const target = await realpath(file)
  const handle = await open(target, 'r')
  let before: string
  try {
    before = await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
  const after = withSetting(before, path, key, value)
  if (after === null) {
    throw new RegainError('precondition-failed', `${file} could not be changed by itself, and is as it was.`, {
      hint: `Add this below ${path.join('.')}: ${key}: ${JSON.stringify(value)}`,
    })
  }
  await replaceFile(target, after)
}

/** Null if the result would not be the same configuration with this setting added. */
export function withSetting(text: string, path: readonly string[], key: string, value: Setting): string | null {
  const document = parseDocument(text)
  const map = document.getIn(path)
  if (document.errors.length > 0 || !isMap(map) || map.has(key) || map.items.length === 0) return null
  const setting = `${key}: ${JSON.stringify(value)}`
  const after = map.flow === true ? inFlow(text, map, setting) : inBlock(text, map, setting)
  if (after === null) return null
  const expected = document.toJS() as unknown
  const parent = path.reduce<Record<string, unknown>>((at, part) => at[part] as never, expected as never)
  parent[key] = value
  const changed = parseDocument(after)
  const isRight = changed.errors.length === 0 && isDeepStrictEqual(changed.toJS(), expected)
  return isRight ? after : null
}

/** Before the closing brace, after what stands there last. */
function inFlow(text: string, map: YAMLMap, setting: string): string | null {
  const end = map.range?.[1]
  if (end === undefined || text[end - 1] !== '}') return null
  const inside = text.slice(0, end - 1).trimEnd()
  const comma = inside.endsWith(',') ? ' ' : ', '
  return `${inside}${comma}${setting} ${text.slice(end - 1)}`
}

/** On a line of its own before the first setting, as far to the right as that one. */
function inBlock(text: string, map: YAMLMap, setting: string): string | null {
  const first = (map.items[0] as Pair).key as { range?: [number, number, number] } | null
  const start = first?.range?.[0]
  if (start === undefined) return null
  const lineStart = text.lastIndexOf('\n', start - 1) + 1
  const indent = text.slice(lineStart, start)
  if (indent.trim() !== '') return null
  return `${text.slice(0, lineStart)}${indent}${setting}\n${text.slice(lineStart)}`
}

async function replaceFile(target: string, text: string): Promise<void> {
  const { mode, uid, gid } = await stat(target)
  const temporary = `${target}.new`
  const handle = await open(temporary, 'wx', mode & 0o777)
  try {
    try {
      await handle.chmod(mode & 0o7777)
      // Only root can, and only for root can it be another one's.
      if (process.getuid?.() === 0) await handle.chown(uid, gid)
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, target)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncFolder(dirname(target))
}
