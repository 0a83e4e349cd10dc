import type { RepairPlan, RepairStep, VerifyProblem } from '../api.ts'
import { PREFIX, packName } from '../format/object-names.ts'

/** What a repair has to know; gathered in repair.ts. Packs by their hex names. */
export interface RepairFacts {
  service: string
  problems: readonly VerifyProblem[]
  /** Index segments whose bytes no longer give their name. */
  changedSegments: readonly string[]
  /** Packs that no readable segment names and whose own directories can be read. */
  uncovered: readonly string[]
  /** Those of them that points need. */
  needed: ReadonlySet<string>
  /** Packs that neither a segment nor their own directory describes. */
  undescribed: readonly string[]
  /** Packs that are there and hurt. */
  damaged: readonly string[]
  /** Packs that are marked for removal already; null if that is lost, and then nothing else about packs is changed this time. */
  marked: ReadonlySet<string> | null
  /** Whether no backup is under way, so that none is about to index its packs by itself. */
  isIdle: boolean
  /** Receipts of points that count, damaged or missing. */
  receipts: readonly string[]
  /** Pins that do not open. */
  pins: readonly string[]
  /** Clear objects that were changed or removed and that this version can write as they were. */
  companions: readonly string[]
}

/**
 * What to do, in the order in which it is done: a damaged segment goes only when all that it may have named is indexed
 * again, and a damaged pack is marked for removal, which keeps backups from reusing it and readers reading it.
 */
export function planRepair(facts: RepairFacts): RepairPlan {
  const { marked } = facts
  const ofPacks =
    marked === null
      ? [markAll()]
      : [indexPacks(facts, marked), removeSegments(facts), setAside(facts, marked), writeReceipts(facts)]
  const steps = [...ofPacks, removePins(facts), writeCompanions(facts)].filter((step) => step.objects.length > 0)
  const mended = new Set(steps.flatMap(({ objects }) => objects))
  const hurting = new Set(facts.problems.filter(({ hurts }) => hurts.length > 0).map(({ object }) => object))
  const left = facts.problems.filter(({ object, hurts }) => {
    // Told once, with what it hurts.
    if (hurts.length === 0 && hurting.has(object)) return false
    if (hurts.length > 0) return true
    if (marked === null && object.startsWith(PREFIX.generations)) return false
    return object === 'the index' ? facts.needed.size === 0 : !mended.has(object)
  })
  return { steps, left: left.map((problem) => ({ ...problem, advice: adviceFor(problem, facts) })) }
}

function indexPacks(facts: RepairFacts, marked: ReadonlySet<string>): RepairStep {
  const isAll = facts.isIdle || facts.changedSegments.length > 0
  const damaged = new Set(facts.damaged)
  // What is marked is indexed as well if points need it: without that no prune can tell that it is there.
  const packs = facts.uncovered.filter((pack) =>
    marked.has(pack) ? facts.needed.has(pack) && !damaged.has(pack) : isAll || facts.needed.has(pack),
  )
  const why = 'No readable index segment names these packs: a new one is written from what they say of themselves.'
  return { action: 'index-packs', objects: packs.map(packName), why }
}

function removeSegments({ changedSegments, undescribed, problems }: RepairFacts): RepairStep {
  const why = 'These index segments are damaged and of no use any more.'
  // What such a segment still says, in bytes that were not hurt, may be the last word on what these packs hold.
  const mayTell = undescribed.length > 0 && problems.some(({ hurts }) => hurts.length > 0)
  return { action: 'remove-segments', objects: mayTell ? [] : [...changedSegments], why }
}

function markAll(): RepairStep {
  const why =
    'What earlier prunes marked for removal is lost. So all packs count as marked: backups store again what they need, once, and prunes write anew what else is needed, a part each time. Restores are not affected. Then plan the repair again, for whatever else is hurt.'
  return { action: 'mark-all-packs', objects: [PREFIX.generations], why }
}

function setAside({ damaged }: RepairFacts, marked: ReadonlySet<string>): RepairStep {
  const packs = damaged.filter((pack) => !marked.has(pack))
  const why =
    'These packs are damaged. They are marked for removal, so that the next backup stores again what they held; what can be read of them still serves restores until a prune finds all of it elsewhere.'
  return { action: 'set-aside-packs', objects: packs.map(packName), why }
}

function writeReceipts({ receipts }: RepairFacts): RepairStep {
  const why = 'Their points are there, and say what they held.'
  return { action: 'write-receipts', objects: [...receipts], why }
}

function removePins({ pins }: RepairFacts): RepairStep {
  const why =
    'These pins of readers are damaged, and no prune removes anything while one is there. A restore that runs just now from a point that was removed may have to be begun again.'
  return { action: 'remove-pins', objects: [...pins], why }
}

function writeCompanions({ companions }: RepairFacts): RepairStep {
  return {
    action: 'write-companions',
    objects: [...companions],
    why: 'They are not what was written with the repository.',
  }
}

function adviceFor({ object, hurts }: VerifyProblem, { service, changedSegments }: RepairFacts): string {
  if (hurts.length > 0)
    return `Take a new backup (regain backup ${service}): it stores again what the source still has, and that mends every point which shares it. A destination that has these points and could not be reached now mends them when this repair is made again.`
  if (changedSegments.includes(object))
    return 'It stays, because a damaged pack may be described nowhere else. It does no harm.'
  for (const [prefix, advice] of ADVICE) if (object.startsWith(prefix)) return advice.replaceAll('SERVICE', service)
  return 'Bring it back from a copy of this repository, if there is one.'
}

const ADVICE: [prefix: string, advice: string][] = [
  [
    PREFIX.keys,
    'Write it anew with the key that it was made for: regain key add SERVICE KEY. Until then keep another key at hand.',
  ],
  [
    PREFIX.ends,
    'The point is lost here. If another destination has it: regain replicate SERVICE --from THERE --to HERE --all. Then, or if none has it, give it up, so that prunes go on: regain repository repair SERVICE --accept-loss',
  ],
  [
    PREFIX.sessions,
    'If its point is listed, nothing is hurt: that the object is there is all that counts. Else that point is lost; give it up with: regain repository repair SERVICE --accept-loss',
  ],
  [PREFIX.receipts, 'Its point is lost as well.'],
  [
    PREFIX.log,
    'Take a new backup (regain backup SERVICE): recovery from that point on needs no older log. A destination that has this log and could not be reached now mends it when this repair is made again.',
  ],
]
