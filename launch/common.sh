# shellcheck shell=bash
# What the scripts for TPUs share: flags, quoting, --dry_run, and what is done on TPU VMs.

LC_ALL=C
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What flags are read into, and their usual values.
action="" name="" workdir="" config=configs/openmoji.py dry_run=""
zone="" project="" spot="" nfs="" accelerator_type="" version=v2-alpha-tpuv5-lite
job_flags=() start_flags=()
# shellcheck disable=SC2034  # the scripts that source this use them
TPU_ACTIONS="up create install start log stop delete"
# shellcheck disable=SC2034
TPU_FLAGS="name zone workdir config accelerator_type version nfs project"

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  exit 1
}

# The comment at the head of the script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# One word as a shell reads it back; a plain one stays as it is.
quoted() {
  local quote="'\\''"
  case $1 in
    '' | *[!A-Za-z0-9_./:=,@%+-]*) printf "'%s'" "${1//\'/$quote}" ;;
    *) printf '%s' "$1" ;;
  esac
}

# Words as one line.
line_of() {
  local word line=""
  for word in "$@"; do
    line="$line${line:+ }$(quoted "$word")"
  done
  printf '%s' "$line"
}

# Runs a line, after printing it; with --dry_run only prints it.
run_line() {
  if [ -n "$dry_run" ]; then
    printf '%s\n' "$1"
  else
    printf '+ %s\n' "$1" >&2
    eval "$1"
  fi
}

run() {
  run_line "$(line_of "$@")"
}

# Reads [ACTION] --NAME=VALUE… [-- FLAGS OF THE JOB] into variables of these names.
#   $1 actions, the usual one first, $2 flags that take a value, $3 flags that take none, then the
#   arguments
read_flags() {
  local actions=" $1 " valued=" $2 " plain=" $3 " list=$1 flag
  action=${1%% *}
  shift 3
  case $* in *[[:cntrl:]]*) fail "A value holds a line break or another control character." ;; esac
  while [ $# -gt 0 ]; do
    flag=${1#--}
    flag=${flag%%=*}
    case $1 in
      --help) usage && exit 0 ;;
      --)
        shift
        job_flags=("$@")
        break
        ;;
      --*)
        is_in "$flag" "$valued$plain" || fail "There is no flag '--$flag': --help lists them."
        case $1 in
          *=*) is_in "$flag" "$valued" || fail "--$flag takes no value." ;;
          *) is_in "$flag" "$plain" || fail "--$flag takes a value: --$flag=VALUE." ;;
        esac
        printf -v "$flag" '%s' "${1#"--$flag="}"
        ;;
      *)
        is_in "$1" "$actions" || fail "There is no action '$1': say one of ${list// /, }."
        action=$1
        ;;
    esac
    shift
  done
}

# Whether a word is in a list with spaces around each.
is_in() {
  case $1 in '' | *' '*) return 1 ;; esac
  case $2 in *" $1 "*) ;; *) return 1 ;; esac
}

# Refuses flags that were left empty, and a work directory that cannot be one.
need() {
  local flag
  for flag in "$@"; do
    [ -n "${!flag}" ] || fail "--$flag is missing: --help says what it is."
  done
  [ -z "$workdir" ] || mounted_path "$workdir" >/dev/null
}

# Whether an action is part of what was asked for; `up` is the first three.
does() {
  [ "$action" = "$1" ] || { [ "$action" = up ] && case $1 in create | install | start) ;; *) false ;; esac }
}

# The path of a work directory on the machines; a bucket's gs://NAME is mounted there.
mounted_path() {
  case $1 in
    gs://?*/?*) printf '/mnt/gcs/%s' "${1#gs://}" ;;
    /?*) printf '%s' "$1" ;;
    *) fail "--workdir=$1 is neither an absolute path nor gs://BUCKET/FOLDER." ;;
  esac
}

# Runs a command on all hosts of a TPU, or on the one of a number: node, workers, words.
on_hosts() {
  local node=$1 workers=$2
  shift 2
  run gcloud compute tpus tpu-vm ssh "$node" "--zone=$zone" ${project:+"--project=$project"} \
    "--worker=$workers" "--command=$(line_of "$@")"
}

bucket_of() {
  local path=${1#gs://}
  printf 'gs://%s' "${path%%/*}"
}

# Puts a commit on all hosts of a TPU, and installs it: node, file.
install_on() {
  run gcloud compute tpus tpu-vm scp "$2" "$1:flamingo_jax.bundle" \
    "--zone=$zone" ${project:+"--project=$project"} --worker=all
  on_hosts "$1" all rm -rf flamingo_jax
  on_hosts "$1" all git clone --quiet flamingo_jax.bundle flamingo_jax
  on_hosts "$1" all flamingo_jax/launch/on_vm.sh install
  case $workdir in
    gs://*) on_hosts "$1" all flamingo_jax/launch/on_vm.sh mount "$(bucket_of "$workdir")" ;;
  esac
  [ -z "$nfs" ] || on_hosts "$1" all flamingo_jax/launch/on_vm.sh mount "$nfs"
}

# What is done alike on every TPU that is there: nodes; `start_flags` are more flags of the job.
operate() {
  local node path bundle=${TMPDIR:-/tmp}/flamingo_jax.bundle
  path=$(mounted_path "$workdir")
  if does install; then
    run git -C "$ROOT" bundle create --quiet "$bundle" HEAD
    for node in "$@"; do install_on "$node" "$bundle"; done
  fi
  for node in "$@"; do
    if does start; then
      on_hosts "$node" all flamingo_jax/launch/on_vm.sh start "--config=$config" "--workdir=$path" \
        ${start_flags[@]+"${start_flags[@]}"} ${job_flags[@]+"${job_flags[@]}"}
    fi
    if does stop; then on_hosts "$node" all flamingo_jax/launch/on_vm.sh stop; fi
  done
  if does log; then on_hosts "$1" 0 flamingo_jax/launch/on_vm.sh log; fi
}

# All actions on a TPU that is one slice.
one_slice() {
  need name zone workdir config accelerator_type version
  if does create; then
    run gcloud compute tpus tpu-vm create "$name" "--zone=$zone" ${project:+"--project=$project"} \
      "--accelerator-type=$accelerator_type" "--version=$version" ${spot:+--spot}
  fi
  operate "$name"
  if does delete; then
    run gcloud compute tpus tpu-vm delete "$name" "--zone=$zone" ${project:+"--project=$project"} --quiet
  fi
}
