#!/bin/sh
# Proves that a back-up of backup.sh can be started from, without touching the host that it is of: restores it into a scratch
# directory, runs it to the end without sinks, and compares its windows with those of the back-up.
#
#   recovery-drill.sh BACKUP_DIR [SCRATCH_DIR]
set -eu
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: recovery-drill.sh BACKUP_DIR [SCRATCH_DIR]" >&2
    exit 2
fi
backup=$1
clickmill=${CLICKMILL_BIN:-clickmill}
unset CLICKMILL_DATA_DIR CLICKMILL_TOKEN CLICKMILL_LISTEN DATABASE_URL REDIS_URL SLACK_WEBHOOK_URL || true
scratch=$(mktemp -d "${2:-${TMPDIR:-/tmp}}/recovery-drill.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
begun=$(date +%s)

(cd "$backup" && sha256sum --quiet -c SHA256SUMS)
echo "ok   every file of the back-up is as it was written"

cp -a "$backup/data" "$scratch/data"
cat > "$scratch/clickmill.yaml" <<'YAML'
server: {enabled: false}
sinks: {postgres: {enabled: false}, redis: {enabled: false}}
YAML
restored() { "$clickmill" --config "$scratch/clickmill.yaml" --data-dir "$scratch/data" "$@"; }

restored checkpoint verify > /dev/null
echo "ok   every checkpoint is sound"

restored run --until-end 2> "$scratch/run.log" || { tail -n 20 "$scratch/run.log" >&2; exit 1; }
echo "ok   it starts and works off what waits"

ledger=$(restored status | grep '^ledger:')
case $ledger in
    *"(it balances)"*) echo "ok   $ledger" ;;
    *) echo "FAIL $ledger" >&2; exit 1 ;;
esac

# Events that waited at the back-up have been counted since: then windows may only have grown.
waiting=$(sed -n 's/^ledger:.* \([0-9]*\) waiting.*/\1/p' "$backup/status.txt")
for size in 1m 5m; do
    restored windows --size $size --output csv > "$scratch/windows-$size.csv"
    if cmp -s "$scratch/windows-$size.csv" "$backup/windows-$size.csv"; then
        echo "ok   $(($(wc -l < "$scratch/windows-$size.csv") - 1)) windows of $size are those of the back-up"
    elif [ "$waiting" -gt 0 ]; then
        echo "ok   windows of $size went on: $waiting events waited at the back-up"
    else
        echo "FAIL windows of $size are not those of the back-up" >&2
        exit 1
    fi
done
echo "the drill succeeded in $(($(date +%s) - begun)) s"
