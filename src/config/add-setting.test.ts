import assert from 'node:assert/strict'
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { isRegainError } from '../errors.ts'
import { addSetting, withSetting } from './add-setting.ts'

describe('a setting added to a configuration', () => {
  const folder = mkdtempSync(join(tmpdir(), 'regain-setting-'))
  after(() => rmSync(folder, { recursive: true }))
  const add = (text: string) => withSetting(text, ['destinations', 'nas'], 'hostKey', 'SHA256:a/b+c')

  it('leaves everything else as it is, comments included', () => {
    assert.equal(
      add('destinations: # where\n  nas: { type: sftp, host: "a" }   # ours\n  other: { type: local }\n'),
      'destinations: # where\n  nas: { type: sftp, host: "a", hostKey: "SHA256:a/b+c" }   # ours\n  other: { type: local }\n',
    )
    assert.equal(
      add('destinations:\n  nas:\n    # a comment\n    type: sftp # b\n    limits:\n      upload: 1MB\nkeys: {}\n'),
      'destinations:\n  nas:\n    # a comment\n    hostKey: "SHA256:a/b+c"\n    type: sftp # b\n    limits:\n      upload: 1MB\nkeys: {}\n',
    )
    assert.equal(
      add('destinations: { nas: {type: sftp,} }'),
      'destinations: { nas: {type: sftp, hostKey: "SHA256:a/b+c" } }',
    )
  })

  it('may be several below one name', () => {
    assert.equal(
      withSetting('services:\n  shop:\n    key: main\n', ['services', 'shop'], 'limits', { busy: '100%' }),
      'services:\n  shop:\n    limits: {"busy":"100%"}\n    key: main\n',
    )
  })

  it('is left to a person where its place is not certain', () => {
    for (const text of [
      'destinations: {}',
      'destinations:\n  nas: {}\n',
      'destinations:\n  nas: { type: sftp, hostKey: x }\n',
      'destinations:\n  nas: { type: sftp # why\n  }\n',
      'a: &a { type: sftp }\ndestinations:\n  nas: *a\n',
      'destinations: [',
    ])
      assert.equal(add(text), null, text)
  })

  it('is put in place at once, behind a link, with the rights that the file had', async () => {
    const file = join(folder, 'real.yaml')
    const link = join(folder, 'regain.yaml')
    writeFileSync(file, 'destinations: { nas: { type: sftp } }\n')
    chmodSync(file, 0o640)
    symlinkSync('real.yaml', link)
    await addSetting(link, ['destinations', 'nas'], 'hostKey', 'x')
    assert.equal(readFileSync(file, 'utf8'), 'destinations: { nas: { type: sftp, hostKey: "x" } }\n')
    assert.equal(lstatSync(file).mode & 0o777, 0o640)
    assert.ok(lstatSync(link).isSymbolicLink())
    await assert.rejects(addSetting(link, ['destinations', 'nas'], 'hostKey', 'y'), (error) =>
      isRegainError(error, 'precondition-failed'),
    )
    assert.deepEqual(readdirSync(folder).sort(), ['real.yaml', 'regain.yaml'])
  })
})
