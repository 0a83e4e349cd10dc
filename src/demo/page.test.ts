import assert from 'node:assert/strict'
import { test } from 'node:test'
import { escapeHtml, reportPage } from './page.ts'
import { type DemoReport, megabytes, seconds } from './report.ts'

const HOSTILE = '<script>alert("1")</script> & \'quoted\' \u0000 \u202e \ud800'

function report(changes: Partial<DemoReport> = {}): DemoReport {
  return {
    tool: 'regain 0.1.0',
    startedAt: '2026-01-10T02:00:00.000Z',
    endedAt: '2026-01-10T02:02:00.000Z',
    durationMs: 120_000,
    passed: true,
    machine: { processors: 2, memoryBytes: 8e9, system: 'Linux 6.1' },
    shop: { postgres: '18.4', databaseBytes: 5e8, rows: { orders: 450_000 }, files: 288, fileBytes: 2e7, leftOut: [] },
    repositoryBytes: 3e8,
    moments: { dropped: 'a', target: 'b', crashed: 'c', durableUntil: 'd' },
    acknowledged: 5000,
    acts: [
      {
        title: 'Act one',
        command: 'regain restore shop --to act-one',
        reached: 'b',
        rtoMs: 4200,
        rpoMs: 0,
        lostCommits: 0,
        proofs: [{ name: 'table orders', passed: true, detail: '450000 rows' }],
      },
    ],
    story: [{ atMs: 40, kind: 'scene', text: 'The shop opens' }],
    ...changes,
  }
}

test('what a server, a file name or a user said stays text', () => {
  const act = {
    title: HOSTILE,
    command: HOSTILE,
    reached: HOSTILE,
    rtoMs: 1,
    rpoMs: 1,
    lostCommits: 1,
    proofs: [{ name: HOSTILE, passed: false, detail: HOSTILE }],
  }
  const page = reportPage(
    report({
      tool: HOSTILE,
      acts: [act],
      story: (['scene', 'text', 'command'] as const).map((kind) => ({ atMs: 1, kind, text: HOSTILE })),
      shop: { ...report().shop, postgres: HOSTILE, rows: { [HOSTILE]: 1 }, leftOut: [HOSTILE] },
      moments: { dropped: HOSTILE, target: HOSTILE, crashed: HOSTILE, durableUntil: HOSTILE },
      machine: { processors: 2, memoryBytes: 1, system: HOSTILE },
    }),
  )
  assert.ok(!page.includes('<script'))
  assert.ok(!page.includes('\u0000') && !page.includes('\u202e') && page.isWellFormed())
  assert.ok(
    page.includes('&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; &#39;quoted&#39; \\u0000 \\u202e \\ud800'),
  )
})

test('the page needs nothing from anywhere and may run nothing', () => {
  const page = reportPage(report())
  assert.match(page, /Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/)
  assert.ok(!/(src|href)=|url\(|@import/.test(page))
})

test('it says at the top whether everything was proven', () => {
  assert.match(reportPage(report()), /Everything was brought back, and proven/)
  const failed = reportPage(report({ passed: false }))
  assert.match(failed, /<title>Regain demo: FAILED<\/title>/)
  assert.match(failed, /NOT everything was brought back/)
})

test('figures for people', () => {
  assert.deepEqual([seconds(42), seconds(4234), seconds(61_000)], ['0.04 s', '4.2 s', '61.0 s'])
  assert.deepEqual([megabytes(5e8), megabytes(1.44e9), megabytes(2e6)], ['500 MB', '1.4 GB', '2.0 MB'])
  assert.equal(escapeHtml('a < b'), 'a &#60; b')
})
