import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { Finding, Progress } from '../../src/model.ts'
import type { BackupOptions, RestoreMoment, RestoreTarget, Source } from '../../src/sources/contract.ts'
import { removeTree } from '../support/describe-tree.ts'
import { type RecordedPoint, RecordingWriter } from '../support/recording-point.ts'

export interface SourceUnderTest {
  source: Source
  /** Changes some of the data, in a way that `assertSame` notices. */
  change(): Promise<void>
  /** Fails unless `directory`, restored by the driver, holds what the source holds now. */
  assertSame(directory: string): Promise<void>
  /** A source of the same type which is not there. */
  absent(): Promise<Source>
  /** Moments that this driver must refuse. */
  refuses: RestoreMoment[]
  dispose(): Promise<void>
}

export interface Heard {
  options: BackupOptions
  progress: Progress[]
  warnings: string[]
}

/** Options that keep what they are told. */
export function listen(kind: BackupOptions['kind'] = 'incremental', signal = new AbortController().signal): Heard {
  const progress: Progress[] = []
  const warnings: string[] = []
  return {
    progress,
    warnings,
    options: { kind, signal, progress: (one) => progress.push(one), warn: (message) => warnings.push(message) },
  }
}

export function everything(directory: string): RestoreTarget {
  return { directory, at: { kind: 'latest' }, path: null, start: false }
}

/** One backup into memory. */
export async function record(source: Source, base: RecordedPoint | null, heard = listen()): Promise<RecordedPoint> {
  const writer = new RecordingWriter({ base, unordered: source.unordered === true, signal: heard.options.signal })
  const summary = await source.backup(writer, heard.options)
  return writer.finish(summary, source.type)
}

/** What src/sources/contract.ts promises, checked against one driver with the engine replaced by memory. */
export function sourceContract(driver: string, open: () => Promise<SourceUnderTest>): void {
  const promises = (what: string, check: (under: SourceUnderTest, directory: string) => Promise<void>) =>
    it(what, async () => {
      const under = await open()
      const directory = mkdtempSync(join(tmpdir(), 'regain-source-'))
      // A restored server's user has to get through it.
      chmodSync(directory, 0o755)
      try {
        await check(under, directory)
      } finally {
        await under.dispose()
        removeTree(directory)
      }
    })

  describe(`source contract: ${driver}`, () => {
    promises(
      'finds nothing wrong with a source that works, and changes nothing by looking',
      async (under, directory) => {
        const findings = await under.source.check(listen().options)
        assert.deepEqual(errorsOf(findings), [])
        assert.ok(findings.length > 0)
        const point = await record(under.source, null)
        await under.source.restore(point.reader(), everything(directory), listen().options)
        await under.assertSame(directory)
      },
    )

    promises('names what is wrong with a source that is not there, with a fix', async (under) => {
      const findings = errorsOf(await (await under.absent()).check(listen().options))
      assert.ok(findings.length > 0)
      for (const finding of findings) {
        assert.match(finding.code, /^[a-z-]+$/)
        assert.ok(finding.message.length > 0 && finding.fix !== undefined && finding.fix.length > 0)
      }
    })

    promises('fails to back up what is not there, by an error of the catalog', async (under) => {
      const writer = new RecordingWriter()
      const absent = await under.absent()
      await assert.rejects(absent.backup(writer, listen('full').options), (error) => isRegainError(error))
    })

    promises('brings back what it backed up', async (under, directory) => {
      const point = await record(under.source, null, listen('full'))
      assert.equal(point.point.kind, 'full')
      assert.equal(point.point.sourceType, under.source.type)
      assert.ok(point.point.bytes.source > 0)
      assert.deepEqual(point.point.missed, [])
      const summary = await under.source.restore(point.reader(), everything(directory), listen().options)
      assert.deepEqual(summary.missed, [])
      assert.ok(summary.files > 0)
      await under.assertSame(directory)
    })

    promises('says why, when asked to build on a point that is not there', async (under) => {
      const heard = listen('incremental')
      const point = await record(under.source, null, heard)
      assert.equal(point.point.kind, 'full')
      assert.ok(heard.warnings.length > 0)
    })

    promises('builds a point on the one before that is complete in itself', async (under, directory) => {
      const first = await record(under.source, null, listen('full'))
      await under.change()
      const second = await record(under.source, first)
      const before = join(directory, 'before')
      const after = join(directory, 'after')
      await under.source.restore(second.reader(), everything(mkdir(after)), listen().options)
      await under.assertSame(after)
      // The older point is not touched by the newer one. A log leads on from it, so the point itself is asked for.
      const at = { kind: 'point', id: first.point.id } as const
      await under.source.restore(first.reader(), { ...everything(mkdir(before)), at }, listen().options)
      await assert.rejects(under.assertSame(before))
    })

    promises('tells how far it is, never going back', async (under) => {
      const heard = listen('full')
      await record(under.source, null, heard)
      assert.ok(heard.progress.length > 0)
      heard.progress.reduce((last, now) => {
        assert.ok(now.bytesDone >= last.bytesDone, `${last.bytesDone} then ${now.bytesDone}`)
        return now
      })
    })

    promises('stops when interrupted: before it begins, and in the middle', async (under, directory) => {
      const stopped = AbortSignal.abort()
      const interrupted = (error: unknown) => isRegainError(error, 'interrupted')
      await assert.rejects(record(under.source, null, listen('full', stopped)), interrupted)
      const point = await record(under.source, null, listen('full'))
      const restore = under.source.restore(point.reader(), everything(directory), listen('full', stopped).options)
      await assert.rejects(restore, interrupted)

      const controller = new AbortController()
      const heard = listen('full', controller.signal)
      const writer = new RecordingWriter({ signal: controller.signal, unordered: under.source.unordered === true })
      const take = writer.add.bind(writer)
      writer.add = async (entry) => {
        await take(entry)
        controller.abort()
      }
      await assert.rejects(under.source.backup(writer, heard.options), interrupted)
    })

    promises('leaves no handle open', async (under, directory) => {
      // The first use may open what stays open: random numbers, the driver's own caches.
      await record(under.source, null)
      const before = readdirSync('/proc/self/fd').length
      const point = await record(under.source, null)
      await under.source.restore(point.reader(), everything(directory), listen().options)
      assert.equal(readdirSync('/proc/self/fd').length, before)
    })

    promises('refuses moments that it cannot reach, before anything is written', async (under, directory) => {
      const point = await record(under.source, null)
      for (const at of under.refuses) {
        const target = { ...everything(directory), at }
        await assert.rejects(under.source.restore(point.reader(), target, listen().options), (error) =>
          isRegainError(error),
        )
        assert.deepEqual(readdirSync(directory), [])
      }
    })
  })
}

function mkdir(directory: string): string {
  mkdirSync(directory)
  return directory
}

function errorsOf(findings: Finding[]): Finding[] {
  return findings.filter((finding) => finding.severity === 'error')
}
