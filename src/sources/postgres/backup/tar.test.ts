import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type TarHeader, TarParser } from './tar.ts'

interface Member {
  name: string
  type: '0' | '2' | '5'
  content: Buffer
  target?: string
}

/** A ustar archive, written independently of the parser: fields by their offsets in POSIX 1003.1. */
function makeTar(members: Member[]): Buffer {
  const blocks: Buffer[] = []
  for (const member of members) {
    blocks.push(makeHeader(member), member.content, Buffer.alloc((512 - (member.content.length % 512)) % 512))
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}

function makeHeader(member: Member, edit: (header: Buffer) => void = () => undefined): Buffer {
  const header = Buffer.alloc(512)
  header.write(member.name, 0, 'latin1')
  header.write('0000640\0', 100)
  header.write('0000145\0', 108)
  header.write('0000150\0', 116)
  header.write(`${member.content.length.toString(8).padStart(11, '0')}\0`, 124)
  header.write('14000000000\0', 136)
  header.write(member.type, 156)
  header.write(member.target ?? '', 157, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  edit(header)
  header.fill(0x20, 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

function readTar(archive: Buffer, cuts: number[] = []): { header: TarHeader; content: Buffer; ended: boolean }[] {
  const entries: { header: TarHeader; content: Buffer; ended: boolean }[] = []
  const parser = new TarParser({
    header: (header) => entries.push({ header, content: Buffer.alloc(0), ended: false }),
    content(piece) {
      const entry = entries.at(-1)
      if (entry) entry.content = Buffer.concat([entry.content, piece])
    },
    fileEnd() {
      const entry = entries.at(-1)
      if (entry) entry.ended = true
    },
  })
  let offset = 0
  for (const cut of [...cuts].sort((a, b) => a - b).concat(archive.length)) {
    parser.push(archive.subarray(offset, Math.min(cut, archive.length)))
    offset = Math.max(offset, Math.min(cut, archive.length))
  }
  parser.end()
  return entries
}

test('an archive reads the same however it is cut', () => {
  const member = fc.record({
    name: fc.stringMatching(/^[a-z0-9_]{1,20}(\/[a-z0-9_]{1,20}){0,2}$/),
    type: fc.constant('0' as const),
    content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  })
  fc.assert(
    fc.property(fc.array(member, { maxLength: 8 }), fc.array(fc.nat(20_000), { maxLength: 30 }), (members, cuts) => {
      const read = readTar(makeTar(members), cuts)
      assert.deepEqual(
        read.map(({ header, content, ended }) => [header.name.toString(), header.size, content, ended]),
        members.map(({ name, content }) => [name, content.length, content, true]),
      )
    }),
  )
})

test('attributes, directories, links and large sizes', () => {
  const archive = makeTar([
    { name: './pg_wal/', type: '5', content: Buffer.alloc(0) },
    { name: 'pg_tblspc/16385', type: '2', content: Buffer.alloc(0), target: '/srv/fast' },
  ])
  const [directory, link] = readTar(archive)
  assert.equal(directory?.header.name.toString(), 'pg_wal')
  assert.equal(directory?.header.type, 'directory')
  assert.deepEqual([directory?.header.mode, directory?.header.uid, directory?.header.gid], [0o640, 0o145, 0o150])
  assert.equal(directory?.header.mtime, 0o14000000000)
  assert.equal(link?.header.target.toString(), '/srv/fast')

  let size = 0
  const parser = new TarParser({
    header: (header) => (size = header.size),
    content: () => undefined,
    fileEnd: () => undefined,
  })
  const twelveGiB = Buffer.from('800000000000000300000000', 'hex')
  parser.push(makeHeader({ name: 'big', type: '0', content: Buffer.alloc(0) }, (header) => twelveGiB.copy(header, 124)))
  assert.equal(size, 12 * 1024 ** 3)
})

test('what cannot be trusted is refused', () => {
  const file = (name: string): Buffer => makeTar([{ name, type: '0', content: Buffer.from('x') }])
  for (const name of ['/etc/passwd', '../up', 'a/../../b', 'a/..'])
    assert.throws(() => readTar(file(name)), { code: 'source-unsuitable' })
  const flipped = file('good')
  flipped[3] = 0x41
  assert.throws(() => readTar(flipped), /checksum/)
  assert.throws(() => readTar(file('good').subarray(0, 700)), /middle/)
  assert.throws(() => readTar(file('good').subarray(0, 1024)), /middle/)
  assert.throws(() => readTar(makeTar([{ name: 'x', type: '3' as '0', content: Buffer.alloc(0) }])), /unknown type/)
})
