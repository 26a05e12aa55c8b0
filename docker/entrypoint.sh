#!/bin/sh
# Without arguments, or with options only: run `dvc repro`. With a folio command: run it. Otherwise: execute the arguments.
set -u

say() { printf 'folio: %s\n' "$*" >&2; }

# Folders for caches, with the user in their names: Apptainer gives containers the /tmp of the machine, which others share.
user=$(id -u)
export DVC_SITE_CACHE_DIR="${DVC_SITE_CACHE_DIR:-/tmp/dvc-site-$user}" MPLCONFIGDIR="${MPLCONFIGDIR:-/tmp/mpl-$user}"
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-/tmp/cache-$user}" TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-/tmp/inductor-$user}"

[ "${1:-}" != new ] || exec folio "$@"

# If nothing is mounted, copy the project from the image, without git.
if [ ! -e dvc.yaml ]; then
  if ! cp -r "$FOLIO_BAKED/." . 2>/dev/null; then
    say "$(pwd) is not writable by user $(id -u), or is full; use --user \"\$(id -u):\$(id -g)\", or mount another folder"
    exit 73
  fi
  dvc init -q --no-scm 2>/dev/null || dvc config -q core.no_scm true
fi
if ! touch .folio-write-test 2>/dev/null; then
  say "$(pwd) is not writable by user $(id -u); use --user \"\$(id -u):\$(id -g)\", or mount it writable"
  exit 73
fi
rm -f .folio-write-test
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ "$free" -lt 102400 ]; then
  say "only $((free / 1024)) MB are free on the disk of $(pwd), and 100 MB are needed; delete files"
  exit 74
fi

# A lock of a killed container names a process id, which another process may have in this container. Locks are deleted only
# if no other container works here: each holds a lock of its own, which ends with it.
if ! { mkdir -p .dvc/tmp && touch .dvc/tmp/folio.lock; } 2>/dev/null; then
  say "$(pwd)/.dvc/tmp is not writable by user $(id -u), perhaps because DVC ran as another user; change its owner"
  exit 73
fi
exec 9>>.dvc/tmp/folio.lock
if flock -n 9; then
  rm -f .dvc/tmp/rwlock .dvc/tmp/rwlock.lock .dvc/tmp/lock
else
  say "another container works in this folder; its locks are kept"
fi

case "${1:-}" in
'' | -*) set -- dvc repro "$@" ;;
download | tokenize | train | evaluate | sample | report | compare | score | export) set -- folio "$@" ;;
esac
[ "$1 ${2:-}" = "dvc repro" ] || exec "$@"

# DVC ends at once on SIGTERM, and exits with 255 whatever its stage returned. It therefore ignores the signal, which
# tini -g sends to the whole group: the trainer saves a checkpoint and stops, and DVC ends because its stage did. A
# stage that fails writes its exit code to a file.
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
if [ "$code" = 137 ] && [ -z "$stopped" ]; then
  say "a stage was killed or crashed, perhaps because there was no memory left"
fi
if [ -n "$stopped" ] && [ "$code" != 0 ]; then
  say "stopped; the next run resumes from the saved checkpoint"
  exit 143
fi
exit "$code"
