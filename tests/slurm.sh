#!/usr/bin/env bash
# Sweeps on a real Slurm of this machine alone, which the script starts and stops (as root, with
# Debian's slurm-wlm and munge). Of 20 trials one is requeued while it runs and the node is drained in
# between, and the process that submitted them is killed; every trial must be complete once, and the
# table be that of a sweep without Slurm, and so it must with two ranks a trial.
#
#     tests/slurm.sh [SEEDS=10]
set -euo pipefail

seeds=${1:-10}
root=$(cd "$(dirname "$0")/.." && pwd)
xp=${CARGO_TARGET_DIR:-$root/target}/release/xp
if [ "$(id -u)" != 0 ] || ! command -v slurmctld munged >/dev/null; then
    echo "skipped: wants root and the Debian packages slurm-wlm and munge"
    exit 0
fi
work=$(mktemp -d)
export SLURM_CONF=$work/slurm.conf

stop() {
    scancel --quiet --full --signal=KILL --state=RUNNING 2>/dev/null || true
    for daemon in slurmctld slurmd munged; do
        pid=$(cat "$work/$daemon.pid" 2>/dev/null) && kill "$pid" 2>/dev/null || true
    done
    sleep 1
    rm -rf "$work"
}
trap stop EXIT

mkdir "$work/state" "$work/spool" "$work/log"
install -d -o munge -g munge /run/munge "$work/munge"
[ -e /etc/munge/munge.key ] || runuser -u munge -- mungekey
chmod 711 "$work"
runuser -u munge -- munged --force --pid-file="$work/munge/munged.pid" --log-file="$work/munge/log" \
    --seed-file="$work/munge/seed"
ln -s munge/munged.pid "$work/munged.pid"
cpus=$(nproc)
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=26817
SlurmctldPidFile=$work/slurmctld.pid
SlurmctldLogFile=$work/log/slurmctld
SlurmdPort=26818
SlurmdPidFile=$work/slurmd.pid
SlurmdLogFile=$work/log/slurmd
SlurmdSpoolDir=$work/spool
SlurmUser=root
StateSaveLocation=$work/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=10
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
node=$(hostname -s)
for _ in $(seq 60); do
    sinfo --noheader --format=%t | grep -q idle && break
    sleep 1
done
if ! sinfo --noheader --format=%t | grep -q idle; then
    echo "skipped: Slurm does not start here"
    tail -n 20 "$work"/log/* || true
    exit 0
fi

cat >"$work/tiny.toml" <<CONF
extends = "$root/configs/quickstart.toml"
name = "tiny"
runs_dir = "runs"
[cache]
dir = "features"
[launcher.slurm]
partition = "main"
cpus = 1
[sweep]
seeds = $seeds
[sweep.axes]
"phase[0].optimizer.lr" = [1e-3, 1e-2]
CONF
cd "$work"
# To be run in a shell of its own, whose place it takes: its number is then that of xp.
sweep() {
    exec "$xp" sweep tiny.toml --set data.generate.per_class=40 --set phase[0].epochs=30 \
        --set phase[1].epochs=10 "$@"
}

echo "== one process after the other"
(sweep --name calm) >calm.out 2>&1

echo "== an array, its submitter killed, a task requeued, the node drained for a while"
sweep --name wild --launcher slurm >first.out 2>&1 &
submitter=$!
for _ in $(seq 100); do
    [ "$(squeue --noheader --states=RUNNING --format=%i | wc -l)" -gt 0 ] && break
    sleep 0.2
done
kill -9 "$submitter"
wait "$submitter" 2>/dev/null || true
sleep 2
task=$(squeue --noheader --states=RUNNING --format=%A | head -n 1)
[ -n "$task" ] || { echo "there was no task to requeue"; exit 1; }
scontrol requeue "$task" && echo "requeued $task"
scontrol update nodename="$node" state=drain reason=test
sleep 3
squeue --noheader | wc -l
scontrol update nodename="$node" state=resume
(sweep --name wild --launcher slurm --attach) >second.out 2>&1 &
follower=$!
# A queue that does not move must not be followed for ever.
(sleep 900 && kill "$follower") 2>/dev/null &
watchdog=$!
wait "$follower"
kill "$watchdog" 2>/dev/null || true
tail -n 30 second.out
grep -q "following Slurm jobs" second.out

timeless() {
    python3 -c 'import csv, sys
for row in csv.DictReader(open(sys.argv[1])):
    row.pop("seconds")
    print(",".join(row.values()))' "runs/$1/sweep.csv"
}
diff <(timeless calm) <(timeless wild)
trials=$(timeless wild | grep -c ',done,')
[ "$trials" = $((2 * seeds)) ]
for log in runs/wild/trials/*.log; do
    [ "$(grep -c '^done in' "$log")" = 1 ] || { echo "$log: not done once"; cat "$log"; exit 1; }
done
resumed=$({ grep -l 'going on after step\|from the beginning' runs/wild/trials/*.log || true; } | wc -l)
echo "$trials trials, each done once, $resumed resumed; the table is that of a sweep without Slurm"

echo "== trials of two ranks each, a step of srun, and a batch script of several tasks that runs one process"
(sweep --name pairs --seeds 1 --launcher slurm --set launcher.slurm.ranks=2) >pairs.out 2>&1 || {
    cat pairs.out runs/pairs/trials/*.log
    exit 1
}
(sweep --name alone --seeds 1) >alone.out 2>&1
diff <(timeless alone) <(timeless pairs)
for run in runs/pairs/*/manifest.json; do
    grep -q '"ranks": 2' "$run" || { echo "$run: not of two ranks"; exit 1; }
done
tiny=("$root/configs/quickstart.toml" --quiet --set data.generate.per_class=20 --set cache.disk=false)
srun --ntasks=2 "$xp" run "${tiny[@]}" --run-dir step
sbatch --quiet --wait --ntasks=2 --output=batch.out --wrap "'$xp' run ${tiny[*]} --run-dir batch"
cmp step/model.safetensors batch/model.safetensors
grep -q '"ranks": 2' step/manifest.json
! grep -q '"ranks"' batch/manifest.json
echo "two ranks in a sweep and in a step give the bytes of one process"
