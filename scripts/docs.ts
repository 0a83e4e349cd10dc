import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ERRORS } from '../src/errors.ts'

/** Writes the pages that come from the code: node scripts/docs.ts. A test notices when one is out of date. */

const EXITS: Record<number, string> = {
  1: 'failed',
  2: 'usage or configuration',
  4: 'verification failed',
  5: 'refused by policy or permission',
  6: 'target not empty or precondition not met',
  10: 'no repository',
  12: 'wrong key',
  130: 'interrupted',
}

export const ERRORS_PAGE = 'docs/errors.md'

/** docs/errors.md, from the error catalog. */
export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { exit, retryable, hint }]) =>
      `| \`${code}\` | ${exit}: ${EXITS[exit]} | ${retryable ? 'may help' : 'no'} | ${hint.replaceAll('|', '\\|')} |`,
  )
  return `<!-- Written by scripts/docs.ts from src/errors.ts: change that, then run: node scripts/docs.ts -->
# Errors

Every error has a stable code. People see a message (what happened, and what it means for the data) and a hint (what to
do next); with \`--json\` the last line is
\`{"type":"error","code":…,"message":…,"hint":…,"retryable":…}\`, and the exit status is the code's.

*Retry* says whether the same command may work later without anything being changed. The hint below is what is said when
the place of the error knows nothing better.

| code | exit status | retry | hint |
|---|---|---|---|
${rows.join('\n')}

Exit status 3 is no error: the command did its work, but something is missing from it, and each thing is named.
`
}

if (import.meta.main) {
  const path = join(import.meta.dirname, '..', ERRORS_PAGE)
  const page = errorsPage()
  if (readFileSync(path, { encoding: 'utf8', flag: 'a+' }) !== page) writeFileSync(path, page)
}
