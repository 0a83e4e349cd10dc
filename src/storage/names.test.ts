import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../errors.ts'
import { checkObjectName, checkPrefix, isObjectName, isPrefix } from './names.ts'

describe('names of objects', () => {
  it('are relative paths of plain components', () => {
    const component = fc.stringMatching(/^[A-Za-z0-9._-]{1,20}$/).filter((text) => text !== '.' && text !== '..')
    fc.assert(
      fc.property(fc.array(component, { minLength: 1, maxLength: 9 }), (components) => {
        const name = components.join('/')
        assert.ok(isObjectName(name))
        assert.ok(isPrefix(`${name}/`))
        assert.ok(!isPrefix(name))
        checkObjectName(name)
      }),
    )
  })

  it('never lead out of the store, nor hold anything but the alphabet', () => {
    const hostile = fc.array(fc.constantFrom('..', '.', '', 'a', '/', '\\', '\0', ' ', '+', '..a'), { maxLength: 8 })
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string({ unit: 'binary' }),
          hostile.map((parts) => parts.join('/')),
        ),
        (name) => {
          if (!isObjectName(name)) {
            assert.throws(
              () => checkObjectName(name),
              (error) => isRegainError(error, 'internal'),
            )
            return
          }
          assert.match(name, /^[A-Za-z0-9._/-]{1,200}$/)
          assert.equal(new URL(name, 'file:///store/').pathname, `/store/${name}`)
        },
      ),
    )
  })

  it('are cut and escaped in messages', () => {
    const message = (name: string) => {
      try {
        checkPrefix(name)
      } catch (error) {
        return isRegainError(error, 'internal') ? error.message : 'another error'
      }
      return 'no error'
    }
    assert.match(message('a\n\u001b[1m'), /"a\\n\\u001b\[1m"/)
    assert.ok(message('x'.repeat(1_000_000)).length < 400)
  })
})
