/** A row as SQLite gives it back, and its columns as values of ours. */
export type Row = Record<string, null | number | bigint | string | Uint8Array>

export function toError(row: Row): { code: string; message: string } | null {
  return row.error_code === null ? null : { code: String(row.error_code), message: String(row.error_message) }
}

export function textOrNull(value: Row[string] | undefined): string | null {
  return value === null || value === undefined ? null : String(value)
}

export function numberOrNull(value: Row[string] | undefined): number | null {
  return value === null || value === undefined ? null : Number(value)
}
