#!/bin/sh
# No arguments, or options: `dvc repro` in the work tree. A command of Folio's: that. Anything else: executed.
set -u

say() { printf 'folio: %s\n' "$*" >&2; }

# With nothing mounted, the project as it was baked into the image, without git.
if [ ! -e dvc.yaml ]; then
  if ! cp -r "$FOLIO_BAKED/." . 2>/dev/null; then
    say "$(pwd) cannot be written by user $(id -u), or is full; give --user \"\$(id -u):\$(id -g)\", or mount another folder"
    exit 73
  fi
  dvc init -q --no-scm 2>/dev/null || dvc config -q core.no_scm true
fi
if ! touch .folio-write-test 2>/dev/null; then
  say "$(pwd) cannot be written by user $(id -u); give --user \"\$(id -u):\$(id -g)\", or mount it writable"
  exit 73
fi
rm -f .folio-write-test
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ "$free" -lt 102400 ]; then
  say "$((free / 1024)) MB are free where $(pwd) lies, and 100 are needed; make room"
  exit 74
fi

# A lock that a killed container left names a process id, and those repeat in containers: it is nobody's here.
rm -f .dvc/tmp/rwlock .dvc/tmp/rwlock.lock .dvc/tmp/lock

case "${1:-}" in
'' | -*) set -- dvc repro "$@" ;;
download | tokenize | train | evaluate | sample | report | compare | score | export | lecture) set -- folio "$@" ;;
esac
[ "$1 ${2:-}" = "dvc repro" ] || exec "$@"

# DVC dies of SIGTERM at once, and exits with 255 whatever its stage returned. So it ignores the signal, which tini -g
# gives to the whole group: the trainer saves its state and stops, and DVC ends because its stage did. A stage that
# fails leaves its own code in a file.
FOLIO_EXIT_FILE=$(mktemp)
export FOLIO_EXIT_FILE
stopped=
trap 'stopped=1' TERM INT
sh -c 'trap "" TERM INT; exec "$@"' sh "$@" &
child=$!
wait "$child"
code=$?
while [ -n "$stopped" ] && kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
[ "$code" = 0 ] || [ ! -s "$FOLIO_EXIT_FILE" ] || code=$(cat "$FOLIO_EXIT_FILE")
rm -f "$FOLIO_EXIT_FILE"
if [ -n "$stopped" ] && [ "$code" != 0 ]; then
  say "stopped; a training goes on from its saved state in the next run"
  exit 143
fi
exit "$code"
