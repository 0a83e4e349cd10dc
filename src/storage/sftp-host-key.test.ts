import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { isRegainError } from '../errors.ts'
import { findKnownHosts, fingerprintOf, keyTypeOf, ruleOfFingerprint, ruleOfKnownHosts } from './sftp-host-key.ts'

/** Against OpenSSH's own tools, which make and hash these files. */
describe('host keys', () => {
  const folder = mkdtempSync(join(tmpdir(), 'regain-hosts-'))
  after(() => rmSync(folder, { recursive: true }))
  const makeKey = (type: string): string => {
    const path = join(folder, `${type}-${Math.random()}`)
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', path])
    return readFileSync(`${path}.pub`, 'utf8').split(' ').slice(0, 2).join(' ')
  }
  const bytesOf = (key: string) => Buffer.from(key.split(' ')[1]!, 'base64')
  const ed25519 = makeKey('ed25519')
  const ecdsa = makeKey('ecdsa')

  it('have the fingerprint that ssh-keygen prints', () => {
    for (const key of [ed25519, ecdsa]) {
      const printed = execFileSync('ssh-keygen', ['-l', '-f', '-'], { input: `${key}\n`, encoding: 'utf8' })
      assert.equal(fingerprintOf(bytesOf(key)), printed.split(' ')[1])
      assert.equal(keyTypeOf(bytesOf(key)), key.split(' ')[0])
    }
    assert.equal(keyTypeOf(Buffer.alloc(0)), '')
  })

  it('are accepted by their fingerprint, and no others', () => {
    const rule = ruleOfFingerprint(`${fingerprintOf(bytesOf(ed25519))}=`)
    assert.ok(rule.accepts(bytesOf(ed25519)))
    assert.ok(!rule.accepts(bytesOf(ecdsa)))
    assert.ok(!rule.accepts(Buffer.alloc(0)))
  })

  it('are found as ssh finds them: by name, port, pattern, and hash', () => {
    const accepted = (line: string, host: string, port = 22) => findKnownHosts(line, host, port).accepted.length > 0
    assert.ok(accepted(`nas.example ${ed25519}`, 'nas.example'))
    assert.ok(accepted(`NAS.example ${ed25519} comment`, 'nas.Example'))
    assert.ok(accepted(`other,10.0.0.1 ${ed25519}`, '10.0.0.1'))
    assert.ok(accepted(`*.example ${ed25519}`, 'nas.example'))
    assert.ok(accepted(`na?.example ${ed25519}`, 'nas.example'))
    assert.ok(accepted(`[nas.example]:2222 ${ed25519}`, 'nas.example', 2222))
    assert.ok(!accepted(`nas.example ${ed25519}`, 'nas.example', 2222))
    assert.ok(!accepted(`[nas.example]:2222 ${ed25519}`, 'nas.example'))
    assert.ok(!accepted(`nasXexample ${ed25519}`, 'nas.example'))
    assert.ok(!accepted(`nas.example ${ed25519}`, 'nasXexample'))
    assert.ok(!accepted(`*.example,!nas.example ${ed25519}`, 'nas.example'))
    assert.ok(!accepted(`# nas.example ${ed25519}`, 'nas.example'))
    assert.ok(!accepted(`@cert-authority nas.example ${ed25519}`, 'nas.example'))
    const path = join(folder, 'hashed')
    writeFileSync(path, `nas.example ${ed25519}\n[nas.example]:2222 ${ecdsa}\n`)
    execFileSync('ssh-keygen', ['-q', '-H', '-f', path], { stdio: 'ignore' })
    const hashed = readFileSync(path, 'utf8')
    assert.ok(!hashed.includes('nas'))
    assert.deepEqual(findKnownHosts(hashed, 'nas.example', 22).accepted, [bytesOf(ed25519)])
    assert.deepEqual(findKnownHosts(hashed, 'nas.example', 2222).accepted, [bytesOf(ecdsa)])
    assert.deepEqual(findKnownHosts(hashed, 'other.example', 22).accepted, [])
  })

  it('that were revoked count no more', async () => {
    const path = join(folder, 'revoked')
    writeFileSync(path, `nas ${ed25519}\nnas ${ecdsa}\n@revoked * ${ed25519}\n`)
    const rule = await ruleOfKnownHosts(path, 'nas', 22)
    assert.ok(rule.accepts(bytesOf(ecdsa)))
    assert.ok(!rule.accepts(bytesOf(ed25519)))
    assert.deepEqual(rule.keyTypes, ['ecdsa-sha2-nistp256'])
  })

  it('must be known before anything is sent', async () => {
    const path = join(folder, 'known')
    writeFileSync(path, `nas ${ed25519}\n`)
    const isDenied = (error: unknown) => isRegainError(error, 'storage-denied')
    await assert.rejects(ruleOfKnownHosts(path, 'other', 22), isDenied)
    await assert.rejects(ruleOfKnownHosts(join(folder, 'none'), 'nas', 22), isDenied)
  })
})
