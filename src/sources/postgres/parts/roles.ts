/** Roles that a dump's definitions name. */
export interface NamedRoles {
  owners: Set<string>
  grantees: Set<string>
}

const ROLE = '("(?:[^"]|"")+"|[^ ",;]+)'
const OWNER = new RegExp(`^ALTER .* OWNER TO ${ROLE};$`)
const GRANTEE = new RegExp(
  `^(?:GRANT .* TO|REVOKE .* FROM|ALTER DEFAULT PRIVILEGES FOR ROLE|SET SESSION AUTHORIZATION) ${ROLE}`,
)

/** Reads them from pg_dump's SQL, which has one such statement a line. A function's body can look like one; that costs nothing but a remark. */
export async function readRoles(lines: AsyncIterable<string>): Promise<NamedRoles> {
  const roles: NamedRoles = { owners: new Set(), grantees: new Set() }
  for await (const line of lines) {
    const owner = OWNER.exec(line)?.[1]
    if (owner !== undefined) roles.owners.add(unquote(owner))
    const grantee = GRANTEE.exec(line)?.[1]
    if (grantee !== undefined && !['PUBLIC', 'DEFAULT'].includes(grantee)) roles.grantees.add(unquote(grantee))
  }
  return roles
}

function unquote(text: string): string {
  return text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text
}
