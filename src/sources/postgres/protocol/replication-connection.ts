import type { Socket } from 'node:net'
import { RegainError } from '../../../errors.ts'
import { sourceError } from './connection-errors.ts'
import { type ConnectionConfig, describeConnection } from './connection-url.ts'
import {
  encodeMessage,
  encodeQuery,
  MESSAGE,
  MessageParser,
  parseDataRow,
  parseRowDescription,
  parseServerError,
  type ServerError,
} from './protocol.ts'

export interface ResultSet {
  columns: string[]
  rows: (string | null)[][]
}

/** What a command's reply brings, in order. A handler that throws breaks the connection; the command rejects with its error. */
export interface ReplyHandler {
  /** A result set, whole: these are small. */
  resultSet?(set: ResultSet): void
  /** The server waits for CopyData. */
  copyIn?(): void
  /** CopyOut or CopyBoth begins. */
  copyStart?(): void
  /** See MessageHandler.copyData. */
  copyData?(piece: Buffer, first: boolean, last: boolean): void
  /** The server ended its side of a copy. */
  copyDone?(): void
  /** A notice or warning, of the server's language. */
  notice?(notice: ServerError): void
}

const MAX_ROWS = 1_000_000
const CLOSE_MS = 2000
const UPLOAD_PIECE_BYTES = 64 * 1024

/**
 * A physical replication connection after start-up. One command at a time. Reading can be paused: at most one socket
 * chunk (64 KiB) is delivered after `pause`. When the signal fires the socket is destroyed and the command rejects with
 * `interrupted`; the server notices and cleans up.
 */
export class ReplicationConnection {
  readonly config: ConnectionConfig
  readonly #socket: Socket
  readonly #signal: AbortSignal
  readonly #parser: MessageParser
  readonly #onAbort = (): void => this.#fail(new RegainError('interrupted', 'The operation was interrupted.'))
  #command: Command | null = null
  #broken: Error | null = null
  #lastServerError: ServerError | null = null
  #closing = false

  constructor(socket: Socket, config: ConnectionConfig, signal: AbortSignal) {
    this.config = config
    this.#socket = socket
    this.#signal = signal
    this.#parser = new MessageParser({
      copyData: (piece, first, last) => this.#command?.handler.copyData?.(piece, first, last),
      message: (type, body) => this.#onMessage(type, body),
    })
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('error', (error) => this.#fail(sourceError(error, config)))
    socket.on('close', () => this.#fail(this.#lost()))
    signal.addEventListener('abort', this.#onAbort, { once: true })
    if (signal.aborted) this.#onAbort()
  }

  /** A command that answers with result sets. */
  async query(sql: string): Promise<ResultSet[]> {
    const sets: ResultSet[] = []
    await this.run(sql, { resultSet: (set) => sets.push(set) })
    return sets
  }

  /** The first row of the first result set as an object; null if there is none. */
  async queryRow(sql: string): Promise<Record<string, string | null> | null> {
    const [set] = await this.query(sql)
    const row = set?.rows[0]
    if (!set || !row) return null
    return Object.fromEntries(set.columns.map((column, i) => [column, row[i] ?? null]))
  }

  /** The value of a run-time setting. */
  async show(name: string): Promise<string> {
    const row = await this.queryRow(`SHOW ${name}`)
    return row?.[name] ?? ''
  }

  /** Resolves when the server is ready for the next command; rejects with the first error it reported. */
  run(sql: string, handler: ReplyHandler): Promise<void> {
    if (this.#command) throw new Error('a command is already running on this replication connection')
    if (this.#broken) return Promise.reject(this.#broken)
    return new Promise((resolve, reject) => {
      this.#command = { handler, resolve, reject, set: null, error: null }
      this.#socket.write(encodeQuery(sql))
    })
  }

  /** A command that takes what is given to it: held in memory until the server has it. */
  upload(sql: string, bytes: Buffer): Promise<void> {
    return this.run(sql, {
      copyIn: () => {
        for (let at = 0; at < bytes.length; at += UPLOAD_PIECE_BYTES)
          this.sendCopyData(bytes.subarray(at, at + UPLOAD_PIECE_BYTES))
        this.sendCopyDone()
      },
    })
  }

  /** Sends CopyData. Small messages only (status): it does not wait for the socket. */
  sendCopyData(body: Buffer): void {
    if (!this.#broken) this.#socket.write(encodeMessage(MESSAGE.copyData, body))
  }

  sendCopyDone(): void {
    if (!this.#broken) this.#socket.write(encodeMessage(MESSAGE.copyDone))
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Breaks the running command off; it rejects with `error`. */
  abandon(error: Error): void {
    this.#fail(error)
  }

  /** Ends the connection, in order if the server answers within two seconds. */
  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#closing = true
    if (this.#socket.destroyed) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.#socket.destroy(), CLOSE_MS)
      this.#socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      this.#socket.resume()
      this.#socket.end(encodeMessage(MESSAGE.terminate))
    })
  }

  #onData(chunk: Buffer): void {
    if (this.#broken) return
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #onMessage(type: number, body: Buffer): void {
    if (type === MESSAGE.error) this.#lastServerError = parseServerError(body)
    const command = this.#command
    if (!command) return
    switch (type) {
      case MESSAGE.rowDescription:
        command.set = { columns: parseRowDescription(body), rows: [] }
        return
      case MESSAGE.dataRow:
        if ((command.set?.rows.length ?? 0) >= MAX_ROWS)
          throw new Error('a replication command answered with too many rows')
        command.set?.rows.push(parseDataRow(body))
        return
      case MESSAGE.commandComplete:
        flushSet(command)
        return
      case MESSAGE.copyOut:
      case MESSAGE.copyBoth:
        flushSet(command)
        command.handler.copyStart?.()
        return
      case MESSAGE.copyIn:
        command.handler.copyIn?.()
        return
      case MESSAGE.copyDone:
        command.handler.copyDone?.()
        return
      case MESSAGE.error:
        command.error ??= sourceError(this.#lastServerError, this.config)
        return
      case MESSAGE.readyForQuery:
        this.#command = null
        if (command.error) command.reject(command.error)
        else command.resolve()
        return
      case MESSAGE.notice:
        command.handler.notice?.(parseServerError(body))
        return
      default:
      // Changed parameters: nothing that replication depends on.
    }
  }

  #lost(): RegainError {
    if (this.#lastServerError?.severity === 'FATAL') return sourceError(this.#lastServerError, this.config)
    return new RegainError(
      'source-unavailable',
      `${describeConnection(this.config)}: the server closed the connection.`,
    )
  }

  #fail(error: Error): void {
    if (this.#broken) return
    this.#broken = this.#closing ? new Error('this replication connection is closed') : error
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#socket.destroy()
    const command = this.#command
    this.#command = null
    command?.reject(command.error ?? this.#broken)
  }
}

interface Command {
  handler: ReplyHandler
  resolve: () => void
  reject: (error: Error) => void
  set: ResultSet | null
  error: RegainError | null
}

function flushSet(command: Command): void {
  if (!command.set) return
  const set = command.set
  command.set = null
  command.handler.resultSet?.(set)
}
