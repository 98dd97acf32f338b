#!/bin/sh
# Backs up the data directory of a stopped host (or of a snapshot of a running one), with what a recovery drill compares.
#
#   backup.sh DATA_DIR BACKUP_DIR
#
# Left out: compiled modules (cache) and the private servers, which a start makes anew and fills from the log.
set -eu
if [ $# -ne 2 ]; then
    echo "usage: backup.sh DATA_DIR BACKUP_DIR" >&2
    exit 2
fi
data=$1 backup=$2
clickmill=${CLICKMILL_BIN:-clickmill}
# Readers of the data directory, not of a host that the environment names.
unset CLICKMILL_DATA_DIR CLICKMILL_TOKEN DATABASE_URL REDIS_URL || true

case $("$clickmill" --data-dir "$data" status | head -n 1) in
    stopped,*) ;;
    *)
        echo "error: a host runs on $data: stop it first, or back up a snapshot of its file system" >&2
        exit 1
        ;;
esac
if [ -e "$backup" ]; then
    echo "error: $backup is there already: a back-up is never written over another one" >&2
    exit 1
fi

# Under another name until it is whole.
part=$backup.part
rm -rf "$part"
mkdir -p "$part/data"
for entry in "$data"/* "$data"/.[!.]*; do
    case ${entry##*/} in
        cache | servers | '*' | '.[!.]*') ;;
        *) cp -a "$entry" "$part/data/" ;;
    esac
done
"$clickmill" --data-dir "$part/data" checkpoint verify > "$part/checkpoints.txt"
"$clickmill" --data-dir "$part/data" status > "$part/status.txt"
for size in 1m 5m; do
    "$clickmill" --data-dir "$part/data" windows --size $size --output csv > "$part/windows-$size.csv"
done
(cd "$part" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > ../"${part##*/}".sums && mv ../"${part##*/}".sums SHA256SUMS)
sync
mv "$part" "$backup"
echo "backed up: $backup ($(du -sh "$backup" | cut -f 1))"
