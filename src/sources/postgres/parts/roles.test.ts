import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readRoles } from './roles.ts'

test('the roles that a dump names are read from its statements', async () => {
  async function* lines() {
    yield 'ALTER TABLE public.orders OWNER TO shop;'
    yield 'ALTER FUNCTION public.f(a text) OWNER TO "Shop ""2""";'
    yield 'GRANT SELECT,INSERT ON TABLE public.orders TO reader WITH GRANT OPTION;'
    yield 'REVOKE ALL ON SCHEMA public FROM PUBLIC;'
    yield 'ALTER DEFAULT PRIVILEGES FOR ROLE boss IN SCHEMA public GRANT SELECT ON TABLES  TO reader;'
    yield "COMMENT ON TABLE public.orders IS 'OWNER TO nobody;';"
  }
  const { owners, grantees } = await readRoles(lines())
  assert.deepEqual([...owners], ['shop', 'Shop "2"'])
  assert.ok(grantees.has('reader') && !grantees.has('PUBLIC') && !grantees.has('nobody'), [...grantees].join())
})
