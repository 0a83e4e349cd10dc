import koffi from 'koffi'

/** How the daemon stands, for the service manager. */
export type Standing = 'ready' | 'reloading' | 'alive' | 'stopping'

const MESSAGES: Record<Standing, string> = {
  ready: 'READY=1',
  reloading: 'RELOADING=1',
  alive: 'WATCHDOG=1',
  stopping: 'STOPPING=1',
}

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000
const MSG_DONTWAIT = 0x40
/** sizeof(sun_path) in <sys/un.h>. */
const LONGEST_PATH = 108

/**
 * Tells systemd how the daemon stands (sd_notify(3)): one datagram to the socket that $NOTIFY_SOCKET names, whose first
 * character '@' stands for the zero byte of an abstract address. Does nothing without one. A manager that does not listen
 * is not an error: nothing is ever thrown for it, `failed` hears of the first time.
 */
export function serviceManager(
  notifySocket: string | undefined,
  failed: (detail: string) => void,
): (standing: Standing) => void {
  if (notifySocket === undefined || notifySocket === '') return () => {}
  const path = Buffer.from(notifySocket)
  if ((path[0] !== 0x40 && path[0] !== 0x2f) || path.length >= LONGEST_PATH) {
    failed(`NOTIFY_SOCKET is neither a path nor an abstract address: ${notifySocket}`)
    return () => {}
  }
  const address = socketAddress(path)
  let hasFailed = false
  return (standing) => {
    const sent = send(address, Buffer.from(MESSAGES[standing]))
    if (!sent && !hasFailed) failed(`The service manager does not listen at ${notifySocket}.`)
    hasFailed = !sent
  }
}

/** struct sockaddr_un: family in the machine's byte order, then the path without a zero at its end. */
export function socketAddress(path: Buffer): Buffer {
  const address = Buffer.alloc(2 + path.length)
  address.writeUInt16LE(AF_UNIX)
  path.copy(address, 2)
  if (address[2] === 0x40) address[2] = 0
  return address
}

function send(address: Buffer, message: Buffer): boolean {
  const { socket, sendto, close } = library()
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) return false
  try {
    return sendto(fd, message, message.length, MSG_NOSIGNAL | MSG_DONTWAIT, address, address.length) === message.length
  } finally {
    close(fd)
  }
}

interface Library {
  socket(domain: number, type: number, protocol: number): number
  sendto(fd: number, bytes: Buffer, length: number, flags: number, address: Buffer, addressLength: number): number
  close(fd: number): number
}

let loaded: Library | null = null

/** node:dgram has no Unix sockets. The C library is the one that node itself runs on. */
function library(): Library {
  if (loaded !== null) return loaded
  const libc = koffi.load(null)
  loaded = {
    socket: libc.func('int socket(int domain, int type, int protocol)'),
    sendto: libc.func('long sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t size)'),
    close: libc.func('int close(int fd)'),
  }
  return loaded
}
