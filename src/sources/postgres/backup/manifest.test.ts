import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { crc32c, formatCrc32c } from './crc32c.ts'
import { Manifest } from './manifest.ts'

const FILES = new Map<string, Buffer>([
  ['backup_label', Buffer.from('label')],
  ['base/5/1259', Buffer.alloc(8192, 3)],
  ['base/5/empty', Buffer.alloc(0)],
  ['odd \udcff name', Buffer.from('x')],
])

/** As src/backend/backup/backup_manifest.c writes it: a file a line, its name in hex where it is not UTF-8. */
function manifestText(): string {
  const lines = [...FILES].map(([path, content]) => {
    const name = path.isWellFormed()
      ? `"Path": "${path}"`
      : `"Encoded-Path": "${Buffer.from('6f646420ff206e616d65', 'hex').toString('hex')}"`
    return `{ ${name}, "Size": ${content.length}, "Last-Modified": "2026-11-20 19:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "${formatCrc32c(crc32c(0, content))}" }`
  })
  const body = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7574958337063454321,\n"Files": [\n${lines.join(',\n')}\n],\n"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120" }\n],\n`
  return `${body}"Manifest-Checksum": "${createHash('sha256').update(body).digest('hex')}"}\n`
}

function verify(change: (received: Map<string, { size: number; crc: number }>) => void, text = manifestText()): void {
  const received = new Map(
    [...FILES].map(([path, content]) => [path, { size: content.length, crc: crc32c(0, content) }]),
  )
  change(received)
  const manifest = new Manifest()
  for (let at = 0; at < text.length; at += 100) manifest.push(Buffer.from(text.slice(at, at + 100), 'latin1'))
  manifest.verify(received)
}

test('what arrived as the server sent it passes', () => {
  verify(() => undefined)
})

test('every difference between what arrived and what was sent is found', () => {
  const refused = { code: 'source-unavailable' }
  assert.throws(() => verify((received) => received.delete('base/5/empty')), {
    ...refused,
    message: /base\/5\/empty is in the manifest but did not arrive/,
  })
  assert.throws(() => verify((received) => received.set('extra', { size: 0, crc: 0 })), {
    ...refused,
    message: /sent the file extra/,
  })
  assert.throws(() => verify((received) => received.set('base/5/1259', { size: 8191, crc: 1 })), {
    ...refused,
    message: /8191 bytes instead of 8192/,
  })
  assert.throws(() => verify((received) => received.set('base/5/1259', { size: 8192, crc: 1 })), {
    ...refused,
    message: /does not match its checksum/,
  })
  const text = manifestText()
  assert.throws(() => verify(() => undefined, text.replace('"Size": 5', '"Size": 6')), {
    ...refused,
    message: /its own checksum/,
  })
  assert.throws(() => verify(() => undefined, text.slice(0, -20)), { ...refused, message: /its own checksum/ })
})
