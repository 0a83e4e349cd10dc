import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import { deriveKek } from '../../keys/argon2id.ts'
import { keyFileText } from '../../keys/key-file-text.ts'
import { kekId, unwrapKey, wrapKey } from '../../keys/key-wrap.ts'
import { decodeLogPiece } from '../log/log-piece.ts'
import { gearTable } from '../packs/chunker.ts'
import { type EpochRecord, encodeClear, type KeyRecord, type RepositoryRecord } from './clear.ts'
import { chunkId, deriveDomainKeys, deriveIdentity, deriveIdentityWrap, deriveKeyRing } from './domain-keys.ts'
import { encodeIndexSegment } from './index-segment.ts'
import { pageHead } from './listing-page.ts'
import { indexName, packName } from './object-names.ts'
import { encodeDirectory, type Group } from './pack.ts'
import { openObject, sealObject } from './sealed.ts'

/**
 * The test vectors of docs/format.md: fixed keys, salts and inputs, and the exact bytes they give. The format is frozen:
 * a change that makes this fail makes existing repositories unreadable. Checked by this code and, independently, by
 * recover.py with its own openssl and zstd.
 */
const FILE = new URL('../../../test/golden/format/vectors.json', import.meta.url)
const PYTHON = fileURLToPath(new URL('./companions', import.meta.url))

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
const kek = Buffer.from(Array.from({ length: 32 }, (_, i) => 0x20 + i))
const domain = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
const keys = deriveDomainKeys(key, domain, 1)
const salt = (first: number) => Buffer.from(Array.from({ length: 32 }, (_, i) => (first + i) & 0xff))
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** 'hello ' eight times as one zstd frame; written down, because compressors may change what they give. */
const HELLO_FRAME = Buffer.from('28b52ffd00586500003068656c6c6f200100039522', 'hex')

test('the test vectors of the format are what this code gives', async () => {
  assert.deepEqual(await computed(), JSON.parse(readFileSync(FILE, 'utf8')))
})

test('recover.py agrees with the test vectors', () => {
  const { status, stderr, stdout } = spawnSync('python3', ['-B', '-c', CHECK, fileURLToPath(FILE)], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, PYTHONPATH: PYTHON },
  })
  assert.equal(status, 0, stderr)
  assert.equal(stdout.trim(), 'agreed')
})

async function computed(): Promise<Record<string, unknown>> {
  const argon2id = { salt: '00112233445566778899aabbccddeeff', memoryKiB: 256, passes: 2, parallelism: 2 }
  const passphraseKek = await deriveKek(Buffer.from('caf\u00e9', 'utf8'), argon2id)
  return {
    keys: {
      domainKey: key.toString('hex'),
      domain: domain.toString('hex'),
      epoch: 1,
      chunkId: keys.id.toString('hex'),
      chunker: keys.chunker.toString('hex'),
      seal: keys.seal.toString('hex'),
      listing: keys.listing.toString('hex'),
      clear: keys.clear.toString('hex'),
    },
    wrap: {
      kek: kek.toString('hex'),
      kekId: kekId(kek),
      wrapped: wrapKey(kek, key).toString('base64'),
      keyFileLine: keyFileText(kek).split('\n').at(-2),
    },
    passphrase: {
      passphraseUtf8: Buffer.from('caf\u00e9').toString('hex'),
      argon2id,
      kek: passphraseKek.toString('hex'),
    },
    chunkIds: { '': id(''), hello: id('hello') },
    gearTableHead: [...gearTable(keys.chunker).subarray(0, 4)],
    sealed: sealedVectors(),
    pack: packVectors(),
    listingPage: listingVector(),
    clear: clearVectors(),
    log: logVector(),
    secondEpoch: secondEpochVector(),
  }
}

