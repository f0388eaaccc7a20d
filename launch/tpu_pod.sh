#!/usr/bin/env bash
# The main job on a pod slice: a TPU of several hosts, each of which runs the same command.
#
#   launch/tpu_pod.sh [ACTION] --name=NAME --zone=ZONE --workdir=FOLDER [--dry_run] [-- FLAGS OF THE JOB]
#
# Actions:
#   up       create, install and start; what is done if none is named
#   create   makes the pod slice
#   install  puts the commit that is checked out here on all hosts, with its environment
#   start    starts the job on all hosts, or goes on with it; it outlives the connection
#   log      shows the end of what the first host said
#   stop     SIGTERM: the job saves and ends
#   delete   deletes the pod slice
# Flags:
#   --name=NAME               of the pod slice
#   --zone=ZONE               us-west4-a for instance
#   --workdir=FOLDER          one for all hosts: gs://BUCKET/FOLDER, mounted there, or a path in /mnt/nfs
#   --config=FILE             recipe (configs/openmoji.py)
#   --accelerator_type=TYPE   (v5litepod-16)
#   --version=VERSION         of the TPU's software (v2-alpha-tpuv5-lite)
#   --nfs=HOST:/SHARE         mounts a file share at /mnt/nfs
#   --project=PROJECT         another than gcloud's own
#   --spot                    cheaper, and may be taken away at any time
#   --dry_run                 prints the commands and runs none
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

accelerator_type=v5litepod-16
start_flags=(--multihost)
read_flags "$TPU_ACTIONS" "$TPU_FLAGS" "spot dry_run" "$@"
one_slice
