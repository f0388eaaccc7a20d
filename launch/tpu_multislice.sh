#!/usr/bin/env bash
# The main job on several pod slices joined by the data centre's network (queued resources).
#
#   launch/tpu_multislice.sh [ACTION] --name=NAME --zone=ZONE --slices=N --workdir=FOLDER [--dry_run]
#       [-- FLAGS OF THE JOB]
#
# Actions:
#   up       create, install and start; what is done if none is named
#   create   asks for the slices and waits until they are there
#   install  puts the commit that is checked out here on all hosts, with its environment
#   start    starts the job on all hosts, or goes on with it; it outlives the connection
#   log      shows the end of what the first host said
#   stop     SIGTERM: the job saves and ends
#   delete   deletes the slices
# Flags:
#   --name=NAME               of the request; the slices are NAME-0, NAME-1, …
#   --zone=ZONE               us-west4-a for instance
#   --slices=N                2 or more
#   --workdir=FOLDER          one for all hosts: gs://BUCKET/FOLDER, mounted there, or a path in /mnt/nfs
#   --config=FILE             recipe (configs/openmoji.py)
#   --accelerator_type=TYPE   of each slice (v5litepod-16)
#   --version=VERSION         of the TPU's software (v2-alpha-tpuv5-lite)
#   --nfs=HOST:/SHARE         mounts a file share at /mnt/nfs
#   --project=PROJECT         another than gcloud's own
#   --spot                    cheaper, and may be taken away at any time
#   --dry_run                 prints the commands and runs none
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

accelerator_type=v5litepod-16 slices="" start_flags=(--multihost)
read_flags "$TPU_ACTIONS" "slices $TPU_FLAGS" "spot dry_run" "$@"
need name zone slices workdir config accelerator_type version
case $slices in
  *[!0-9]* | 0* | 1) fail "--slices=$slices is not a number from 2: launch/tpu_pod.sh is for one." ;;
esac
nodes=()
for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done

where=("--zone=$zone" ${project:+"--project=$project"})
if does create; then
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    "--node-count=$slices" "--node-prefix=$name" \
    "--accelerator-type=$accelerator_type" "--runtime-version=$version" ${spot:+--spot}
  asked=$(line_of gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
    "--format=value(state.state)")
  # shellcheck disable=SC2016  # the state is looked at when the line is run
  given_up='case $state in "" | FAILED | SUSPEND*) exit 1 ;; esac'
  run_line "(until state=\$($asked); [ \"\$state\" = ACTIVE ]; do $given_up; sleep 30; done)"
fi
operate "${nodes[@]}"
if does delete; then
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
fi