function secondEpochVector(): unknown {
  const second = { epoch: 2, key: Buffer.from(Array.from({ length: 32 }, (_, i) => 0x80 + i)) }
  const identity = deriveIdentity(key, domain)
  const identityWrap = deriveIdentityWrap(second, domain)
  const ring = deriveKeyRing(domain, identity, [second, { epoch: 1, key }])
  const name = `keys/${domain.toString('hex')}-2-${kekId(kek)}.json`
  const record: KeyRecord = {
    regain: 'key',
    format: 1,
    domain: domain.toString('hex'),
    epoch: 2,
    label: 'main',
    addedAt: '2026-01-02T03:04:05.678Z',
    type: 'file',
    kek: kekId(kek),
    wrapped: wrapKey(kek, second.key).toString('base64'),
    identity: wrapKey(identityWrap, identity).toString('base64'),
  }
  const context = 'pins/x'
  const inFirst = sealObject(keys, 'N', context, Buffer.from('sealed in epoch 1'), salt(0xe0))
  assert.equal(openObject(ring, 'N', context, inFirst, context).toString(), 'sealed in epoch 1')
  assert.throws(() => openObject(keys, 'N', context, sealObject(ring, 'N', context, inFirst, salt(0xe1)), context))
  return {
    domainKey: second.key.toString('hex'),
    identityWrap: identityWrap.toString('hex'),
    seal: ring.seal.toString('hex'),
    chunkId: ring.id.toString('hex'),
    clear: { name, text: encodeClear(ring, name, record).toString() },
    sealed: sealObject(ring, 'N', context, Buffer.from('sealed in epoch 2'), salt(0xf0)).toString('hex'),
  }
}

function id(text: string): string {
  return chunkId(keys, Buffer.from(text)).toString('hex')
}

function sealedVectors(): unknown[] {
  const session = 'sessions/0123456789abcdef0123456789abcdef'
  return [
    { kind: 'S', context: session, salt: 0xa0, plain: Buffer.from('{"session":"0123456789abcdef0123456789abcdef"}') },
    { kind: 'N', context: 'pins/x', salt: 0xb0, plain: Buffer.alloc(0) },
    { kind: 'L', context: 'log/db/segments/00000001/a', salt: 0xc0, plain: Buffer.alloc(262144, 'frame') },
    { kind: 'P', context: '', salt: 0xd0, plain: Buffer.alloc(262145, 'frame') },
  ].map((vector) => {
    const sealed = sealObject(keys, vector.kind as 'S', vector.context, vector.plain, salt(vector.salt))
    const small = vector.plain.length < 1024
    return {
      kind: vector.kind,
      context: vector.context,
      salt: salt(vector.salt).toString('hex'),
      plain: small
        ? vector.plain.toString('hex')
        : `the bytes of "frame" again and again, ${vector.plain.length} in all`,
      plainSha256: sha256(vector.plain),
      header: sealed.subarray(0, 96).toString('hex'),
      ...(small
        ? { sealed: sealed.toString('hex') }
        : { lastFrame: sealed.subarray(vector.plain.length > 262144 ? -17 : -16).toString('hex') }),
      sealedBytes: sealed.length,
      sealedSha256: sha256(sealed),
    }
  })
}

function packVectors(): unknown {
  const raw = zstdDecompressSync(HELLO_FRAME)
  const stored = Buffer.from('stored as it is')
  const groups: Group[] = [
    {
      offset: 0,
      storedBytes: HELLO_FRAME.length,
      rawBytes: raw.length,
      method: 1,
      chunks: [
        { id: chunkId(keys, raw.subarray(0, 18)), offset: 0, length: 18 },
        { id: chunkId(keys, raw.subarray(18)), offset: 18, length: raw.length - 18 },
      ],
    },
    {
      offset: HELLO_FRAME.length,
      storedBytes: stored.length,
      rawBytes: stored.length,
      method: 0,
      chunks: [{ id: chunkId(keys, stored), offset: 0, length: stored.length }],
    },
  ]
  const directory = encodeDirectory(groups)
  const footer = Buffer.alloc(8)
  footer.writeUInt32LE(directory.length)
  const plain = Buffer.concat([HELLO_FRAME, stored, directory, footer])
  const pack = sealObject(keys, 'P', '', plain, salt(0x10))
  const index = encodeIndexSegment([{ name: Buffer.from(sha256(pack), 'hex'), sizeBytes: pack.length, directory }])
  const segment = sealObject(keys, 'I', '', index, salt(0x20))
  return {
    chunks: [raw.subarray(0, 18).toString(), raw.subarray(18).toString(), stored.toString()],
    directory: directory.toString('hex'),
    plain: plain.toString('hex'),
    salt: salt(0x10).toString('hex'),
    sealed: pack.toString('hex'),
    name: packName(sha256(pack)),
    index: { plain: index.toString('hex'), sealed: segment.toString('hex'), name: indexName(sha256(segment)) },
  }
}

