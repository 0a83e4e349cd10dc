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
  /** Runs `work` each time the server has answered such a request, before the client gets the answer. */
  whenAnswered(isMeant: (request: IncomingMessage) => boolean, work: () => Promise<void>): void
  /** How often an object whose key ends so was sent. */
  puts(keyEnd: string): number
  stop(): Promise<void>
}

const BUSY = '<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'

/** Between a client and a real S3 server, on loopback. Signatures hold: the host that the client named is passed on. */
export async function startLossyProxy(target: string): Promise<LossyProxy> {
  const puts: string[] = []
  const waiting: { isMeant(request: IncomingMessage): boolean; work(): Promise<void> }[] = []
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
    const meanwhile = async () => {
      for (const { isMeant, work } of waiting) if (isMeant(incoming)) await work()
    }
    forward(incoming, outgoing, target, now === 'lost answer' ? null : meanwhile)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    next(wanted) {
      fault = wanted
    },
    whenAnswered(isMeant, work) {
      waiting.push({ isMeant, work })
    },
    puts: (keyEnd) => puts.filter((path) => path.endsWith(`/${keyEnd}`)).length,
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

/** Without `meanwhile` the answer is lost. */
function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  target: string,
  meanwhile: (() => Promise<void>) | null,
): void {
  const { method, headers } = incoming
  const onward = request(new URL(incoming.url!, target), { method: method!, headers }, (answer) => {
    if (!meanwhile) answer.resume().once('end', () => outgoing.destroy())
    else
      meanwhile().then(
        () => answer.pipe(outgoing.writeHead(answer.statusCode!, answer.headers)),
        () => outgoing.destroy(),
      )
  })
  onward.once('error', () => outgoing.destroy())
  incoming.pipe(onward)
}
