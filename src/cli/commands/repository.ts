import { formatDuration } from '../../config/duration.ts'
import type { RekeyOutcome } from '../../operations/rekey.ts'
import type { AnyRepairStep, RepairOutcome } from '../../operations/repair.ts'
import type { EnsuredRepository, StoreOutcome } from '../../operations/repository.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes } from '../format.ts'
import { firstExample, helpCommand } from '../program.ts'
import { tellProblem, tellVerified } from './verify.ts'

const EXAMPLES = `
Examples:
  regain repository init          make the repositories that the configuration names and that are missing
  regain repository rekey shop    after a data key may have leaked; safe to interrupt, goes on when run again
  regain repository check shop    its stores keep what they must, and every object that points and logs need is there
  regain repository check far     the same for what is at one destination`

const REPAIR_HELP = `
Rebuilds a lost or damaged index from the packs, sets damaged packs aside, and brings what points and logs miss from the
service's other destinations, where they have it. What is still missing the next backup stores again, if the source has it.
Nothing that can still be read is removed or replaced. Each step is shown before it is done; what is interrupted goes on when
the command is given again. Exit status 4: something can not be mended.

Examples:
  regain repository repair shop --dry-run      what would be done
  regain repository repair shop --read-data    also what only a look at every byte finds
  regain repository repair shop --destination hot --from offsite    mend hot with what offsite has, and nothing else`

export const register: Register = (program, run) => {
  const repository = program
    .command('repository')
    .helpGroup('Keys and repositories:')
    .description('where the data of a service is kept')
    .addHelpCommand(helpCommand())
    .addHelpText('after', EXAMPLES)
  firstExample(repository, 'regain repository check shop')

  repository
    .command('init')
    .description('make what is missing')
    .argument('[service]', 'one service; all if left out')
    .action((service: string | undefined) =>
      run(async (session) => {
        const application = await session.application()
        const { initRepositories } = await import('../../operations/repository.ts')
        const tell = ({ service: name, destination, isNew }: EnsuredRepository) =>
          session.output.say(`${name} at ${destination}: ${isNew ? 'made' : 'was there already'}`)
        const repositories = await initRepositories(application, service, tell)
        session.output.result({ operation: 'repository-init', repositories })
        return 0
      }),
    )

  repository
    .command('check')
    .description('check what stores promise and the structure of repositories; contents: regain verify --read-data')
    .argument('[service|destination]', 'one of them; all if left out')
    .action((name: string | undefined) =>
      run(async (session) => {
        const application = await session.application()
        const { checkRepositories } = await import('../../operations/repository.ts')
        const isWell = await checkRepositories(application, name, session.reporting, {
          store: (outcome) => tellStore(session, outcome),
          repository: (outcome) => tellVerified(session, outcome, 'repository-check'),
        })
        return isWell ? 0 : 4
      }),
    )

  repository
    .command('repair')
    .description('plan and do what mends a repository, and say what can not be mended')
    .argument('<service>', 'one service')
    .option('--read-data', 'look for damage in every byte')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--destination <name>', 'at this destination only')
    .option('--from <destination>', 'bring what is lost from this one only; any other of the service if left out')
    .option(
      '--accept-loss',
      'give up points that were committed and are lost, or that were seen there and are gone, or another repository there',
    )
    .addHelpText('after', REPAIR_HELP)
    .action((service: string, options: RepairOptions) =>
      run(async (session) => {
        const application = await session.application()
        const { repair } = await import('../../operations/repair.ts')
        const { destination, from, readData = false, dryRun: isDryRun = false, acceptLoss = false } = options
        const outcomes = await repair(
          application,
          { service, destination, from, readData, isDryRun, acceptLoss },
          session.reporting,
          (steps) => tellSteps(session, steps),
          (outcome) => tellRepaired(session, outcome),
        )
        return outcomes.every(({ left }) => left.length === 0) ? 0 : 4
      }),
    )

  repository
    .command('rekey')
    .description(
      'give a service a new data key, and seal under it all that is stored: after the old one may have leaked',
    )
    .argument('<service>', 'the service')
    .option('--destination <name>', 'only there')
    .action((service: string, flags: { destination?: string }) =>
      run(async (session) => {
        const application = await session.application()
        const { rekeyRepositories } = await import('../../operations/rekey.ts')
        const tell = (outcome: RekeyOutcome) => tellRekeyed(session, outcome)
        const outcomes = await rekeyRepositories(application, service, flags.destination, session.reporting, tell)
        return outcomes.every(({ done }) => done) ? 0 : 3
      }),
    )
}

