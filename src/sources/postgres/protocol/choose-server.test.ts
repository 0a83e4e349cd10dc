import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../../../test/support/postgres.ts'
import { RegainError } from '../../../errors.ts'
import { type AskedServer, chooseServer, pickServer, type ServerState } from './choose-server.ts'
import { describeServers, parseServerUrl, type SessionKind } from './connection-url.ts'

const primary = (timeline = 1, readOnly = false): ServerState => ({ standby: false, readOnly, systemId: '7', timeline })
const standby: ServerState = { standby: true, readOnly: true, systemId: '7', timeline: null }
const away = new RegainError('source-unavailable', 'nothing answers there')

function picked(wanted: SessionKind, ...answers: AskedServer['answer'][]): number | null {
  const { candidates } = parseServerUrl(`postgres://${answers.map((_, i) => `h${i}`).join(',')}/`)
  const asked = answers.map((answer, i) => ({ config: candidates[i]!, answer }))
  const server = pickServer(asked, wanted)
  return server === null ? null : asked.indexOf(server)
}

test('the first server that is wanted is taken, and of several primaries the newest timeline’s', () => {
  assert.equal(picked('any', away, standby, primary()), 1)
  assert.equal(picked('any', null, away), null)
  assert.equal(picked('primary', standby, primary()), 1)
  assert.equal(picked('primary', primary(1), standby, primary(3), primary(2)), 2)
  assert.equal(picked('any', primary(1), primary(2)), 1)
  assert.equal(picked('primary', primary(1, true), standby), 0)
  assert.equal(picked('read-write', primary(1, true), standby), null)
  assert.equal(picked('read-write', standby, primary()), 1)
  assert.equal(picked('read-only', primary(), standby), 1)
  assert.equal(picked('standby', primary(), away), null)
  assert.equal(picked('prefer-standby', primary(), standby), 1)
  assert.equal(picked('prefer-standby', primary(), away), 0)
})

test('URLs of several hosts are read as libpq reads them', () => {
  const read = (url: string) => {
    const { candidates, wanted } = parseServerUrl(url)
    return [candidates.map(({ host, port }) => `${host} ${port}`).join(', '), wanted]
  }
  assert.deepEqual(read('postgresql://a:1,b/db?target_session_attrs=primary'), ['a 1, b 5432', 'primary'])
  assert.deepEqual(read('postgres://u:p%40@[::1]:1,[fe80::2],c:3/'), ['::1 1, fe80::2 5432, c 3', 'any'])
  assert.deepEqual(read('postgres:///db?host=/run/a,b&port=1,2'), ['/run/a 1, b 2', 'any'])
  assert.deepEqual(read('postgres://u@/?host=a,b&port=7'), ['a 7, b 7', 'any'])
  const url = parseServerUrl('postgres://u:secret@[::1]:1,b/db')
  assert.equal(describeServers(url), 'postgres://u@[::1]:1,b:5432')
  assert.deepEqual(
    url.candidates.map(({ user, password, database }) => [user, password, database]),
    [
      ['u', 'secret', 'db'],
      ['u', 'secret', 'db'],
    ],
  )
  for (const wrong of [
    'postgres://u:secret@a,b/?port=1,2,3',
    'postgres://u:secret@a,b/?target_session_attrs=master',
    'postgres://u:secret@a:1:2,b/',
    `postgres://u:secret@${Array.from({ length: 17 }, (_, i) => `h${i}`).join(',')}/`,
  ]) {
    assert.throws(
      () => parseServerUrl(wrong),
      (error: RegainError) => error.code === 'config-invalid' && !/secret/.test(`${error.stack}`),
      wrong,
    )
  }
})

test('hosts of different clusters are refused, and each host that is not the one is named with its reason', async (t) => {
  const [one, other] = [await startPostgres(t, { major: 14 }), await startPostgres(t, { major: 18 })]
  const port = (server: typeof one) => server.server().port
  const choose = (hosts: string, wanted: string) =>
    chooseServer(parseServerUrl(`postgres://postgres@${hosts}/?target_session_attrs=${wanted}`), t.signal)
  await assert.rejects(choose(`127.0.0.1:${port(one)},127.0.0.1:${port(other)}`, 'any'), {
    code: 'source-unsuitable',
    message: /not servers of one cluster/,
  })
  const chosen = await choose(`127.0.0.1:1,127.0.0.1:${port(one)}`, 'read-write')
  assert.equal(chosen.port, port(one))
  await assert.rejects(choose(`127.0.0.1:1,127.0.0.1:${port(one)}`, 'standby'), {
    code: 'source-unavailable',
    message: new RegExp(`127.0.0.1:1: nothing answers there; 127.0.0.1:${port(one)}: a primary on timeline 1`),
  })
  // One host alone is held to what is wanted, too.
  await assert.rejects(choose(`127.0.0.1:${port(one)}`, 'standby'), { code: 'source-unavailable' })
})
