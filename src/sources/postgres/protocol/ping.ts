import { createConnection } from 'node:net'

/** 'accepts': takes connections (though perhaps not ours); 'not-yet': starting, recovering or stopping; 'silent': nobody there. */
export type ServerAnswer = 'accepts' | 'not-yet' | 'silent'

const ANSWER_MS = 5000
/** SQLSTATE cannot_connect_now, and too_many_connections, which only a working server says. */
const NOT_YET = '57P03'

/**
 * Asks the server behind a Unix socket whether it takes connections, as pg_isready does: a start-up packet for a role
 * that need not exist. A request for a password, or a refusal of the role, both mean that it does.
 */
export function askServer(socketPath: string): Promise<ServerAnswer> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath)
    let received = Buffer.alloc(0)
    const settle = (answer: ServerAnswer): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(ANSWER_MS, () => settle('silent'))
    socket.on('error', () => settle('silent'))
    socket.on('close', () => settle('silent'))
    socket.on('connect', () =>
      socket.write(startupPacket({ user: 'regain', database: 'template1', application_name: 'regain' })),
    )
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const kind = received[0]
      if (kind === 0x52) return settle('accepts')
      if (kind !== 0x45) return settle('silent')
      // ErrorResponse: its code is the field 'C'. Short, but wait until it is whole.
      if (received.length < 5 || received.length < 1 + received.readUInt32BE(1)) return
      settle(received.includes(`\0C${NOT_YET}\0`) ? 'not-yet' : 'accepts')
    })
  })
}

/** StartupMessage of protocol 3.0: length, version, then names and values, each ended by a zero. */
function startupPacket(parameters: Record<string, string>): Buffer {
  const text = Object.entries(parameters)
    .map(([name, value]) => `${name}\0${value}\0`)
    .join('')
  const packet = Buffer.alloc(8 + Buffer.byteLength(text) + 1)
  packet.writeUInt32BE(packet.length, 0)
  packet.writeUInt32BE(0x00030000, 4)
  packet.write(text, 8)
  return packet
}
