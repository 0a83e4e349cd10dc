import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chown, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startPostgres, temporaryDirectory } from '../../../../test/support/postgres.ts'
import { serverUser } from '../server/server-user.ts'
import { connectReplication, withSql } from './connection.ts'
import { describeConnection, isLoopback, parseConnectionUrl } from './connection-url.ts'

const execute = promisify(execFile)

test('URLs are read as libpq reads them', () => {
  const config = parseConnectionUrl(
    'postgresql://back%40up:p%2Fw%3A@[::1]:5433/shop?sslmode=verify-full&sslrootcert=/ca.pem',
  )
  assert.deepEqual(
    [config.user, config.password, config.host, config.port, config.database, config.tls, config.rootCertificateFile],
    ['back@up', 'p/w:', '::1', 5433, 'shop', 'verify-full', '/ca.pem'],
  )
  const socket = parseConnectionUrl('postgres:///?host=/var/run/postgresql&user=regain')
  assert.deepEqual(
    [socket.host, socket.user, socket.port, socket.database, socket.tls],
    ['/var/run/postgresql', 'regain', 5432, 'postgres', 'prefer'],
  )
  assert.ok(isLoopback(socket) && isLoopback(config) && !isLoopback(parseConnectionUrl('postgres://u@db.example/')))
  assert.equal(parseConnectionUrl('postgres://u@h/?sslmode=require&sslrootcert=x').tls, 'verify-ca')
  assert.equal(describeConnection(config), 'postgres://back@up@[::1]:5433')
})

test('URLs that cannot be used are refused without their password', () => {
  for (const url of [
    'mysql://u:secret@h/',
    'postgres://u:secret@h:99999/',
    'postgres://u:secret@h:port/',
    'postgres://u:sec%ret@h/',
    'postgres://u:secret@h/?sslmode=maybe',
    'postgres://u:secret@h/?unknown=1',
    'postgres://u:secret@/?host=a,b',
    'postgres://u:secret@a,b/',
    'postgres://u:secret@h/?connect_timeout=never',
    'postgres://u:secret/1@h/',
    'postgres://u:secret#1@h,i/',
    'postgres://u:secret?1@h/',
    // It would be asked at port 5432, and say so.
    'postgres://u:5432/secret@h/',
  ]) {
    assert.throws(
      () => parseConnectionUrl(url),
      (error: Error & { code: string }) =>
        error.code === 'config-invalid' && !/sec(ret|%ret)/.test(`${error.stack} ${String(error.cause)}`),
      url,
    )
  }
})

test('TLS is used, proven where asked, and never silently left out', async (t) => {
  const postgres = await startPostgres(t, { major: 15, password: 'right' })
  const folder = await temporaryDirectory(t)
  const [key, certificate] = [join(folder, 'server.key'), join(folder, 'server.crt')]
  await execute('openssl', [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    key,
    '-out',
    certificate,
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost',
  ])
  const foreign = join(folder, 'foreign.crt')
  await execute('openssl', [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    join(folder, 'f.key'),
    '-out',
    foreign,
    '-days',
    '2',
    '-subj',
    '/CN=other',
  ])
  const user = await serverUser(postgres.directory)
  if (user) await Promise.all([key, certificate].map((file) => chown(file, user.uid, user.gid)))

  const plain = postgres.url()
  const connect = async (url: string): Promise<boolean> => {
    const config = parseConnectionUrl(url)
    const connection = await connectReplication(config, t.signal)
    await connection.query('IDENTIFY_SYSTEM')
    await connection.close()
    return withSql(config, t.signal, async (client) => {
      const { rows } = await client.query<{ ssl: boolean }>('select ssl from pg_stat_ssl where pid = pg_backend_pid()')
      return rows[0]?.ssl === true
    })
  }
  assert.equal(await connect(plain), false)
  await assert.rejects(connect(`${plain}?sslmode=require`), {
    code: 'source-unsuitable',
    message: /does not offer TLS/,
  })

  await writeFile(
    join(postgres.directory, 'pg_hba.conf'),
    'hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n',
  )
  await postgres.start({ ssl: 'on', ssl_cert_file: certificate, ssl_key_file: key })
  assert.equal(await connect(plain), true)
  assert.equal(await connect(`${plain}?sslmode=require&channel_binding=require`), true)
  const byName = plain.replace('127.0.0.1', 'localhost')
  assert.equal(await connect(`${byName}?sslmode=verify-full&sslrootcert=${certificate}`), true)
  assert.equal(await connect(`${plain}?sslmode=verify-ca&sslrootcert=${certificate}`), true)
  await assert.rejects(connect(`${byName}?sslmode=verify-full&sslrootcert=${foreign}`), {
    code: 'source-unsuitable',
    message: /certificate was not accepted/,
  })
  await assert.rejects(connect(`${plain}?sslmode=verify-full&sslrootcert=${certificate}`), {
    code: 'source-unsuitable',
    message: /certificate was not accepted/,
  })
  await assert.rejects(connect(`${plain}?sslmode=disable`), { code: 'source-unsuitable', message: /pg_hba\.conf/ })
  await assert.rejects(connect(`${plain}?sslmode=verify-ca&sslrootcert=/no/such/file`), { code: 'config-invalid' })
})

test('a server that does not answer is given up, and an interruption does not wait for it', async (t) => {
  const silent = createServer(() => undefined).listen(0, '127.0.0.1')
  t.after(() => silent.close())
  await new Promise((resolve) => silent.once('listening', resolve))
  const address = silent.address()
  const url = `postgres://u:p@127.0.0.1:${address && typeof address === 'object' ? address.port : 0}/?sslmode=disable`
  const interrupt = new AbortController()
  const waiting = connectReplication(parseConnectionUrl(url), interrupt.signal)
  interrupt.abort()
  await assert.rejects(waiting, { code: 'interrupted' })
  await assert.rejects(connectReplication(parseConnectionUrl(`${url}&connect_timeout=0.2`), t.signal), {
    code: 'source-unavailable',
    message: /no answer in time/,
  })
})
