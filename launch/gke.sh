#!/usr/bin/env bash
# The main job on Google Kubernetes Engine: a JobSet with one job for each slice, one pod for each host.
#
#   launch/gke.sh [ACTION] --name=NAME --image=IMAGE --accelerator=TYPE --topology=AxB --workdir=FOLDER
#       [--dry_run] [-- FLAGS OF THE JOB]
#
# Actions:
#   start    applies launch/jobset.yaml, filled in; what is done if none is named
#   log      shows the end of what the first host said
#   stop     deletes the JobSet: SIGTERM, so that the job saves and ends
# Flags:
#   --name=NAME              of the JobSet
#   --image=IMAGE            made of launch/Dockerfile
#   --accelerator=TYPE       the node pool's: tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice, tpu-v4-podslice
#   --topology=AxB           the node pool's: 4x4, 2x2x4, …
#   --workdir=FOLDER         one for all hosts: gs://BUCKET/FOLDER, or a path in /mnt/claim
#   --config=FILE            recipe (configs/openmoji.py)
#   --slices=N               (1)
#   --chips_per_host=N       (4)
#   --restarts=N             times that the job is started again after a host was lost (10)
#   --claim=NAME             persistent volume claim, mounted at /mnt/claim
#   --service_account=NAME   of Kubernetes, with the right to the bucket (default)
#   --namespace=NAME         (default)
#   --dry_run                prints the commands and runs none
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

# A YAML string, which JSON's are.
text() {
  local value=${1//\\/\\\\} quote='\"'
  printf '"%s"' "${value//\"/$quote}"
}

# YAML strings of a list, with commas between.
texts() {
  local word list="" dollars="\$\$("
  for word in "$@"; do
    # Kubernetes takes $(NAME) for a variable, and $$ for a dollar.
    list="$list${list:+, }$(text "${word//\$\(/$dollars}")"
  done
  printf '%s' "$list"
}

# How the hosts come by the work directory.
volume() {
  case $workdir in
    gs://*)
      local bucket
      bucket=$(bucket_of "$workdir")
      printf '{name: run, csi: {driver: gcsfuse.csi.storage.gke.io, volumeAttributes: {bucketName: %s}}}' \
        "$(text "${bucket#gs://}")"
      ;;
    *) printf '{name: run, persistentVolumeClaim: {claimName: %s}}' "$(text "$claim")" ;;
  esac
}

# What stands for {{KEY}} in the manifest.
value_of() {
  case $1 in
    NAME) text "$name" ;;
    NAMESPACE) text "$namespace" ;;
    IMAGE) text "$image" ;;
    ACCELERATOR) text "$accelerator" ;;
    TOPOLOGY) text "$topology" ;;
    SERVICE_ACCOUNT) text "$service_account" ;;
    SLICES) printf '%s' "$slices" ;;
    HOSTS) printf '%s' "$hosts" ;;
    CHIPS) printf '%s' "$chips_per_host" ;;
    RESTARTS) printf '%s' "$restarts" ;;
    FLAGS) texts "${flags[@]}" ;;
    VOLUME) volume ;;
    MOUNT) text "$mount" ;;
    *) fail "launch/jobset.yaml has a place {{$1}} that nothing is known of." ;;
  esac
}

# The manifest with its places filled in; what is put in is not looked at again.
manifest() {
  local rest key value
  while IFS= read -r rest; do
    while case $rest in *'{{'*'}}'*) ;; *) false ;; esac do
      key=${rest#*'{{'}
      key=${key%%'}}'*}
      value=$(value_of "$key") || exit 1
      printf '%s%s' "${rest%%'{{'*}" "$value"
      rest=${rest#*'}}'}
    done
    printf '%s\n' "$rest"
  done <"$ROOT/launch/jobset.yaml"
}

image="" accelerator="" topology="" claim=""
slices=1 chips_per_host=4 restarts=10 service_account=default namespace=default
read_flags "start log stop" \
  "name image accelerator topology workdir config slices chips_per_host restarts claim service_account namespace" \
  "dry_run" "$@"
need name namespace
here=("--namespace=$namespace")

if does start; then
  need image accelerator topology workdir config service_account
  for flag in slices chips_per_host restarts; do
    case ${!flag} in '' | *[!0-9]* | 0*) fail "--$flag=${!flag} is not a number from 1." ;; esac
  done
  [[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || fail "--topology=$topology is not like 4x4 or 2x2x4."
  chips=$((${topology//x/*}))
  ((chips % chips_per_host == 0)) ||
    fail "--topology=$topology has $chips chips, which --chips_per_host=$chips_per_host does not divide."
  hosts=$((chips / chips_per_host))
  path=$(mounted_path "$workdir")
  case $workdir in
    gs://*) mount=$(mounted_path "$(bucket_of "$workdir")/.") && mount=${mount%/.} ;;
    /mnt/claim/?*) need claim && mount=/mnt/claim ;;
    *) fail "--workdir=$workdir is neither gs://BUCKET/FOLDER nor in /mnt/claim." ;;
  esac
  flags=("--config=$config" "--workdir=$path" --multihost ${job_flags[@]+"${job_flags[@]}"})
  filled=$(manifest)
  run_line "$(line_of kubectl apply "${here[@]}" --filename=-) <<'END_OF_JOBSET'
$filled
END_OF_JOBSET"
fi
if does log; then
  run kubectl logs "${here[@]}" --tail=40 \
    "--selector=jobset.sigs.k8s.io/jobset-name=$name,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
fi
if does stop; then run kubectl delete jobset "$name" "${here[@]}" --ignore-not-found; fi
