import { Socket } from 'node:net'

const READ_BYTES = 256 * 1024

/** A socket whose 'data' events may share one buffer: see `share`. */
export interface FastSocket {
  socket: Socket
  /**
   * From now on a 'data' event's bytes are valid only until its listeners return. Reading into one buffer instead of a
   * fresh one each time saves the collector half a second of processor time a gigabyte.
   */
  share(): void
}

/** Not for TLS, which takes the socket's handle over. */
export function createFastSocket(): FastSocket {
  let shared = false
  const socket: Socket = new Socket({
    onread: {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback: (length, buffer) => {
        const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, length)
        socket.emit('data', shared ? bytes : Buffer.from(bytes))
        return true
      },
    },
  })
  return {
    socket,
    share: () => {
      shared = true
    },
  }
}
