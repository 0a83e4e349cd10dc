import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import koffi from 'koffi'
import { serviceManager, socketAddress } from './notify.ts'

const libc = koffi.load(null)
const socket = libc.func('int socket(int domain, int type, int protocol)')
const bind = libc.func('int bind(int fd, void *address, uint32_t size)')
const recv = libc.func('long recv(int fd, void *bytes, size_t length, int flags)')
const close = libc.func('int close(int fd)')
const MSG_DONTWAIT = 0x40

/** What a manager that listens at `name` received while `act` ran. */
function received(name: string, act: () => void): string[] {
  const fd = Number(socket(1, 2, 0))
  const address = socketAddress(Buffer.from(name))
  assert.equal(bind(fd, address, address.length), 0)
  try {
    act()
    const messages: string[] = []
    const buffer = Buffer.alloc(100)
    for (;;) {
      const length = Number(recv(fd, buffer, buffer.length, MSG_DONTWAIT))
      if (length < 0) return messages
      messages.push(buffer.toString('latin1', 0, length))
    }
  } finally {
    close(fd)
  }
}

test('the service manager hears how the daemon stands, at a path and at an abstract address', () => {
  const directory = mkdtempSync(join(tmpdir(), 'regain-notify-'))
  try {
    for (const name of [join(directory, 's'), `@regain-test-${process.pid}`]) {
      const notify = serviceManager(name, assert.fail)
      const messages = received(name, () => {
        for (const standing of ['ready', 'alive', 'reloading', 'stopping'] as const) notify(standing)
      })
      assert.deepEqual(messages, ['READY=1', 'WATCHDOG=1', 'RELOADING=1', 'STOPPING=1'])
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('without a service manager nothing happens; one that does not listen is told once', () => {
  const told: string[] = []
  serviceManager(undefined, (detail) => told.push(detail))('ready')
  assert.equal(told.length, 0)
  const notify = serviceManager('/nowhere/notify', (detail) => told.push(detail))
  notify('ready')
  notify('alive')
  assert.deepEqual(told, ['The service manager does not listen at /nowhere/notify.'])
  serviceManager('relative', (detail) => told.push(detail))('ready')
  assert.match(told[1] ?? '', /neither a path/)
})