function tellRekeyed({ output }: Session, outcome: RekeyOutcome): void {
  const { service, destination, begun, epoch, done, packs, objects, waits } = outcome
  const where = `${service} at ${destination}`
  if (begun) output.say(`${where}: key epoch ${epoch} has begun. Everything new is sealed under the new data key.`)
  else if (!done) output.say(`${where}: going on with key epoch ${epoch}.`)
  for (const { kek, label } of begun?.dropped ?? [])
    output.warn(
      `The key ${kek} (${label}) was not at hand and opens nothing that is stored from now on. Add it again: regain key add ${service} NAME`,
    )
  for (const wait of waits) output.warn(wait)
  const written = `${count(packs, 'pack')} and ${count(objects, 'other object')} sealed anew`
  output.say(
    done
      ? `${where}: ${written}. The old data key opens nothing here any more, and its wrapped forms are gone; ${formatDuration(outcome.durationMs)}`
      : `${where}: ${written}. NOT DONE YET: run the same command again.`,
  )
  output.result({ operation: 'repository-rekey', ...outcome })
}

interface RepairOptions {
  readData?: boolean
  dryRun?: boolean
  destination?: string
  from?: string
  acceptLoss?: boolean
}

function tellSteps({ output }: Session, steps: readonly AnyRepairStep[]): void {
  for (const step of steps) {
    const { action, objects, why } = step
    const from = 'from' in step ? ` from ${step.from}` : ''
    output.say(`${ACTIONS[action](count(objects.length, NOUNS[action]))}${from}. ${why}`)
    for (const object of objects.slice(0, OBJECTS_SHOWN)) output.say(`  ${object}`)
    if (objects.length > OBJECTS_SHOWN) output.say(`  … and ${objects.length - OBJECTS_SHOWN} more`)
  }
}

function tellRepaired({ output }: Session, outcome: RepairOutcome): void {
  const { service, destination, steps, left, isDryRun } = outcome
  for (const problem of output.isJson ? [] : left) {
    tellProblem(output, problem)
    output.warn(`  ${problem.advice}`)
  }
  for (const { from, chunks, bytes, logObjects } of outcome.fetched)
    output.say(
      `Brought from ${from}: ${count(chunks, 'chunk')} (${formatBytes(bytes)}), ${count(logObjects, 'log object')}.`,
    )
  for (const point of outcome.accepted) output.say(`Recovery point ${point} is given up.`)
  const done = steps.length === 0 ? 'nothing to repair' : isDryRun ? 'nothing was done: this was a dry run' : 'repaired'
  const rest = left.length === 0 ? '' : `; ${count(left.length, 'PROBLEM')} can not be mended here`
  output.say(`${service} at ${destination}: ${done}${rest}; ${formatDuration(outcome.durationMs)}`)
  output.result({ operation: 'repository-repair', ...outcome })
}

const OBJECTS_SHOWN = 10

const ACTIONS: Record<AnyRepairStep['action'], (what: string) => string> = {
  'index-packs': (what) => `Index ${what}`,
  'remove-segments': (what) => `Remove ${what}`,
  'set-aside-packs': (what) => `Set ${what} aside`,
  'mark-all-packs': () => 'Mark all packs for removal',
  'fetch-chunks': (what) => `Bring what is missing to ${what}`,
  'fetch-log': (what) => `Bring ${what}`,
  'write-receipts': (what) => `Write ${what} anew`,
  'remove-pins': (what) => `Remove ${what}`,
  'write-companions': (what) => `Write ${what} anew`,
}

const NOUNS: Record<AnyRepairStep['action'], string> = {
  'index-packs': 'pack',
  'remove-segments': 'index segment',
  'set-aside-packs': 'pack',
  'mark-all-packs': 'generation',
  'fetch-chunks': 'point',
  'fetch-log': 'log object',
  'write-receipts': 'receipt',
  'remove-pins': 'damaged pin',
  'write-companions': 'file',
}

function tellStore({ output }: Session, outcome: StoreOutcome): void {
  const { service, destination, findings, clock } = outcome
  const broken = findings.filter((finding) => finding.broken !== null)
  output.say(`${service} at ${destination}: the store ${broken.length === 0 ? 'keeps' : 'DOES NOT KEEP'} what it must`)
  for (const { what, broken: seen, otherwise } of findings) {
    output.line(`${seen === null ? 'ok      ' : 'ERROR   '}${what}`)
    if (seen !== null) output.line(`        but ${seen}. ${otherwise}`)
  }
  if (clock !== null) output.warn(clock)
  output.result({ operation: 'store-check', ...outcome })
}
