import { once } from 'node:events'
import type { Socket } from 'node:net'
import type pg from 'pg'

/**
 * COPY over an ordinary connection (protocol-flow, COPY Operations). pg hands a query's messages to the object that was
 * submitted; what it does not declare is part of our pinned version of it.
 */
interface Wire {
  stream: Socket
  query(text: string): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
  sendCopyFail(message: string): void
}

const BLOCK_BYTES = 256 * 1024

/** Runs COPY … TO STDOUT. `take` gets the bytes in order, one call after the other; while it works, nothing more is read. */
export function copyOut(client: pg.Client, sql: string, take: (bytes: Buffer) => Promise<void>): Promise<void> {
  return run(client, (settle) => new CopyOut(sql, take, settle))
}

/** Runs COPY … FROM STDIN with the bytes of `pieces`. Whatever fails there makes the server forget all of it. */
export function copyIn(client: pg.Client, sql: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  return run(client, (settle) => new CopyIn(sql, pieces, settle))
}

type Settle = (error: unknown) => void

function run(client: pg.Client, make: (settle: Settle) => Copy): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle: Settle = (error) => (error === null ? resolve() : reject(error))
    client.query(make(settle) as unknown as pg.Submittable)
  })
}

/** What both have in common: the first failure counts, and is told when the server is ready again or is gone. */
abstract class Copy {
  readonly #sql: string
  readonly #settle: Settle
  #failure: { error: unknown } | null = null
  #work: Promise<void> = Promise.resolve()

  constructor(sql: string, settle: Settle) {
    this.#sql = sql
    this.#settle = settle
  }

  submit(connection: Wire): void {
    connection.query(this.#sql)
  }

  /** One after the other. */
  protected enqueue(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => this.fail(error))
  }

  protected fail(error: unknown): void {
    this.#failure ??= { error }
  }

  protected get hasFailed(): boolean {
    return this.#failure !== null
  }

  /** By the server, or because the connection broke: in the first case it says that it is ready next, in the other never. */
  handleError(error: unknown, connection: Wire): void {
    this.fail(error)
    connection.stream.resume()
    void this.#work.then(() => this.#end())
  }

  handleReadyForQuery(connection: Wire): void {
    connection.stream.resume()
    void this.#work.then(() => this.#end())
  }

  #end(): void {
    this.#settle(this.#failure === null ? null : this.#failure.error)
  }

  handleCommandComplete(_message: unknown, _connection: Wire): void {}
  handleCopyInResponse(_connection: Wire): void {}
  handleCopyData(_message: { chunk: Buffer }, _connection: Wire): void {}
  handleEmptyQuery(): void {}
  handleRowDescription(): void {}
  handleDataRow(): void {}
}

class CopyOut extends Copy {
  readonly #take: (bytes: Buffer) => Promise<void>
  #block = Buffer.allocUnsafe(BLOCK_BYTES)
  #length = 0
  #waiting = 0

  constructor(sql: string, take: (bytes: Buffer) => Promise<void>, settle: Settle) {
    super(sql, settle)
    this.#take = take
  }

  override handleCopyData({ chunk }: { chunk: Buffer }, connection: Wire): void {
    // The chunk is a piece of the parser's buffer, which is used again.
    if (chunk.length > this.#block.length - this.#length) this.#flush(connection)
    if (chunk.length > this.#block.length) {
      this.#send(Buffer.from(chunk), connection)
      return
    }
    this.#length += chunk.copy(this.#block, this.#length)
  }

  override handleCommandComplete(_message: unknown, connection: Wire): void {
    this.#flush(connection)
  }

  #flush(connection: Wire): void {
    if (this.#length === 0) return
    const bytes = this.#block.subarray(0, this.#length)
    this.#block = Buffer.allocUnsafe(BLOCK_BYTES)
    this.#length = 0
    this.#send(bytes, connection)
  }

  /** What has come in already still arrives while the socket is paused: at most what it had buffered. */
  #send(bytes: Buffer, connection: Wire): void {
    this.#waiting++
    connection.stream.pause()
    this.enqueue(async () => {
      if (this.hasFailed) return
      try {
        await this.#take(bytes)
      } catch (error) {
        this.fail(error)
        // The server would go on to the end of the table: it is told by the end of the connection.
        connection.stream.destroy()
      }
      if (--this.#waiting === 0) connection.stream.resume()
    })
  }
}

class CopyIn extends Copy {
  readonly #pieces: AsyncIterable<Buffer>

  constructor(sql: string, pieces: AsyncIterable<Buffer>, settle: Settle) {
    super(sql, settle)
    this.#pieces = pieces
  }

  override handleCopyInResponse(connection: Wire): void {
    this.enqueue(async () => {
      try {
        for await (const piece of this.#pieces) {
          // The server has refused a row already: the rest would only be thrown away.
          if (this.hasFailed || connection.stream.destroyed) return
          if (piece.length === 0) continue
          connection.sendCopyFromChunk(piece)
          if (connection.stream.writableNeedDrain) await drained(connection.stream)
        }
        if (!this.hasFailed) connection.endCopyFrom()
      } catch (error) {
        // COPY ends with an error of the server's, which comes second.
        this.fail(error)
        connection.sendCopyFail('the data could not be read')
      }
    })
  }
}

async function drained(socket: Socket): Promise<void> {
  const closed = new AbortController()
  const onClose = (): void => closed.abort()
  socket.once('close', onClose)
  try {
    if (!socket.destroyed) await once(socket, 'drain', { signal: closed.signal })
  } catch (error) {
    // A socket that closed is told of by pg, which fails the query.
    if (!closed.signal.aborted) throw error
  } finally {
    socket.off('close', onClose)
  }
}