function listingVector(): unknown {
  const owner = { uid: 1000, gid: 1000, owner: 'ann', group: 'ann' }
  const entries = [
    { path: '', type: 'directory', mode: 0o755, ...owner, mtime: '1700000000000000001' },
    { path: 'caf\u00e9 \udcff', type: 'file', mode: 0o644, ...owner, mtime: '-1', size: 5, chunks: base64Id('hello') },
    { path: 'link', type: 'symlink', mode: 0o777, ...owner, mtime: '0', target: '../\ud83d\ude00\udc80' },
    {
      path: 'sparse',
      type: 'file',
      mode: 0o600,
      ...owner,
      mtime: '1',
      size: 1048576,
      extents: [[4096, 5]],
      chunks: base64Id('hello'),
    },
  ]
  const page = Buffer.from(pageHead(0) + entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
  const root = Buffer.from(
    `${pageHead(1)}${JSON.stringify({ first: '', page: chunkId(keys, page).toString('hex'), entries: 4 })}\n`,
  )
  return {
    page: page.toString('hex'),
    id: chunkId(keys, page).toString('hex'),
    root: root.toString(),
    rootId: chunkId(keys, root).toString('hex'),
  }
}

function base64Id(text: string): string {
  return chunkId(keys, Buffer.from(text)).toString('base64')
}

function clearVectors(): unknown {
  const repository: RepositoryRecord = {
    regain: 'repository',
    format: 1,
    id: 'ffeeddccbbaa99887766554433221100',
    service: 'shop',
    domain: domain.toString('hex'),
    epoch: 1,
    createdAt: '2026-01-02T03:04:05.678Z',
    companions: { 'FORMAT.txt': sha256(Buffer.from('format')), 'recover.py': sha256(Buffer.from('recover')) },
  }
  const name = `keys/${domain.toString('hex')}-1-${kekId(kek)}.json`
  const record: KeyRecord = {
    regain: 'key',
    format: 1,
    domain: domain.toString('hex'),
    epoch: 1,
    label: 'caf\u00e9',
    addedAt: '2026-01-02T03:04:05.678Z',
    type: 'file',
    kek: kekId(kek),
    wrapped: wrapKey(kek, key).toString('base64'),
  }
  const epochName = `keys/${domain.toString('hex')}-1.json`
  const epoch: EpochRecord = {
    regain: 'epoch',
    format: 1,
    domain: domain.toString('hex'),
    epoch: 1,
    oldest: 1,
    keys: [kekId(kek)],
    changedAt: '2026-01-02T03:04:05.678Z',
  }
  return [
    { name: 'repository.json', text: encodeClear(keys, 'repository.json', repository).toString() },
    { name, text: encodeClear(keys, name, record).toString() },
    { name: epochName, text: encodeClear(keys, epochName, epoch).toString() },
  ]
}

function logVector(): unknown {
  const name = 'log/db/tails/00000001/000000010000000000000001/0000000000'
  const plain = Buffer.concat([Buffer.from('{"until":"2026-01-02T03:04:05.678Z","bytes":48}\n'), HELLO_FRAME])
  const sealed = sealObject(keys, 'L', name, plain, salt(0x30))
  const { bytes, meta } = decodeLogPiece(openObject(keys, 'L', name, sealed, name), name)
  assert.deepEqual(unwrapKey(kek, wrapKey(kek, key)), key)
  return { name, sealed: sealed.toString('hex'), bytes: bytes.toString(), until: meta.until }
}

const CHECK = `
import base64, hashlib, hmac, json, sys
import recover as r
v = json.load(open(sys.argv[1], encoding='utf-8'))
k, key, domain = v['keys'], bytes.fromhex(v['keys']['domainKey']), bytes.fromhex(v['keys']['domain'])
first = r.EpochKeys(key, domain, k['epoch'])
keys = r.domain_keys(domain, {1: (first, {})})
assert [keys.id.hex(), first.seal.hex(), first.clear.hex()] == [k['chunkId'], k['seal'], k['clear']]
assert r.unwrap(bytes.fromhex(v['wrap']['kek']), base64.b64decode(v['wrap']['wrapped'])) == key
assert r.unwrap(bytes(32), base64.b64decode(v['wrap']['wrapped'])) is None
assert r.key_from_passphrase('cafe\\u0301', v['passphrase']['argon2id']).hex() == v['passphrase']['kek']
def chunk_id(data): return hmac.digest(keys.id, data, 'sha256').hex()
for text, expected in v['chunkIds'].items(): assert chunk_id(text.encode()) == expected
def unseal(kind, context, data): return r.Sealed(keys, kind, context, data[:96], len(data), 'x').open(data[96:])
for s in v['sealed']:
    if 'sealed' in s: assert unseal(s['kind'], s['context'], bytes.fromhex(s['sealed'])).hex() == s['plain']
pack = bytes.fromhex(v['pack']['sealed'])
assert v['pack']['name'].endswith(hashlib.sha256(pack).hexdigest())
plain = unseal('P', '', pack)
assert plain.hex() == v['pack']['plain']
groups, chunks, size = r.parse_directory(bytes.fromhex(v['pack']['directory']), 'x')
raw = r.decompress(groups, [plain[g.offset:g.offset + g.stored] for g in groups])
found = [raw[g][o:o + n] for _, g, o, n in chunks]
assert [c.decode() for c in found] == v['pack']['chunks']
assert [chunk_id(c) for c in found] == [c[0].hex() for c in chunks]
assert unseal('I', '', bytes.fromhex(v['pack']['index']['sealed'])).hex() == v['pack']['index']['plain']
page = bytes.fromhex(v['listingPage']['page'])
assert chunk_id(page) == v['listingPage']['id']
paths = [json.loads(line)['path'].encode('utf-8', 'surrogateescape') for line in page.decode().split('\\n')[1:-1]]
assert paths == [b'', b'caf\\xc3\\xa9 \\xff', b'link', b'sparse']
for c in v['clear']:
    record, text = r.clear_record(c['text'])
    assert hmac.new(first.clear, c['name'].encode() + b'\\0' + text, 'sha256').hexdigest() == record['mac']
line, _, body = unseal('L', v['log']['name'], bytes.fromhex(v['log']['sealed'])).partition(b'\\n')
assert r.zstd(body, json.loads(line)['bytes']).decode() == v['log']['bytes']
s = v['secondEpoch']
second = r.EpochKeys(bytes.fromhex(s['domainKey']), domain, 2)
record, text = r.clear_record(s['clear']['text'])
assert hmac.new(second.clear, s['clear']['name'].encode() + b'\\0' + text, 'sha256').hexdigest() == record['mac']
assert r.unwrap(bytes.fromhex(v['wrap']['kek']), base64.b64decode(record['wrapped'])).hex() == s['domainKey']
keys = r.domain_keys(domain, {1: (first, {}), 2: (second, record)})
assert keys.id.hex() == s['chunkId']
assert unseal('N', 'pins/x', bytes.fromhex(s['sealed'])) == b'sealed in epoch 2'
assert unseal('P', '', pack) == plain
print('agreed')
`
