import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Catalog, Column, ForeignKey, Table } from './catalog.ts'
import { planTenants, type TenantPlan } from './plan.ts'
import type { TenantRules } from './rules.ts'

/** 'orders: id, account? > accounts' is a table whose column account may be null and refers to accounts (id). */
function catalogOf(...lines: string[]): Catalog {
  const tables: Table[] = []
  const written: [string, string[], string][] = []
  for (const [index, line] of lines.entries()) {
    const [name = '', rest = ''] = line.split(': ')
    const columns: Column[] = rest.split(', ').flatMap((text) => {
      const [names = '', target] = text.split(' > ')
      const parts = names.split('+').map((part) => ({ name: part.replace('?', ''), notNull: !part.endsWith('?') }))
      if (target) written.push([name, parts.map((part) => part.name), target])
      return parts.map((part) => columnOf(part.name, part.notNull))
    })
    const unique = columns.filter((column, i) => columns.findIndex((one) => one.name === column.name) === i)
    tables.push({
      oid: index + 1,
      schema: 'public',
      name,
      text: `public.${name}`,
      isPartitioned: false,
      isUnlogged: false,
      columns: unique,
      key: ['id'],
      isReadable: true,
    })
  }
  const oidOf = (name: string) => tables.find((table) => table.name === name)!.oid
  const keys = written.map(
    ([child, columns, parent]): ForeignKey => ({
      name: `${child}_${columns.join('_')}`,
      child: oidOf(child),
      parent: oidOf(parent),
      columns,
      parentColumns: columns.map(() => 'id'),
      operators: columns.map(() => '='),
    }),
  )
  return { tables, keys }
}

function columnOf(name: string, notNull: boolean): Column {
  const type = { type: 'integer', baseType: 'integer', looseCollation: null, isCollatable: false, equals: '=' }
  return { name, notNull, ...type, hasDefault: false, isGenerated: false, identity: '' }
}

const RULES: TenantRules = { table: 'accounts', key: 'id', columns: [], owners: {}, shared: [], exclude: [] }

function planOf(catalog: Catalog, rules: Partial<TenantRules> = {}): TenantPlan {
  const planned = planTenants(catalog, { ...RULES, ...rules })
  if ('problems' in planned) assert.fail(planned.problems.join(' '))
  return planned.plan
}

/** By name: what decides. */
function decisions({ owned }: TenantPlan): Record<string, string> {
  return Object.fromEntries(
    owned.map(({ table, by, circle }) => [
      table.name,
      (by.kind === 'column' ? `= ${by.column.name}` : by.keys.map(({ name }) => name).join(' else ')) +
        (circle.length > 0 ? ' in a circle' : ''),
    ]),
  )
}

test('what refers to a row of a tenant is of that tenant, by the key that leads there nearest', () => {
  const plan = planOf(
    catalogOf(
      'accounts: id, plan > plans',
      'plans: id, parent? > plans',
      'orders: id, product > products, account > accounts',
      'products: id, account > accounts',
      'items: id, order > orders, product > products',
      'countries: id',
    ),
  )
  assert.deepEqual(decisions(plan), {
    accounts: '= id',
    orders: 'orders_account',
    products: 'products_account',
    items: 'items_order',
  })
  // Another key of an order, or an item, may lead to another tenant: that is looked at, and never followed.
  assert.deepEqual(
    plan.crossings.map(({ name }) => name),
    ['orders_product', 'items_product'],
  )
  assert.deepEqual(
    plan.references.map(({ table, circle }) => [table.name, circle]),
    [['plans', [2]]],
  )
  assert.deepEqual(
    plan.outside.map(({ name }) => name),
    ['countries'],
  )
})

test('a key that may be null is followed by others, the first of which that is never null is the last', () => {
  const plan = planOf(
    catalogOf(
      'accounts: id',
      'users: id, account > accounts',
      'notes: id, account? > accounts, user? > users, parent? > notes',
      'marks: id, other? > users, user > users, account? > accounts',
    ),
  )
  assert.deepEqual(decisions(plan), {
    accounts: '= id',
    users: 'users_account',
    notes: 'notes_account else notes_user else notes_parent in a circle',
    marks: 'marks_account else marks_user',
  })
  // A note with no key at all is nobody's: it goes along where a tenant's note refers to it.
  assert.deepEqual(
    plan.references.map(({ table, nobody }) => [table.name, nobody !== null]),
    [['notes', true]],
  )
})

test('tables in a circle of keys are told together', () => {
  const plan = planOf(catalogOf('accounts: id', 'a: id, account? > accounts, b? > b', 'b: id, a > a', 'c: id, b > b'))
  assert.deepEqual(decisions(plan), {
    accounts: '= id',
    a: 'a_account else a_b in a circle',
    b: 'b_a in a circle',
    c: 'c_b',
  })
  // What is never needed to tell whose a row is makes no circle.
  const plain = planOf(catalogOf('accounts: id, boss? > users', 'users: id, account > accounts, chief? > users'))
  assert.deepEqual(decisions(plain), { accounts: '= id', users: 'users_account' })
})

test('a column that names the tenant decides, and so does what owners says; shared and exclude take tables out', () => {
  const catalog = catalogOf(
    'accounts: id',
    'plans: id, maker? > accounts',
    'subscriptions: id, plan > plans, tenant',
    'messages: id, sender > users, receiver? > users',
    'users: id, account > accounts',
    'audit: id, user > users',
  )
  const rules = {
    columns: ['tenant'],
    owners: { messages: ['receiver'] },
    shared: ['plans'],
    exclude: ['public.audit*'],
  }
  const plan = planOf(catalog, rules)
  assert.deepEqual(decisions(plan), {
    accounts: '= id',
    subscriptions: '= tenant',
    users: 'users_account',
    messages: 'messages_receiver',
  })
  assert.deepEqual(
    plan.references.map(({ table }) => table.name),
    ['plans'],
  )
  // A plan that goes along may have been made by another tenant, who does not.
  assert.deepEqual(
    plan.crossings.map(({ name }) => name),
    ['plans_maker', 'messages_sender', 'messages_receiver'],
  )
  assert.deepEqual(
    plan.outside.map(({ name }) => name),
    ['audit'],
  )
})

for (const [what, rules, problem] of [
  ['the table of tenants is not there', { table: 'acounts' }, 'table: there is no table acounts, or it is excluded.'],
  ['its column is not', { key: 'name' }, 'key: public.accounts has no column name.'],
  ['no table has a column', { columns: ['tenant_id'] }, 'columns: no table has a column tenant_id.'],
  [
    'owners names no key',
    { owners: { users: ['acount'] } },
    'owners: public.users has no column or foreign key (acount).',
  ],
  [
    'owners leads nowhere',
    { owners: { users: ['country'] } },
    'owners: the columns of public.users do not lead to accounts.',
  ],
] as const) {
  test(`refused: ${what}`, () => {
    const catalog = catalogOf('accounts: id', 'users: id, account > accounts, country > countries', 'countries: id')
    assert.deepEqual(planTenants(catalog, { ...RULES, ...rules }), { problems: [problem] })
  })
}
