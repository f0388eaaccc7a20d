"""The scripts for TPUs: the commands they print are those they run, and survive any quoting."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_docs import lines as commands_of
from tests.tiny_run import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
NO_LAUNCHERS = ("common.sh", "local.sh", "on_vm.sh")
ODD = """it's "a" $(date) `b` \\ & {{NAME}} {x,y} *"""
"""What a careless script would change."""
WHERE = ("--name=flamingo", "--zone=us-west4-a")
GKE = (
    *("--name=flamingo", "--image=docker.pkg.dev/p/flamingo:1"),
    *("--accelerator=tpu-v5-lite-podslice", "--topology=4x4"),
)
SSH = "gcloud compute tpus tpu-vm ssh {node} --zone=us-west4-a --worker={worker} '--command={line}'"
ON_VM = "flamingo_jax/launch/on_vm.sh"


def launch(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script, to which files go by /tmp whatever this machine says."""
    return subprocess.run(
        [LAUNCH / script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": "/tmp", **environment},
    )


def printed(script: str, *arguments: str) -> str:
    done = launch(script, "--dry_run", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def bundle() -> str:
    return f"git -C {shlex.quote(str(ROOT))} bundle create --quiet /tmp/flamingo_jax.bundle HEAD"


def installed(node: str) -> list[str]:
    """Lines that install the package on a node."""
    lines = (
        *("rm -rf flamingo_jax", "git clone --quiet flamingo_jax.bundle flamingo_jax"),
        f"{ON_VM} install",
    )
    return [
        f"gcloud compute tpus tpu-vm scp /tmp/flamingo_jax.bundle {node}:flamingo_jax.bundle "
        "--zone=us-west4-a --worker=all",
        *(SSH.format(node=node, worker="all", line=line) for line in lines),
    ]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder for PATH with programs that write down their arguments, and what they are fed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcloud", "kubectl", "git"):
        program = folder / name
        program.write_text(
            "#!/usr/bin/env bash\n"
            f'{{ printf "%s\\0" {name} "$@"; printf "\\n"; }} >>{tmp_path}/calls\n'
            f"if [ {name} = kubectl ]; then cat >>{tmp_path}/fed; fi\n"
            'case "$*" in *value*) echo ACTIVE ;; esac\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def calls(recorded: Path) -> list[list[str]]:
    text = (recorded.parent / "calls").read_text()
    return [line.split("\0") for line in text.split("\0\n") if line]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    command = [Path(sys.executable).with_name("shellcheck"), "--external-sources", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_one_tpu_vm() -> None:
    lines = printed("tpu_vm.sh", *WHERE, "--workdir=/home/me/run").splitlines()
    start = f"{ON_VM} start --config=configs/openmoji.py --workdir=/home/me/run"
    assert lines == [
        "gcloud compute tpus tpu-vm create flamingo --zone=us-west4-a "
        "--accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite",
        bundle(),
        *installed("flamingo"),
        SSH.format(node="flamingo", worker="all", line=start),
    ]


def test_a_pod_slice_with_a_bucket_and_flags_of_the_job() -> None:
    lines = printed(
        *("tpu_pod.sh", *WHERE, "--workdir=gs://bucket/runs/a", "--config=configs/flamingo_3b.py"),
        *("--accelerator_type=v4-32", "--version=tpu-ubuntu2204-base", "--spot"),
        *("--", "--config.loop.steps=10"),
    ).splitlines()
    start = (
        f"{ON_VM} start --config=configs/flamingo_3b.py --workdir=/mnt/gcs/bucket/runs/a "
        "--multihost --config.loop.steps=10"
    )
    assert lines == [
        "gcloud compute tpus tpu-vm create flamingo --zone=us-west4-a "
        "--accelerator-type=v4-32 --version=tpu-ubuntu2204-base --spot",
        bundle(),
        *installed("flamingo"),
        SSH.format(node="flamingo", worker="all", line=f"{ON_VM} mount gs://bucket"),
        SSH.format(node="flamingo", worker="all", line=start),
    ]


def test_slices_are_asked_for_waited_for_and_all_started() -> None:
    share = ("--nfs=10.0.0.2:/vol", "--workdir=/mnt/nfs/run", "--slices=2")
    asked, waited, *lines = printed("tpu_multislice.sh", *WHERE, *share).splitlines()
    assert asked == (
        "gcloud compute tpus queued-resources create flamingo --zone=us-west4-a --node-count=2 "
        "--node-prefix=flamingo --accelerator-type=v5litepod-16 "
        "--runtime-version=v2-alpha-tpuv5-lite"
    )
    assert waited == (
        "(until state=$(gcloud compute tpus queued-resources describe flamingo --zone=us-west4-a "
        "'--format=value(state.state)'); [ \"$state\" = ACTIVE ]; do "
        'case $state in "" | FAILED | SUSPEND*) exit 1 ;; esac; sleep 30; done)'
    )
    nodes = ("flamingo-0", "flamingo-1")
    start = f"{ON_VM} start --config=configs/openmoji.py --workdir=/mnt/nfs/run --multihost"
    mount = f"{ON_VM} mount 10.0.0.2:/vol"
    expected = [bundle()]
    for node in nodes:
        expected += [*installed(node), SSH.format(node=node, worker="all", line=mount)]
    expected += [SSH.format(node=node, worker="all", line=start) for node in nodes]
    assert lines == expected


@pytest.mark.parametrize(
    ("script", "more", "deleted"),
    [
        ("tpu_vm.sh", (), "tpu-vm delete flamingo --zone=us-west4-a --project=p --quiet"),
        ("tpu_pod.sh", (), "tpu-vm delete flamingo --zone=us-west4-a --project=p --quiet"),
        (
            "tpu_multislice.sh",
            ("--slices=2",),
            "queued-resources delete flamingo --zone=us-west4-a --project=p --force --quiet",
        ),
    ],
)
def test_actions_by_themselves(script: str, more: tuple[str, ...], deleted: str) -> None:
    flags = (*WHERE, "--workdir=/mnt/nfs/a", "--project=p", *more)
    nodes = ["flamingo-0", "flamingo-1"] if more else ["flamingo"]
    ssh = SSH.replace("us-west4-a", "us-west4-a --project=p")
    assert printed(script, "delete", *flags) == f"gcloud compute tpus {deleted}\n"
    assert printed(script, "stop", *flags).splitlines() == [
        ssh.format(node=node, worker="all", line=f"{ON_VM} stop") for node in nodes
    ]
    (log,) = printed(script, "log", *flags).splitlines()
    assert log == ssh.format(node=nodes[0], worker=0, line=f"{ON_VM} log")


@pytest.mark.parametrize("script", ["tpu_vm.sh", "tpu_pod.sh", "tpu_multislice.sh"])
def test_what_is_printed_is_what_is_run(script: str, recorded: Path) -> None:
    """With names and paths that a shell would read otherwise, down to the program on the host."""
    flags = [f"--name={ODD}", "--zone=z 1", f"--workdir=/mnt/nfs/{ODD}", f"--config={ODD}"]
    flags += ["--slices=2"] if "multi" in script else []
    job = ("--", f"--config.x={ODD}", "")
    said = launch(script, *flags, "--dry_run", *job)
    path = f"{recorded}:{os.environ['PATH']}"
    done = launch(script, *flags, *job, PATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "".join(f"+ {line}\n" for line in said.stdout.splitlines())
    found = calls(recorded)
    lines = [line for line in said.stdout.splitlines() if "until state" not in line]
    assert [shlex.split(line) for line in lines] == [c for c in found if "describe" not in c]
    started = found[-1][-1].removeprefix("--command=")
    assert shlex.split(started)[2:] == [
        *(f"--config={ODD}", f"--workdir=/mnt/nfs/{ODD}"),
        *([] if script == "tpu_vm.sh" else ["--multihost"]),
        *job[1:],
    ]
    argv = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {started}"], capture_output=True, text=True, check=True
    )
    assert argv.stdout.split("\0")[:-1] == shlex.split(started)


def test_a_request_that_failed_is_not_waited_for(recorded: Path) -> None:
    gcloud = recorded / "gcloud"
    gcloud.write_text(gcloud.read_text().replace("ACTIVE", "FAILED"))
    done = launch(
        *("tpu_multislice.sh", *WHERE, "--workdir=/mnt/nfs/a", "--slices=2"),
        PATH=f"{recorded}:{os.environ['PATH']}",
    )
    assert done.returncode == 1
    assert calls(recorded)[-1][4] == "describe"


def manifest(*arguments: str) -> dict[str, Any]:
    """The JobSet that would be applied, and that the printed command feeds to kubectl."""
    text = printed("gke.sh", *GKE, *arguments)
    first, rest = text.split("\n", 1)
    assert first == "kubectl apply --namespace=default --filename=- <<'END_OF_JOBSET'"
    assert rest.endswith("\nEND_OF_JOBSET\n")
    return yaml.safe_load(rest.removesuffix("END_OF_JOBSET\n"))


def test_a_jobset() -> None:
    found = manifest("--workdir=gs://bucket/runs/a", "--slices=3", "--service_account=trainer")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"]["name"] == "flamingo"
    assert found["spec"]["failurePolicy"] == {"maxRestarts": 10}
    (slices,) = found["spec"]["replicatedJobs"]
    assert slices["replicas"] == 3
    job = slices["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (4, 4, 0)
    pod = job["template"]["spec"]
    assert pod["serviceAccountName"] == "trainer"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = pod["containers"]
    assert container["image"] == "docker.pkg.dev/p/flamingo:1"
    assert container["command"] == ["python", "-m", "flamingo_jax.train"]
    workdir = "--workdir=/mnt/gcs/bucket/runs/a"
    assert container["args"] == ["--config=configs/openmoji.py", workdir, "--multihost"]
    assert container["resources"] == {
        "requests": {"google.com/tpu": 4},
        "limits": {"google.com/tpu": 4},
    }
    assert container["volumeMounts"] == [{"name": "run", "mountPath": "/mnt/gcs/bucket"}]
    (volume,) = pod["volumes"]
    assert volume["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    assert volume["csi"]["volumeAttributes"] == {"bucketName": "bucket"}


@pytest.mark.parametrize(
    ("topology", "chips", "hosts"),
    [("4x4", 4, 4), ("2x2x4", 4, 4), ("2x4", 8, 1), ("16x16", 4, 64)],
)
def test_a_pod_for_each_host(topology: str, chips: int, hosts: int) -> None:
    flags = ("--workdir=/mnt/claim/a", "--claim=c", f"--topology={topology}")
    found = manifest(*flags, f"--chips_per_host={chips}")
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"]) == (hosts, hosts)
    pod = job["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["volumes"] == [{"name": "run", "persistentVolumeClaim": {"claimName": "c"}}]


def test_a_manifest_holds_any_value(recorded: Path) -> None:
    flags = (*GKE, f"--workdir=/mnt/claim/{ODD}", f"--claim={ODD}", f"--config={ODD}")
    job = ("--", f"--config.x={ODD}")
    done = launch("gke.sh", *flags, *job, PATH=f"{recorded}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    fed = (recorded.parent / "fed").read_text()
    assert f"<<'END_OF_JOBSET'\n{fed}END_OF_JOBSET\n" in done.stderr
    pod = yaml.safe_load(fed)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    kept = ODD.replace("$(", "$$(")  # Kubernetes makes one dollar of two, and no variable of it
    assert pod["containers"][0]["args"] == [
        *(f"--config={kept}", f"--workdir=/mnt/claim/{kept}", "--multihost", f"--config.x={kept}")
    ]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == ODD


def test_a_jobset_is_shown_and_deleted() -> None:
    log = printed("gke.sh", "log", "--name=a", "--namespace=b c")
    assert shlex.split(log)[:5] == [
        "kubectl",
        "logs",
        "--namespace=b c",
        "--tail=40",
        log.split()[-1],
    ]
    stop = printed("gke.sh", "stop", "--name=a")
    assert stop == "kubectl delete jobset a --namespace=default --ignore-not-found\n"


POD = ("tpu_pod.sh", *WHERE)
JOBSET = ("gke.sh", *GKE)
MISTAKES = {
    "tpu_vm.sh: --name is missing: --help says what it is.": ("tpu_vm.sh", "--zone=a"),
    "tpu_pod.sh: --workdir is missing: --help says what it is.": POD,
    "tpu_pod.sh: There is no flag '--zome': --help lists them.": ("tpu_pod.sh", "--zome=a"),
    "tpu_pod.sh: There is no flag '--a b': --help lists them.": ("tpu_pod.sh", "--a b=c"),
    "tpu_pod.sh: --name takes a value: --name=VALUE.": ("tpu_pod.sh", "--name", "a"),
    "tpu_pod.sh: --spot takes no value.": ("tpu_pod.sh", "--spot=yes"),
    "tpu_pod.sh: There is no action 'halt': say one of up, create, install, start, log, stop, "
    "delete.": ("tpu_pod.sh", "halt"),
    "tpu_pod.sh: --workdir=runs/a is neither an absolute path nor gs://BUCKET/FOLDER.": (
        *POD,
        "--workdir=runs/a",
    ),
    "tpu_pod.sh: A value holds a line break or another control character.": (
        *POD,
        "--workdir=/a\nb",
    ),
    "tpu_multislice.sh: --slices=1 is not a number from 2: launch/tpu_pod.sh is for one.": (
        *("tpu_multislice.sh", *WHERE, "--workdir=/a", "--slices=1"),
    ),
    "gke.sh: --image is missing: --help says what it is.": ("gke.sh", "--name=a"),
    "gke.sh: --claim is missing: --help says what it is.": (*JOBSET, "--workdir=/mnt/claim/a"),
    "gke.sh: --workdir=/home/a is neither gs://BUCKET/FOLDER nor in /mnt/claim.": (
        *(*JOBSET, "--workdir=/home/a"),
    ),
    "gke.sh: --workdir=/mnt/gcs/a/b is neither gs://BUCKET/FOLDER nor in /mnt/claim.": (
        *(*JOBSET, "--workdir=/mnt/gcs/a/b"),
    ),
    "gke.sh: --topology=4x is not like 4x4 or 2x2x4.": (
        *(*JOBSET, "--workdir=gs://a/b", "--topology=4x"),
    ),
    "gke.sh: --topology=1x1 has 1 chips, which --chips_per_host=4 does not divide.": (
        *(*JOBSET, "--workdir=gs://a/b", "--topology=1x1"),
    ),
    "gke.sh: --slices=two is not a number from 1.": (
        *(*JOBSET, "--workdir=gs://a/b", "--slices=two"),
    ),
    "gke.sh: A value holds a line break or another control character.": (
        *(*JOBSET, "--workdir=gs://a/b", "--config=a\nb"),
    ),
}


@pytest.mark.parametrize("sentence", MISTAKES)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_mistake_is_one_sentence_and_nothing_is_run(
    sentence: str, dry_run: bool, recorded: Path
) -> None:
    script, *flags = MISTAKES[sentence]
    if dry_run:
        flags = ["--dry_run", *flags]
    done = launch(script, *flags, PATH=f"{recorded}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{sentence}\n")
    assert not (recorded.parent / "calls").exists()


@pytest.mark.parametrize(
    "script",
    [path.name for path in SCRIPTS if path.name not in NO_LAUNCHERS],
)
def test_help_names_every_flag_and_action(script: str) -> None:
    done = launch(script, "--help")
    assert done.returncode == 0
    code = (LAUNCH / script).read_text() + (LAUNCH / "common.sh").read_text()
    lists = re.search(r'read_flags "(.+?)" \\?\n?\s*"(.+?)" \\?\n?\s*"(.+?)"', code)
    assert lists is not None
    words = " ".join(lists.groups())
    for name in re.findall(r"\$(\w+)", words):
        words += " " + re.findall(rf'^{name}="(.+)"', code, re.MULTILINE)[0]
    told = set(re.findall(r"^  (?:--)?(\w+)", done.stdout, re.MULTILINE))
    assert set(re.findall(r"(?<!\$)\b[a-z]\w+", words)) <= told


TOLD = [words for words in commands_of(ROOT / "docs" / "pods.md") if words[0].startswith("launch/")]


@pytest.mark.parametrize("command", TOLD, ids=" ".join)
def test_commands_of_the_page_are_right(command: list[str]) -> None:
    script, *flags = command
    assert printed(script.removeprefix("launch/"), "--dry_run", *flags)


def test_the_page_has_every_script() -> None:
    assert {words[0] for words in TOLD} == {
        f"launch/{path.name}" for path in SCRIPTS if path.name not in NO_LAUNCHERS
    }
