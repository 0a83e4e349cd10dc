import { globSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

/**
 * The arrows of docs/architecture.md, enforced: which folder may import what, and that nothing below the composition
 * root reads the clock, global randomness or the environment. An import that no rule allows is refused, so a new folder
 * begins with a line here. Tests are free: they put the parts together as they need.
 */
interface Rule {
  /** The folder or file the rule is about; the first rule that fits a file counts. */
  of: string
  /** Folders (ending in `/`) and files it may import besides its own folder. */
  modules: string[]
  packages: string[]
  /** False: not even Node's own modules. */
  builtins: boolean
}

const SHARED = ['src/model.ts', 'src/errors.ts', 'src/filesystem/']
const CONTRACTS = [
  'src/storage/contract.ts',
  'src/keys/contract.ts',
  'src/sources/contract.ts',
  'src/sources/fingerprint.ts',
]
const SOURCE_SEAM = ['src/sources/contract.ts', 'src/sources/fingerprint.ts', ...SHARED]
const ENGINE = ['src/repository/repository.ts', 'src/repository/api.ts']

export const RULES: readonly Rule[] = [
  { of: 'src/main.ts', modules: ['src/'], packages: [], builtins: true },
  { of: 'src/model.ts', modules: [], packages: [], builtins: false },
  { of: 'src/errors.ts', modules: [], packages: [], builtins: false },
  { of: 'src/process.ts', modules: ['src/model.ts'], packages: [], builtins: true },
  { of: 'src/policy/', modules: [], packages: ['croner'], builtins: false },
  { of: 'src/filesystem/', modules: SHARED, packages: ['koffi'], builtins: true },
  ...(['sftp-connection', 'sftp-session', 'sftp-files'] as const).map((file) =>
    driver(`src/storage/${file}.ts`, 'ssh2'),
  ),
  ...(['s3-client', 's3-calls'] as const).map((file) => driver(`src/storage/${file}.ts`, '@aws-sdk/client-s3')),
  driver('src/storage/azure.ts', '@azure/storage-blob'),
  driver('src/storage/gcs-auth.ts', 'google-auth-library'),
  { of: 'src/storage/', modules: SHARED, packages: [], builtins: true },
  { of: 'src/keys/aws-kms.ts', modules: ['src/keys/', ...SHARED], packages: ['@aws-sdk/client-kms'], builtins: true },
  { of: 'src/keys/', modules: SHARED, packages: [], builtins: true },
  { of: 'src/sources/postgres/', modules: SOURCE_SEAM, packages: ['pg'], builtins: true },
  {
    of: 'src/sources/postgres-dump/',
    // The same server by the same wire: how to reach it, its programs, what it holds.
    modules: ['src/sources/postgres/', ...SOURCE_SEAM],
    packages: ['pg'],
    builtins: true,
  },
  {
    of: 'src/sources/postgres-tenants/',
    // The same server by the same wire, and names of tables as a person writes them.
    modules: ['src/sources/postgres/', 'src/sources/postgres-dump/tables.ts', ...SOURCE_SEAM],
    packages: ['pg'],
    builtins: true,
  },
  { of: 'src/sources/files/', modules: ['src/sources/contract.ts', ...SHARED], packages: [], builtins: true },
  { of: 'src/sources/contract.ts', modules: ['src/model.ts', 'src/errors.ts'], packages: [], builtins: false },
  { of: 'src/sources/fingerprint.ts', modules: ['src/model.ts'], packages: [], builtins: false },
  { of: 'src/repository/packs/zstd.ts', modules: [], packages: ['koffi'], builtins: false },
  { of: 'src/repository/keys/hmac.ts', modules: [], packages: ['koffi'], builtins: false },
  {
    of: 'src/repository/',
    // RFC 3394 is part of the format as well: it wraps the identity key.
    modules: ['src/storage/contract.ts', 'src/keys/contract.ts', 'src/keys/key-wrap.ts', ...SHARED],
    packages: [],
    builtins: true,
  },
  { of: 'src/catalog/', modules: ['src/policy/', ...SHARED], packages: [], builtins: true },
  { of: 'src/config/', modules: ['src/policy/', ...SHARED], packages: ['yaml', 'zod'], builtins: true },
  {
    of: 'src/operations/',
    // check-storage knows no driver: it holds a store to its contract.
    modules: [
      ...ENGINE,
      ...CONTRACTS,
      'src/storage/check-storage.ts',
      'src/policy/',
      'src/catalog/',
      'src/config/',
      ...SHARED,
    ],
    packages: [],
    builtins: true,
  },
  { of: 'src/daemon/notify.ts', modules: [], packages: ['koffi'], builtins: false },
  {
    of: 'src/daemon/',
    modules: ['src/operations/', 'src/catalog/', 'src/policy/', 'src/config/', ...CONTRACTS, ...SHARED],
    packages: [],
    builtins: true,
  },
  {
    of: 'src/demo/',
    modules: ['src/operations/', 'src/catalog/', 'src/config/', 'src/sources/postgres/', ...CONTRACTS, ...SHARED],
    packages: ['pg'],
    builtins: true,
  },
  {
    of: 'src/cli/',
    modules: ['src/operations/', 'src/config/', 'src/daemon/', 'src/demo/', ...SHARED],
    packages: ['commander'],
    builtins: true,
  },
]

/** A vendor's package is imported only inside its driver. */
function driver(of: string, ...packages: string[]): Rule {
  return { of, modules: ['src/storage/', ...SHARED], packages, builtins: true }
}

/** Where clock, randomness and environment enter: the process, and a thread, which cannot be handed a function. */
const ROOTS = ['src/main.ts', 'src/repository/compute/thread.ts']

/** What only the composition root may read. */
const AMBIENT: readonly [RegExp, string][] = [
  [/\bDate\.now\b/g, 'Date.now: take the time from Ambient'],
  [/\bnew Date\(\s*\)/g, 'new Date(): take the time from Ambient'],
  [/\bMath\.random\b/g, 'Math.random: take randomness from Ambient'],
  [/\bprocess\.env\b/g, 'process.env: take what is needed as a parameter'],
  [
    /\brandom(?:Bytes|UUID|Int|FillSync)\b(?=[^}\n]*\} from 'node:crypto')/g,
    'node:crypto randomness: take it from Ambient',
  ],
]

