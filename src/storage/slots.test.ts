import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { isRegainError } from '../errors.ts'
import { Slots } from './slots.ts'

describe('slots', () => {
  it('let no more than their number work at a time, in order', async () => {
    const slots = new Slots(3)
    let running = 0
    let most = 0
    const order: number[] = []
    const work = async (i: number) => {
      order.push(i)
      most = Math.max(most, ++running)
      await turn()
      running--
      if (i % 5 === 0) throw new Error('failed')
    }
    const ended = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => slots.with(undefined, () => work(i))))
    assert.equal(most, 3)
    assert.deepEqual(order, [...order.keys()])
    assert.equal(ended.filter(({ status }) => status === 'rejected').length, 4)
  })

  it('are not used up by who leaves the line', async () => {
    const slots = new Slots(1)
    const controller = new AbortController()
    let end = () => {}
    const first = slots.with(undefined, () => new Promise<void>((resolve) => (end = resolve)))
    const second = slots.with(controller.signal, async () => assert.fail('was interrupted'))
    const third = slots.with(undefined, async () => 'third')
    controller.abort()
    await assert.rejects(second, (error) => isRegainError(error, 'interrupted'))
    await assert.rejects(
      slots.with(controller.signal, async () => assert.fail('was interrupted')),
      (error) => isRegainError(error, 'interrupted'),
    )
    end()
    await first
    assert.equal(await third, 'third')
    assert.equal(await slots.with(undefined, async () => 'fourth'), 'fourth')
  })
})
