#!/usr/bin/env bash
# The main job on one TPU VM: a TPU of one host, v5litepod-8 for instance.
#
#   launch/tpu_vm.sh [ACTION] --name=NAME --zone=ZONE --workdir=FOLDER [--dry_run] [-- FLAGS OF THE JOB]
#
# Actions:
#   up       create, install and start; what is done if none is named
#   create   makes the TPU VM
#   install  puts the commit that is checked out here there, with its environment
#   start    starts the job, or goes on with it; it outlives the connection
#   log      shows the end of what the job said
#   stop     SIGTERM: the job saves and ends
#   delete   deletes the TPU VM
# Flags:
#   --name=NAME               of the TPU VM
#   --zone=ZONE               us-west4-a for instance
#   --workdir=FOLDER          gs://BUCKET/FOLDER, mounted there, or an absolute path on the VM
#   --config=FILE             recipe (configs/openmoji.py)
#   --accelerator_type=TYPE   (v5litepod-8)
#   --version=VERSION         of the TPU's software (v2-alpha-tpuv5-lite)
#   --nfs=HOST:/SHARE         mounts a file share at /mnt/nfs
#   --project=PROJECT         another than gcloud's own
#   --spot                    cheaper, and may be taken away at any time
#   --dry_run                 prints the commands and runs none
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

accelerator_type=v5litepod-8
read_flags "$TPU_ACTIONS" "$TPU_FLAGS" "spot dry_run" "$@"
one_slice