/** Statements that bring another module in, and the dynamic import. */
const IMPORTS = [
  /^[ \t]*(?:import|export)\s+(?:type\s+)?(?:[\w$]+\s*,?\s*)?(?:\{[^}]*\}|\*(?:\s+as\s+[\w$]+)?)?\s*from\s*(['"])([^'"]+)\1/gm,
  /^[ \t]*import\s*(['"])([^'"]+)\1/gm,
  /\bimport\s*\(\s*(['"])([^'"]+)\1/g,
]

export interface Violation {
  file: string
  line: number
  message: string
}

/** `files` maps paths from the project's root to their text. */
export function findViolations(files: ReadonlyMap<string, string>): Violation[] {
  const violations: Violation[] = []
  for (const [file, text] of files) {
    const code = withoutComments(text)
    const report = (index: number, message: string) =>
      violations.push({ file, line: code.slice(0, index).split('\n').length, message })
    const rule = RULES.find(({ of }) => (of.endsWith('/') ? file.startsWith(of) : file === of))
    if (rule === undefined) {
      report(0, 'no rule says what this folder may import: add one to scripts/arrows.ts')
      continue
    }
    for (const match of IMPORTS.flatMap((pattern) => [...code.matchAll(pattern)])) {
      const problem = importProblem(rule, file, match[2]!)
      if (problem !== null) report(match.index, problem)
    }
    if (ROOTS.includes(file)) continue
    for (const [pattern, message] of AMBIENT) {
      for (const match of code.matchAll(pattern)) report(match.index, message)
    }
  }
  return violations
}

function importProblem(rule: Rule, file: string, specifier: string): string | null {
  if (specifier.startsWith('node:')) return rule.builtins ? null : `${rule.of} may not import ${specifier}`
  if (!specifier.startsWith('.')) {
    const name = specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/')
    return rule.packages.includes(name) ? null : `${rule.of} may not import the package ${name}`
  }
  const target = posix.join(posix.dirname(file), specifier)
  const allowed = [...(rule.of.endsWith('/') ? [rule.of] : []), ...rule.modules]
  const isAllowed = allowed.some((entry) => (entry.endsWith('/') ? target.startsWith(entry) : target === entry))
  return isAllowed ? null : `${rule.of} may not import ${target}`
}

/** The text with comments blanked out, every line where it was. Strings that hold `//` keep it: quotes are followed. */
function withoutComments(text: string): string {
  return text.replace(
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (part) => (part.startsWith('/') ? part.replace(/[^\n]/g, ' ') : part),
  )
}

function readSources(root: string): Map<string, string> {
  const paths = globSync('src/**/*.ts', { cwd: root }).filter((path) => !path.endsWith('.test.ts'))
  return new Map(paths.sort().map((path) => [path, readFileSync(join(root, path), 'utf8')]))
}

if (import.meta.main) {
  const violations = findViolations(readSources(join(import.meta.dirname, '..')))
  for (const { file, line, message } of violations) console.error(`${file}:${line}: ${message}`)
  if (violations.length > 0) process.exitCode = 1
}
