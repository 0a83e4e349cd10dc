import { type ActReport, type DemoReport, megabytes, type StoryLine, seconds, thousands } from './report.ts'

/** The report as one page that needs nothing else: no script, no font, no picture. */
export function reportPage(report: DemoReport): string {
  const verdict = report.passed ? 'Everything was brought back, and proven.' : 'NOT everything was brought back.'
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Regain demo: ${report.passed ? 'proven' : 'FAILED'}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>A shop lost its database and its files</h1>
<p class="${report.passed ? 'good' : 'bad'} verdict">${escapeHtml(verdict)}</p>
<p>${escapeHtml(introduction(report))}</p>
${report.acts.map(act).join('\n')}
<h2>Moments</h2>
${table([
  ['Recovered to in act one', report.moments.target],
  ['DROP TABLE orders', report.moments.dropped],
  ['The log was durable in the repository until', report.moments.durableUntil],
  ['The machine was lost', report.moments.crashed],
])}
<h2>What was protected</h2>
${table([
  ['Database', `PostgreSQL ${report.shop.postgres}, ${megabytes(report.shop.databaseBytes)}`],
  ...Object.entries(report.shop.rows).map(([name, rows]): [string, string] => [`Rows of ${name}`, thousands(rows)]),
  ['Folder', `${thousands(report.shop.files)} files, ${megabytes(report.shop.fileBytes)}`],
  ['Not offered by this place, so not in the folder', report.shop.leftOut.join(', ') || 'nothing'],
  ['Repository, compressed and encrypted', megabytes(report.repositoryBytes)],
  ['Commits acknowledged to the shop', thousands(report.acknowledged)],
])}
<h2>The story</h2>
<ol class="story">
${report.story.map(storyLine).join('\n')}
</ol>
<p class="small">${escapeHtml(`${report.tool}, ${report.startedAt}, ${seconds(report.durationMs)} in all, on ${report.machine.processors} processors with ${megabytes(report.machine.memoryBytes)} of memory, ${report.machine.system}.`)}</p>
</body>
</html>
`
}

/** Safe in text and in quoted attributes. Control characters would vanish or confuse: they are shown as what they are. */
export function escapeHtml(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
    .replace(
      /[\p{Cc}\p{Cf}\p{Cs}]/gu,
      (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
    )
}

function introduction(report: DemoReport): string {
  const proofs = report.acts.flatMap(({ proofs }) => proofs)
  const passed = proofs.filter((proof) => proof.passed).length
  return (
    'Customers were ordering all the time. First somebody dropped the table of orders by accident; then the machine was ' +
    'lost: server and regain serve killed in the same moment, data directory and folder deleted. Regain recovered ' +
    'twice: to the second before the accident, and to the end of the log. ' +
    `${passed} of ${proofs.length} proofs passed.`
  )
}

function act(report: ActReport): string {
  const loss =
    report.lostCommits === 0
      ? 'nothing'
      : `${thousands(report.lostCommits)} commits, ${seconds(report.rpoMs)} before the crash`
  return `<h2>${escapeHtml(report.title)}</h2>
<pre>$ ${escapeHtml(report.command)}</pre>
<p class="figures"><span><b>${escapeHtml(seconds(report.rtoMs))}</b> to recover (RTO)</span>
<span><b>${escapeHtml(seconds(report.rpoMs))}</b> lost (RPO): ${escapeHtml(loss)}</span>
<span>reached ${escapeHtml(report.reached)}</span></p>
<table>
<tr><th>Proof</th><th></th><th>What was compared</th></tr>
${report.proofs
  .map(
    ({ name, passed, detail }) =>
      `<tr><td>${escapeHtml(name)}</td><td class="${passed ? 'good' : 'bad'}">${passed ? 'passed' : 'FAILED'}</td><td>${escapeHtml(detail)}</td></tr>`,
  )
  .join('\n')}
</table>`
}

function table(rows: [string, string][]): string {
  const cells = rows.map(([name, value]) => `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(value)}</td></tr>`)
  return `<table>\n${cells.join('\n')}\n</table>`
}

function storyLine({ atMs, kind, text }: StoryLine): string {
  if (kind === 'scene')
    return `<li class="scene"><b>${escapeHtml(text)}</b> <span class="small">${escapeHtml(seconds(atMs))}</span></li>`
  if (kind === 'command') return `<li><code>$ ${escapeHtml(text)}</code></li>`
  return `<li>${escapeHtml(text)}</li>`
}

const STYLE = `
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: bold; } .verdict { font-size: 1.3rem; }
.figures span { display: inline-block; margin-right: 2rem; } .figures b { font-size: 1.3rem; }
pre, code { font: 14px/1.5 ui-monospace, monospace; } pre { border: 1px solid var(--line); padding: .5rem; overflow-x: auto; }
.story { list-style: none; padding: 0; } .scene { margin-top: 1rem; } .small { font-size: .85rem; opacity: .7; }
`
