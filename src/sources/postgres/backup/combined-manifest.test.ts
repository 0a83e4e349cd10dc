import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { combineManifest, leaveOut } from './combined-manifest.ts'
import { crc32c, formatCrc32c } from './crc32c.ts'
import { Manifest } from './manifest.ts'

const CHECKSUM = `"Checksum-Algorithm": "CRC32C", "Checksum": "${formatCrc32c(crc32c(0, Buffer.from('label')))}"`
const TIME = '"Last-Modified": "2026-11-20 19:00:00 GMT"'

function manifest(lines: string[]): Buffer {
  const body = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7574958337063454321,\n"Files": [\n${lines.join(',\n')}\n],\n"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120" }\n],\n`
  return Buffer.from(`${body}"Manifest-Checksum": "${createHash('sha256').update(body).digest('hex')}"}\n`)
}

const SENT = manifest([
  `{ "Path": "backup_label", "Size": 300, ${TIME}, ${CHECKSUM} }`,
  `{ "Encoded-Path": "6f6464ff", "Size": 5, ${TIME}, ${CHECKSUM} }`,
  `{ "Path": "base/5/INCREMENTAL.1259", "Size": 12, ${TIME}, ${CHECKSUM} }`,
  `{ "Path": "base/5/1260", "Size": 5, ${TIME}, ${CHECKSUM} }`,
])

test('changed blocks become the file that they make, without a checksum nobody has; all else stays to the letter', () => {
  const edited = new Map([
    ['base/5/1259', { size: 81_920 }],
    ['backup_label', { size: 5, checksum: { algorithm: 'CRC32C', value: '01020304' } }],
  ])
  const expected = manifest([
    `{ "Path": "backup_label", "Size": 5, ${TIME}, "Checksum-Algorithm": "CRC32C", "Checksum": "01020304" }`,
    `{ "Encoded-Path": "6f6464ff", "Size": 5, ${TIME}, ${CHECKSUM} }`,
    `{ "Path": "base/5/1259", "Size": 81920, ${TIME} }`,
    `{ "Path": "base/5/1260", "Size": 5, ${TIME}, ${CHECKSUM} }`,
  ])
  assert.equal(combineManifest(SENT, edited).toString(), expected.toString())
  assert.equal(combineManifest(SENT, new Map()).toString(), SENT.toString())
})

test('files are left out, the first and the last too, and the checksum holds', () => {
  const left = leaveOut(SENT, (path) => path === 'backup_label' || path === 'base/5/1260')
  const expected = manifest([
    `{ "Encoded-Path": "6f6464ff", "Size": 5, ${TIME}, ${CHECKSUM} }`,
    `{ "Path": "base/5/INCREMENTAL.1259", "Size": 12, ${TIME}, ${CHECKSUM} }`,
  ])
  assert.equal(left.toString(), expected.toString())
  const parsed = new Manifest()
  parsed.push(left)
  const received = { size: 5, crc: crc32c(0, Buffer.from('label')) }
  assert.throws(() => parsed.verify(new Map([['odd\udcff', received]])), /INCREMENTAL.1259 is in the manifest/)
})
