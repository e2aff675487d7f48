#!/bin/bash
# A SLURM job: one Ray node on each machine, the sweep on the first. Arguments go to `raydistill sweep`. The whole page: docs/how-to/cluster.md.
#
#   make wheel                                        raydistill's wheel, in wheels/
#   sbatch raydistill/launch/slurm.sh --space default --trials 40
#   sbatch raydistill/launch/slurm.sh --space default --trials 40 --resume      after a time limit or scancel
#
# Submit it in a folder that every machine sees: virtual environment, search_spaces/ and the store runs/ are there.
#SBATCH --job-name=raydistill
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --output=raydistill-%j.log
##SBATCH --gpus-per-task=1
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# The package, once for all machines; after a change of the wheel its name or time differs and it is installed again.
venv=$PWD/.venv-cluster
(
  flock 9
  if [ ! -f "$venv/installed" ] || [ -n "$(find wheels constraints.txt -newer "$venv/installed")" ]; then
    test -x "$venv/bin/python" || python3 -m venv "$venv"
    "$venv/bin/pip" install -q -c constraints.txt wheels/*.whl
    "$venv/bin/pip" install -q --no-deps --force-reinstall wheels/*.whl
    touch "$venv/installed"
  fi
) 9> .venv-cluster.lock
export PATH=$venv/bin:$PATH

# Ports and token of this job alone: machines may be shared with other jobs, and SLURM's network with other people.
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH")
cpus=${SLURM_CPUS_PER_TASK:-1}
ray_options=(--num-cpus "$cpus" --min-worker-port 0 --max-worker-port 0 --dashboard-agent-listen-port $((port + 30000))
  --disable-usage-stats --block)

readarray -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_ip=$(srun --nodes 1 --ntasks 1 --overlap --nodelist "${nodes[0]}" hostname -I | cut -d ' ' -f 1)
started=()
start() { # NODE OPTIONS...: a Ray node, until this job ends
  srun --nodes 1 --ntasks 1 --overlap --cpus-per-task "$cpus" --nodelist "$1" \
    ray start "${@:2}" "${ray_options[@]}" > "ray-$SLURM_JOB_ID-$1.log" 2>&1 &
  started+=($!)
}
finish() {
  kill "${started[@]}" 2> /dev/null || true
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT
start "${nodes[0]}" --head --node-ip-address "$head_ip" --port "$port" --dashboard-port $((port + 10000)) \
  --ray-client-server-port $((port + 20000)) --temp-dir "/tmp/ray-$SLURM_JOB_ID"
export RAY_ADDRESS=$head_ip:$port
joined() { ray status 2> /dev/null | grep -c ' node_' || true; }
deadline=$((SECONDS + 180))
wait_for() { # COUNT: until so many Ray nodes are there
  until [ "$(joined)" -ge "$1" ]; do
    [ $SECONDS -lt $deadline ] || { echo "Ray: $(joined) of ${#nodes[@]} nodes after 180 s; see ray-$SLURM_JOB_ID-*.log" >&2; exit 1; }
    sleep 2
  done
}
wait_for 1
for node in "${nodes[@]:1}"; do start "$node" --address "$RAY_ADDRESS"; done
wait_for "${#nodes[@]}"
echo "Ray: ${#nodes[@]} nodes at $RAY_ADDRESS"

# SLURM's TERM, five minutes before the time limit, ends the sweep as Ctrl-C does; --resume goes on with it.
python -m raydistill sweep --store "$PWD/runs" "$@" &
sweep=$!
stopping=
trap 'stopping=1; kill -TERM $sweep' TERM INT
code=0
wait $sweep || code=$?
if [ "$stopping" ]; then # the signal ended the first wait, not the sweep
  code=0
  wait $sweep || code=$?
fi
exit $code
