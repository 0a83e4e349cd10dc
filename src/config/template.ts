import { stringify } from 'yaml'

export interface TemplateChoices {
  service: string
  /** As it is to stand in the file: a URL without password, or a reference. */
  postgresUrl: string | null
  files: string[]
  /** Directory. */
  destination: string
  /** Path of the key file. */
  key: string
}

/** A first regain.yaml, with comments that teach. Everything in it is in effect; what is only an example is a comment. */
export function configurationTemplate(choices: TemplateChoices): string {
  const { service, postgresUrl, files, destination, key } = choices
  return `# Configuration of Regain. After a change: regain config check
# Every setting: docs/cli.md, or regain config schema for editors.
version: 1

# Where backups go: one repository per service below each path. A disk of the machine that is backed up protects
# against mistakes, not against losing the machine: put a second destination on other hardware.
destinations:
  local: { type: local, path: ${flow(destination)} }
  # other: { type: local, path: /mnt/backup }

# What opens the repositories. WITHOUT THIS FILE NOBODY CAN READ THE BACKUPS. Keep a copy of it elsewhere.
keys:
  main: { type: file, path: ${flow(key)} }

services:
  ${service}:
    key: main
    destinations: [local]
    sources:
${postgresUrl === null ? '' : postgresSource(postgresUrl)}${files.length === 0 ? '' : filesSource(files)}
    # Times are UTC unless timezone says otherwise. Run by: regain serve
    schedule:
      full: "0 2 * * *"
      incremental: "0 */6 * * *"
      # timezone: Europe/Berlin

    # What is kept: the last point of each of 30 days, 12 weeks, 12 months and 7 years, and the log of the 30 days. All else
    # is removed every day by regain serve, or by regain prune (--dry-run shows what it would do). keep-all removes nothing.
    retention: { daily: 30, weekly: 12, monthly: 12, yearly: 7 }
`
}

function postgresSource(url: string): string {
  return `      db:
        type: postgres
        # A role with LOGIN and REPLICATION. Secrets come from the environment (\${NAME}) or a file (file:PATH).
        url: ${flow(url)}
        # regain serve follows the transaction log, for recovery to any moment.
        log: continuous
`
}

function filesSource(paths: string[]): string {
  return `      files:
        type: files
        paths: ${flow(paths)}
        # exclude: ["*.tmp", "cache/"]
        # before: "curl -fsS localhost:8080/freeze"    # run before reading, and
        # after: "curl -fsS localhost:8080/thaw"       # after it, whatever happened
`
}

/** A value as YAML on one line, quoted where it must be. */
function flow(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0, defaultStringType: 'QUOTE_DOUBLE' }).trimEnd()
}
