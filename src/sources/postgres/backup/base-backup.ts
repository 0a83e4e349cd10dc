import { RegainError } from '../../../errors.ts'
import type { Missed } from '../../../model.ts'
import type { PointWriter, SourceOptions } from '../../contract.ts'
import { quoteLiteral, sqlStateOf } from '../protocol/connection-errors.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'
import type { ServerError } from '../protocol/protocol.ts'
import type { ReplicationConnection, ResultSet } from '../protocol/replication-connection.ts'
import { ArchiveIntake } from './archive-intake.ts'
import { type DamagedFile, DamagedFiles, describeDamage } from './damaged-pages.ts'
import type { IncrementalBase } from './incremental.ts'
import { Manifest } from './manifest.ts'

export interface Tablespace {
  oid: string
  location: string
}

export interface BaseBackup {
  timeline: number
  startLsn: Lsn
  stopLsn: Lsn
  tablespaces: Tablespace[]
  /** Content of the cluster's files, in bytes. */
  bytes: number
  missed: Missed[]
}

export interface BaseBackupRequest {
  connection: ReplicationConnection
  /** Of the server: 13 and 14 speak another dialect. */
  major: number
  writer: PointWriter
  label: string
  options: SourceOptions
  /** Null: everything is sent whole. */
  incremental: IncrementalBase | null
  blockBytes: number
  /** Called as soon as the server tells where the WAL that this backup needs begins. */
  started(start: { timeline: number; lsn: Lsn }): void
}

/** SQLSTATE data_corrupted: page checksums did not match; comes after all data. */
const DATA_CORRUPTED = 'XX001'

/**
 * Takes a base backup into `writer`, in the order in which the server sends: backup_label first, global/pg_control and
 * then the manifest last. Every file was compared with the server's manifest when this resolves. Pages that the server
 * found damaged are kept and named in `missed`. Rejects with nothing half-done on the server: it ends its backup with
 * the connection.
 */
export async function takeBaseBackup(request: BaseBackupRequest): Promise<BaseBackup> {
  const { options } = request
  const reply = new BackupReply(request)
  const drained = reply.intake.drain()
  // Awaited below; a rejection before that is not unhandled.
  drained.catch(() => undefined)
  options.progress({ phase: 'checkpoint', bytesDone: 0 })
  try {
    const damaged = await runToItsEnd(request, reply)
    reply.finish()
    await drained
    reply.manifest.verify(reply.intake.received)
    return reply.result(await missedOf(request, reply.damaged.list, damaged))
  } catch (error) {
    reply.intake.abandon()
    // Its error, if it has one, is this one: it broke the connection off.
    await drained.catch(() => undefined)
    throw error
  }
}

/** `said` is what the server found while it sent, `damaged` its judgement on the whole. */
async function missedOf(request: BaseBackupRequest, said: readonly DamagedFile[], damaged: boolean): Promise<Missed[]> {
  const missed = await describeDamage(request.connection.config, said, request.options.signal)
  if (!damaged || missed.length > 0) return missed
  const detail = 'The server found pages that do not match their checksums, and did not say in which files.'
  return [{ path: 'base', reason: 'damaged', detail }]
}

/** True if the server sent everything and then said that pages do not match their checksums. */
async function runToItsEnd(request: BaseBackupRequest, reply: BackupReply): Promise<boolean> {
  try {
    const { connection, incremental } = request
    if (incremental) await connection.upload('UPLOAD_MANIFEST', incremental.manifest)
    await connection.run(baseBackupCommand(request.major, request.label, incremental !== null), reply)
    return false
  } catch (error) {
    if (sqlStateOf(error) === DATA_CORRUPTED && reply.complete) return true
    throw error
  }
}

/** Versions 15 and later take options in parentheses, and refuse the flat form; 13 and 14 the other way round. */
function baseBackupCommand(major: number, label: string, incremental: boolean): string {
  const text = quoteLiteral(label)
  // No WAL in it and no waiting for an archive: the WAL goes to the log store, which is checked before the commit.
  if (major >= 15) {
    return `BASE_BACKUP (LABEL ${text}, CHECKPOINT 'fast', WAIT false, PROGRESS, TABLESPACE_MAP, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'${incremental ? ', INCREMENTAL' : ''})`
  }
  return `BASE_BACKUP LABEL ${text} PROGRESS FAST NOWAIT TABLESPACE_MAP MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'`
}

/** The reply to BASE_BACKUP in both dialects: three result sets, and between the second and third the copies. */
class BackupReply {
  readonly intake: ArchiveIntake
  readonly manifest = new Manifest()
  readonly damaged = new DamagedFiles()
  readonly #request: BaseBackupRequest
  readonly #tablespaces: Tablespace[] = []
  /** Flat dialect: oids in the order of their archives; '' is the data directory. */
  #archives: string[] = []
  #archive = -1
  #inManifest = false
  #messageType = 0
  #totalBytes = 0
  #timeline = 0
  #start: Lsn | null = null
  #stop: Lsn | null = null
  #name: Buffer[] = []

