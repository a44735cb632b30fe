#!/usr/bin/env bash
# run-minio.sh DIR: Tidemark on a real MinIO and a real separate etcd, all on loopback, with their data in DIR.
#
# Ports come from TIDEMARK_PORT (8640), KAFKA_PORT (9092), MINIO_PORT (9000), ETCD_PORT (2379) and ETCD_PEER_PORT (2380). Ctrl-C or SIGTERM
# stops Tidemark first and what it stands on after it; the data stays, and the next start goes on with it.
set -euo pipefail
dir=${1:?usage: run-minio.sh DIR}
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

http=127.0.0.1:${TIDEMARK_PORT:-8640}
kafka=127.0.0.1:${KAFKA_PORT:-9092}
s3=127.0.0.1:${MINIO_PORT:-9000}
etcd=127.0.0.1:${ETCD_PORT:-2379}
peer=127.0.0.1:${ETCD_PEER_PORT:-2380}
# For loopback only, where whoever can reach the port can read the files as well.
export AWS_ACCESS_KEY_ID=tidemark AWS_SECRET_ACCESS_KEY=tidemark-demo

minio=$(tools/install minio)
CGO_ENABLED=0 go build -o "$dir/bin/" ./deploy/etcd ./deploy/makebucket

pids=()
# Last started, first stopped; each is awaited, so that nothing is left behind.
stop_all() {
	trap '' INT TERM
	local i
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill -TERM "${pids[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
	pids=()
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A session of its own keeps the terminal's Ctrl-C from reaching everything at once: the order above is ours to keep.
start() { # NAME COMMAND...
	local name=$1
	shift
	setsid "$@" >"$dir/$name.log" 2>&1 &
	pids+=($!)
}

start etcd "$dir/bin/etcd" --name demo --data-dir "$dir/etcd" --log-level warn \
	--listen-client-urls "http://$etcd" --advertise-client-urls "http://$etcd" \
	--listen-peer-urls "http://$peer" --initial-advertise-peer-urls "http://$peer" --initial-cluster "demo=http://$peer"
MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY MINIO_BROWSER=off \
	start minio "$minio" server --quiet --address "$s3" "$dir/minio"
"$dir/bin/makebucket" "http://$s3" tidemark || { echo "run-minio: MinIO or its port failed, see $dir/minio.log" >&2; exit 1; }

for pid in "${pids[@]}"; do
	kill -0 "$pid" 2>/dev/null || { echo "run-minio: a server ended at once (is its port taken?), see $dir/*.log" >&2; exit 1; }
done
cat <<BANNER
etcd       http://$etcd   (log: $dir/etcd.log)
MinIO      http://$s3   (log: $dir/minio.log), bucket tidemark
Tidemark   http://$http
Kafka      $kafka
BANNER

setsid bin/tidemark serve --data-dir "$dir/node" --etcd "http://$etcd" \
	--store s3://tidemark/demo --s3-endpoint "http://$s3" --http "$http" --kafka "$kafka" &
pids+=($!)
wait -n "${pids[@]}" && code=0 || code=$?
exit "$code"
