#!/usr/bin/env bash
# run-cluster.sh DIR: three Tidemark nodes on one etcd and one MinIO, all on loopback, with their data in DIR.
#
# Ports come from TIDEMARK_PORT (8640: the nodes have it and the two above it), KAFKA_PORT (9092, likewise), MINIO_PORT (9000), ETCD_PORT
# (2379) and ETCD_PEER_PORT (2380), the program from TIDEMARK_BIN (bin/tidemark). A node is stopped and started by its name from another terminal, to see how the others take over:
#
#   kill $(cat DIR/node-2.pid)        in order, as a rolling restart does; kill -9 for a crash
#   deploy/run-cluster.sh DIR node-2  starts it again
#
# Ctrl-C or SIGTERM stops the nodes first and what they stand on after them; the data stays, and the next start goes on with it.
set -euo pipefail
dir=${1:?usage: run-cluster.sh DIR [NODE]}
only=${2:-}
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

port=${TIDEMARK_PORT:-8640}
kafka=${KAFKA_PORT:-9092}
s3=127.0.0.1:${MINIO_PORT:-9000}
etcd=127.0.0.1:${ETCD_PORT:-2379}
peer=127.0.0.1:${ETCD_PEER_PORT:-2380}
# For loopback only, where whoever can reach the port can read the files as well.
export AWS_ACCESS_KEY_ID=tidemark AWS_SECRET_ACCESS_KEY=tidemark-demo

node() { # N: the command of the node becomes this process
	echo "$BASHPID" >"$dir/node-$1.pid"
	exec "${TIDEMARK_BIN:-bin/tidemark}" serve --node-id "node-$1" --data-dir "$dir/node-$1" --http "127.0.0.1:$((port + $1 - 1))" \
		--kafka "127.0.0.1:$((kafka + $1 - 1))" \
		--etcd "http://$etcd" --store s3://tidemark/cluster --s3-endpoint "http://$s3"
}
if [[ -n $only ]]; then
	[[ $only =~ ^node-[123]$ ]] || { echo "run-cluster: the nodes are node-1, node-2 and node-3, not $only" >&2; exit 2; }
	node "${only#node-}"
fi

minio=$(tools/install minio)
CGO_ENABLED=0 go build -o "$dir/bin/" ./deploy/etcd ./deploy/makebucket

servers=() nodes=()
# All of these at once, each awaited, so that nothing is left behind.
stop() { # PID...
	local pid
	for pid; do kill -TERM "$pid" 2>/dev/null || true; done
	for pid; do wait "$pid" 2>/dev/null || true; done
}
stop_all() {
	trap '' INT TERM
	local n pid
	for n in 1 2 3; do
		pid=$(cat "$dir/node-$n.pid" 2>/dev/null) || continue
		rm -f "$dir/node-$n.pid"
		[[ " ${nodes[*]} " != *" $pid "* ]] || continue
		# It was started again from elsewhere: bash cannot wait for it.
		kill -TERM "$pid" 2>/dev/null || continue
		for _ in {1..300}; do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
	done
	stop "${nodes[@]}"
	stop "${servers[@]}"
	nodes=() servers=()
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A session of its own keeps the terminal's Ctrl-C from reaching everything at once: the order above is ours to keep.
start() { # NAME COMMAND...
	local name=$1
	shift
	setsid "$@" >"$dir/$name.log" 2>&1 &
	servers+=($!)
}

start etcd "$dir/bin/etcd" --name demo --data-dir "$dir/etcd" --log-level warn \
	--listen-client-urls "http://$etcd" --advertise-client-urls "http://$etcd" \
	--listen-peer-urls "http://$peer" --initial-advertise-peer-urls "http://$peer" --initial-cluster "demo=http://$peer"
MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY MINIO_BROWSER=off \
	start minio "$minio" server --quiet --address "$s3" "$dir/minio"
"$dir/bin/makebucket" "http://$s3" tidemark || { echo "run-cluster: MinIO or its port failed, see $dir/minio.log" >&2; exit 1; }
for pid in "${servers[@]}"; do
	kill -0 "$pid" 2>/dev/null || { echo "run-cluster: a server ended at once (is its port taken?), see $dir/*.log" >&2; exit 1; }
done

for n in 1 2 3; do
	setsid deploy/run-cluster.sh "$dir" "node-$n" >>"$dir/node-$n.log" 2>&1 &
	nodes+=($!)
done
list="http://127.0.0.1:$port,http://127.0.0.1:$((port + 1)),http://127.0.0.1:$((port + 2))"
for _ in {1..300}; do
	ready=0
	for n in 0 1 2; do
		if (exec 3<>"/dev/tcp/127.0.0.1/$((port + n))" && printf 'GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3 && head -1 <&3 | grep -q ' 200 ') 2>/dev/null; then
			ready=$((ready + 1))
		fi
	done
	((ready < 3)) || break
	for pid in "${nodes[@]}"; do
		kill -0 "$pid" 2>/dev/null || { echo "run-cluster: a node ended at once, see $dir/node-*.log" >&2; exit 1; }
	done
	sleep 0.2
done
cat <<BANNER
etcd       http://$etcd   (log: $dir/etcd.log)
MinIO      http://$s3   (log: $dir/minio.log), bucket tidemark
Tidemark   ${list//,/ }   (logs: $dir/node-N.log)
Kafka      127.0.0.1:$kafka 127.0.0.1:$((kafka + 1)) 127.0.0.1:$((kafka + 2))

  export TIDEMARK_SERVER=$list
  bin/tidemark cluster nodes

Ctrl-C stops everything; the data stays.
BANNER
# A node may come and go; without the etcd or the store nothing is left to try.
wait -n "${servers[@]}" && code=0 || code=$?
exit "$code"
