#!/usr/bin/env bash
# Runs a program for as long as the one who started this script lives, and deletes FOLDER when that ends.
#   guard.sh FOLDER PROGRAM [ARGUMENT...]
# The starter holds the other end of this script's stdin: when that closes, however the starter ended, the program is
# killed and FOLDER deleted. SIGTERM kills the program and leaves FOLDER, for a restart. What ends by itself leaves
# FOLDER too; the exit status is the program's. For programs whose state nobody wants afterwards: they get no time.
set -uo pipefail
folder=$1
shift

program="" stopped=""
# shellcheck disable=SC2086 -- no word before the program runs
trap 'stopped=yes; kill -KILL $program 2>/dev/null' TERM
exec 3<&0
if command -v setpriv >/dev/null; then set -- setpriv --pdeathsig KILL "$@"; fi # should this script be killed itself
"$@" </dev/null 3<&- &
program=$!
cat <&3 >/dev/null &
reader=$!
[ -z "$stopped" ] || kill -KILL "$program"
wait -n # for one of them

kill -KILL "$program" "$reader" 2>/dev/null
wait "$program" 2>/dev/null
status=$?
# Nothing was left to read but the end, if it came.
if read -r -t 0 -u 3; then
  # Others may still be writing there: they are killed in this moment, by guards of their own.
  for _ in 1 2 3 4 5; do rm -rf "$folder" 2>/dev/null && break; sleep 0.2; done
fi
exit "$status"
