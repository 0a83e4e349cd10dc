import { ABSENT_EXIT } from './fetch.ts'

/** Folder in a restored data directory that holds what its recovery needs. */
export const RECOVERY_FOLDER = 'regain_recovery'
/** In that folder: which recovery it is, as JSON (GuardedRecovery of new-tablespaces.ts). */
export const GUARD_FILE = 'guard.json'
/** In that folder: names the feeder's folder while a `restore --start` runs. */
export const FEEDER_FILE = 'feeder'

/**
 * The program behind restore_command, for a POSIX shell. It runs in the data directory, so the directory may be moved.
 * Whatever cannot be told for certain ends recovery with an error: taken for "no more log" it would end recovery early,
 * at a moment that nobody chose.
 */
export function recoveryScript(command: readonly string[]): string {
  return `#!/bin/sh
# restore_command of a data directory that Regain restored: sh ${RECOVERY_FOLDER}/fetch %f %p
# For PostgreSQL: 0 the file is in place, 1 there is no such file, above 125 recovery must stop.
name=$1
target=$2
here=${RECOVERY_FOLDER}

take() {
  [ -f "$1" ] && mv -f "$1" "$target"
}

# Fetched ahead by an earlier call.
take "$here/spool/$name" && exit 0

# A running "regain restore --start" serves the log: ask it, and wait for its answer.
feeder=
[ -f "$here/${FEEDER_FILE}" ] && feeder=$(cat "$here/${FEEDER_FILE}")
if [ -n "$feeder" ] && [ -d "$feeder" ]; then
  take "$feeder/$name" && exit 0
  : > "$feeder/want.$name" || exit 255
  tries=0
  while [ -d "$feeder" ] && [ "$tries" -lt 15000 ]; do
    take "$feeder/$name" && exit 0
    if [ -e "$feeder/none.$name" ]; then
      rm -f "$feeder/none.$name"
      exit 1
    fi
    [ -e "$feeder/failed" ] && exit 255
    sleep 0.02
    tries=$((tries + 1))
  done
  exit 255
fi

${command.map(shellQuote).join(' ')} "$name" "$PWD/$target" --spool "$PWD/$here/spool" --guard "$PWD/$here/${GUARD_FILE}"
case $? in
  0) exit 0 ;;
  ${ABSENT_EXIT}) exit 1 ;;
  *) exit 255 ;;
esac
`
}

export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
