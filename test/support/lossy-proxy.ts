import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * What happens to the next PUT: its answer is lost after the server has carried it out; or the server turns it down for
 * its load; or it is carried out, and what is asked next is turned down.
 */
export type ProxyFault = 'lost answer' | 'busy' | 'busy afterwards'

export interface LossyProxy {
  readonly endpoint: string
  next(fault: ProxyFault): void
  /** How often an object whose key ends so was sent. */
  puts(keyEnd: string): number
  stop(): Promise<void>
}

const BUSY = '<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'

/** Between a client and a real S3 server, on loopback. Signatures hold: the host that the client named is passed on. */
export async function startLossyProxy(target: string): Promise<LossyProxy> {
  const puts: string[] = []
  let fault: ProxyFault | null = null
  let isBusy = false

  const server = createServer((incoming, outgoing) => {
    const isPut = incoming.method === 'PUT'
    if (isPut) puts.push(new URL(incoming.url!, target).pathname)
    const now = isPut ? fault : null
    if (isPut) fault = null
    if (now === 'busy' || (isBusy && !isPut)) {
      isBusy = false
      incoming.resume().once('end', () => outgoing.writeHead(503, { 'content-type': 'application/xml' }).end(BUSY))
      return
    }
    if (now === 'busy afterwards') isBusy = true
    forward(incoming, outgoing, target, now === 'lost answer')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    next(wanted) {
      fault = wanted
    },
    puts: (keyEnd) => puts.filter((path) => path.endsWith(`/${keyEnd}`)).length,
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

function forward(incoming: IncomingMessage, outgoing: ServerResponse, target: string, loseAnswer: boolean): void {
  const { method, headers } = incoming
  const onward = request(new URL(incoming.url!, target), { method: method!, headers }, (answer) => {
    if (loseAnswer) answer.resume().once('end', () => outgoing.destroy())
    else answer.pipe(outgoing.writeHead(answer.statusCode!, answer.headers))
  })
  onward.once('error', () => outgoing.destroy())
  incoming.pipe(onward)
}