  constructor(request: BaseBackupRequest) {
    this.#request = request
    this.intake = new ArchiveIntake({
      writer: request.writer,
      endBlocks: request.major >= 15 ? 2 : 0,
      incremental: request.incremental && { entries: request.incremental.entries, blockBytes: request.blockBytes },
      hold: () => request.connection.pause(),
      release: () => request.connection.resume(),
      failed: (error) => request.connection.abandon(error),
      progress: (bytes, files) => {
        request.options.progress({
          phase: 'backup',
          bytesDone: bytes,
          bytesTotal: Math.max(bytes, this.#totalBytes),
          filesDone: files,
        })
      },
    })
  }

  /** Everything arrived; what follows can only be a judgement on it. */
  get complete(): boolean {
    return this.#stop !== null
  }

  resultSet(set: ResultSet): void {
    const [row] = set.rows
    if (this.#start === null) {
      this.#start = parseLsn(row?.[0] ?? '')
      this.#timeline = Number(row?.[1])
      this.#request.started({ timeline: this.#timeline, lsn: this.#start })
    } else if (this.#archives.length === 0) this.#onTablespaces(set)
    else this.#stop = parseLsn(row?.[0] ?? '')
  }

  #onTablespaces(set: ResultSet): void {
    for (const [oid, location, sizeKib] of set.rows) {
      this.#archives.push(oid ?? '')
      if (oid) this.#tablespaces.push({ oid, location: location ?? '' })
      this.#totalBytes += Number(sizeKib ?? 0) * 1024
    }
  }

  copyStart(): void {
    if (this.#request.major >= 15) return
    this.#archive++
    this.#inManifest = this.#archive >= this.#archives.length
    if (!this.#inManifest) this.intake.beginArchive(prefixOf(this.#archives[this.#archive] ?? ''))
  }

  copyData(piece: Buffer, first: boolean, last: boolean): void {
    if (this.#request.major < 15) {
      this.#content(piece)
      return
    }
    let content = piece
    if (first) {
      this.#messageType = piece[0] ?? 0
      content = piece.subarray(1)
    }
    // 'd' content, 'n' a new archive, 'm' the manifest follows, 'p' progress, which we count ourselves.
    if (this.#messageType === 0x64) this.#content(content)
    else if (this.#messageType === 0x6e) {
      this.#name.push(Buffer.from(content))
      if (last) this.#onArchiveName()
    } else if (this.#messageType === 0x6d) {
      this.intake.endArchive()
      this.#inManifest = true
    }
  }

  copyDone(): void {
    this.intake.endArchive()
  }

  notice(notice: ServerError): void {
    if (!this.damaged.note(notice.message)) this.#request.options.warn(`PostgreSQL says: ${notice.message}`)
  }

  /** Stores the manifest and ends the intake. Throws `source-unavailable` if the reply was not whole. */
  finish(): void {
    if (this.#start === null || this.#stop === null || this.manifest.bytes.length === 0) {
      this.intake.close()
      throw new RegainError(
        'source-unavailable',
        'The server ended the backup without sending all of it. Nothing of it is kept.',
      )
    }
    this.intake.addManifest(this.manifest.bytes)
    this.intake.close()
  }

  result(missed: Missed[]): BaseBackup {
    if (this.#start === null || this.#stop === null) throw new Error('result of a base backup that did not finish')
    return {
      timeline: this.#timeline,
      startLsn: this.#start,
      stopLsn: this.#stop,
      tablespaces: this.#tablespaces,
      bytes: this.intake.clusterBytes,
      missed,
    }
  }

  #content(piece: Buffer): void {
    if (this.#inManifest) this.manifest.push(piece)
    else this.intake.push(piece)
  }

  /** 'n': the archive's name, then the tablespace's path, each ended by a zero. 'base.tar' is the data directory. */
  #onArchiveName(): void {
    const body = Buffer.concat(this.#name)
    this.#name = []
    const name = body.toString('utf8', 0, body.indexOf(0))
    const match = /^(base|\d+)\.tar$/.exec(name)
    if (!match)
      throw new RegainError(
        'source-unsuitable',
        `The server sent an archive of the unknown name ${JSON.stringify(name)}.`,
      )
    this.#inManifest = false
    this.intake.beginArchive(prefixOf(match[1] === 'base' ? '' : (match[1] ?? '')))
  }
}

function prefixOf(oid: string): string {
  return oid === '' ? '' : `pg_tblspc/${oid}`
}
