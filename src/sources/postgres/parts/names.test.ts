import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../../../errors.ts'
import { nearNames, parseName, readings } from './names.ts'

test('names of tables are read as SQL reads them', () => {
  const plain = (text: string) => ({ text, quoted: false })
  const quoted = (text: string) => ({ text, quoted: true })
  assert.deepEqual(parseName('orders'), { schema: null, name: plain('orders') })
  assert.deepEqual(parseName('sales.Orders'), { schema: plain('sales'), name: plain('Orders') })
  assert.deepEqual(parseName('"a.b"."say ""x"""'), { schema: quoted('a.b'), name: quoted('say "x"') })
  assert.deepEqual(parseName('sales."a*"'), { schema: plain('sales'), name: quoted('a*') })
  for (const wrong of ['', '.', 'a.', '.a', 'a.b.c', '"a', 'a"b"', '""', 'a..b'])
    assert.throws(
      () => parseName(wrong),
      (error) => isRegainError(error, 'usage'),
      wrong,
    )
  assert.deepEqual(readings(plain('Orders')), ['Orders', 'orders'])
  assert.deepEqual(readings(quoted('Orders')), ['Orders'])
})

test('near names come first, and only them; without any, what there is', () => {
  const names = ['public.orders', 'public.customers', 'sales.orders_2025', 'public.x']
  assert.equal(nearNames('ordres', names), 'near it is public.orders')
  assert.equal(nearNames('order', names), 'near it are public.orders, sales.orders_2025')
  assert.equal(nearNames('zebra', names), 'there are public.orders, public.x, public.customers, sales.orders_2025')
  assert.equal(nearNames('zebra', []), 'there is none')
})
