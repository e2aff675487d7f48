#!/bin/bash
# The experiment was deleted in MLflow's UI (MLflow keeps it as "deleted"); then the next sweep.
# Right: the sweep says so once and what to do, trains, and names the command that sends it later; which does, once
# the experiment is restored. `doctor` says it before.
RD=${RAYDISTILL:-raydistill}; BIN=$(dirname "$RD"); WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"; bad=0
SMALL="--trials 1 --nimg 32 --set evaluator.budget_nimg=64 --set teacher.budget_nimg=64 --set student.report_every_nimg=32 --set data.num_train=64 --set data.num_val=8 --set data.num_test=8"
"$BIN/python" - <<P
import mlflow
from pathlib import Path
Path("store").mkdir(); Path("store/store.json").write_text('{"store_version": 1}')
client = mlflow.MlflowClient("sqlite:///$WORK/store/mlflow.db")
client.delete_experiment(client.create_experiment("raydistill"))
P
expect() { [ "$1" = "$2" ] || { echo "expected $2, got $1: $3"; bad=1; }; }
timeout 900 "$RD" doctor --store store > doctor.txt 2>&1; expect $? 1 "doctor"
expect "$(grep -c 'mlflow experiments restore' doctor.txt)" 1 "doctor's advice"
timeout 900 "$RD" sweep --store store $SMALL > out.txt 2>&1; expect $? 0 "the sweep"
expect "$(grep -c 'mlflow experiments restore --experiment-id 1' out.txt)" 1 "the sweep's advice"
expect "$(tail -1 out.txt | grep -c 'not yet in MLflow .* raydistill track ')" 1 "the last line"
"$BIN/python" -c "import mlflow; mlflow.MlflowClient('sqlite:///$WORK/store/mlflow.db').restore_experiment('1')"
timeout 300 "$RD" track store/sweeps/default-001 > track.txt 2>&1; expect $? 0 "track"
runs=$("$BIN/python" -c "import mlflow; print(len(mlflow.MlflowClient('sqlite:///$WORK/store/mlflow.db').search_runs(['1'])))")
expect "$runs" 8 "the sweep, its teacher, four baselines, a student, a recheck"
[ $bad = 0 ] || tail -5 doctor.txt out.txt track.txt
exit $bad
