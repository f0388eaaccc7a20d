"""Plans of a tiny recipe: against a whole compilation, counts by hand, and mistakes."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import jax
import pytest

from configs import flamingo_80b
from flamingo_jax import config as configuration
from flamingo_jax.config import RunConfig
from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.planning import plan as planning
from flamingo_jax.planning import report
from flamingo_jax.planning.collectives import Collective
from flamingo_jax.planning.compiler import Compiled
from flamingo_jax.planning.hardware import parse
from flamingo_jax.planning.meshes import candidates, scaled, with_mesh
from flamingo_jax.planning.plan import Plan, limits, plan_training
from flamingo_jax.planning.program import Work, train_program
from flamingo_jax.planning.search import search
from flamingo_jax.planning.serving import Load, plan_serving
from flamingo_jax.planning.traffic import Traffic
from tests.test_ablations import row, shrunk
from tests.tiny_run import ROOT

SLICE = parse("v5e:2x2")


def tiny(**mesh: int) -> RunConfig:
    config = shrunk(row("baseline"))
    first, *_, video = config.mixture.datasets
    mixture = dataclasses.replace(config.mixture, datasets=(first, video))
    config = dataclasses.replace(
        config, mesh=dataclasses.replace(config.mesh, **mesh), mixture=mixture
    )
    return dataclasses.replace(
        config, decoder=dataclasses.replace(config.decoder, num_layers=2, vocab_size=64)
    )


@pytest.mark.slow
def test_a_plan_has_what_a_whole_compilation_tells() -> None:
    config = scaled(tiny(fsdp=2, tensor=2), 4096.0)
    plan = plan_training("tiny", config, SLICE)
    program = train_program(config, SLICE)
    memory = program.function.lower(*program.arguments).compile().memory_analysis()
    assert plan.argument_bytes == memory.argument_size_in_bytes
    # What the generation of code adds, room to spill registers for instance, is not known yet.
    assert plan.temp_bytes == pytest.approx(memory.temp_size_in_bytes, abs=2**25, rel=0)
    assert memory.temp_size_in_bytes > 2**27
    assert plan.argument_bytes + plan.temp_bytes <= plan.peak_bytes
    assert plan.fits
    assert plan.hbm_bytes_per_device > plan.peak_bytes
    assert (plan.mesh["fsdp"], plan.mesh["tensor"], plan.chips) == (2, 2, 4)
    assert plan.collectives
    assert {axis for entry in plan.collectives for axis in entry.axes} == {"fsdp", "tensor"}
    assert plan.roofline_seconds_per_step == plan.roofline[plan.bound]
    days = plan.roofline_seconds_per_step * config.loop.steps / 86_400
    assert plan.estimated_days == pytest.approx(days)
    assert plan.params == program.told.params
    assert plan.model_flops_per_step < plan.hardware_flops_per_step
    text = report.as_text(plan)
    assert "mesh fsdp=2, tensor=2" in text
    assert "all-reduce" in text
    assert json.loads(json.dumps(report.as_json(plan)))["topology"] == "v5e:2x2"


@pytest.mark.slow
def test_flops_are_those_of_the_step_whatever_the_mesh_and_remat() -> None:
    plain = dataclasses.replace(tiny(), remat="none")
    alone = train_program(plain, parse("v5e:1x1")).told
    split = train_program(tiny(fsdp=2, tensor=2), SLICE).told
    assert alone.model_flops == alone.hardware_flops == split.model_flops
    assert split.hardware_flops > split.model_flops
    batches = [dataset.batch_size for dataset in plain.mixture.datasets]
    twice = train_program(scaled(plain, 2.0), parse("v5e:1x1")).told
    assert set(batches) == {2}
    assert twice.model_flops == pytest.approx(2 * alone.model_flops, rel=0.02)
    # Activations follow the batch; weights are read as often as before.
    assert twice.traffic.weights == pytest.approx(alone.traffic.weights, rel=0.05)
    assert twice.traffic.activations > 1.8 * alone.traffic.activations


def test_limits_by_hand() -> None:
    topology, mesh = parse("v4:2x2x4"), MeshConfig(data=2, tensor=8)
    work = Work(0, 0, int(275e12 * 16 * 3), Traffic(int(8 * 1.228e12), int(16 * 1.228e12)), 0)
    links = [
        Collective("all-gather", ("data",), 1, 0, 1.5),
        Collective("all-reduce", ("data",), 1, 0, 2.0),
        Collective("all-reduce", ("tensor",), 1, 0, 3.0),
    ]
    found = limits(work, topology, mesh, links)
    assert found == pytest.approx({"compute": 3.0, "hbm": 2.0, "interconnect": 3.5})
    kept = dataclasses.replace(work, updated_bytes=int(1.228e12))
    assert limits(kept, topology, mesh, links)["hbm"] == pytest.approx(4.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "mesh", "batches"),
    [
        # The published batches can be split 64 ways; the paper's 16-way model sharding.
        ("v4:8x8x16", {"data": 16, "fsdp": 4, "tensor": 16}, [256, 512, 512, 64]),
        # 96 ways: half as large again.
        ("v4:8x12x16", {"data": 24, "fsdp": 4, "tensor": 16}, [384, 768, 768, 96]),
        ("2*v4:8x8x8", {"slice": 2, "data": 8, "fsdp": 4, "tensor": 16}, [256, 512, 512, 64]),
    ],
)
def test_a_mesh_is_chosen_for_the_80b(
    topology: str, mesh: dict[str, int], batches: list[int]
) -> None:
    config = configuration.resolve(flamingo_80b.get_config())
    found = with_mesh(config, parse(topology))
    assert {axis: n for axis, n in found.mesh.shape.items() if n > 1} == mesh
    assert [dataset.batch_size for dataset in found.mixture.datasets] == batches


def test_a_mesh_of_ones_own_is_kept_or_refused() -> None:
    config = tiny(fsdp=2, tensor=2)
    assert with_mesh(config, SLICE) == config
    with pytest.raises(UserError, match="has 4 devices, v5e:2x4 has 8"):
        with_mesh(config, parse("v5e:2x4"))


def test_batches_that_cannot_be_split_are_refused_or_raised_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = r"Batches of 3 and in proportion cannot be split into 2 parts.* --batch=4 can"
    with pytest.raises(UserError, match=message):
        with_mesh(scaled(tiny(fsdp=2, tensor=2), 1.5), SLICE)
    assert with_mesh(scaled(tiny(), 1.5), SLICE).mixture.datasets[0].batch_size == 4
    (told,) = caplog.messages
    assert "from 3 to 4" in told


def test_meshes_that_do_not_divide_are_no_candidates() -> None:
    found = candidates(tiny(), parse("v5e:2x4"))
    assert {entry.mesh.devices for entry in found} == {8}
    assert {entry.mesh.tensor for entry in found} == {1, 2}  # two heads
    most = max(found, key=lambda entry: entry.held_bytes)
    assert most.mesh.fsdp * most.mesh.tensor == 1


def test_batches_keep_their_proportions() -> None:
    config = tiny()
    assert [d.batch_size for d in scaled(config, 1.5).mixture.datasets] == [3, 3]
    with pytest.raises(UserError, match=r"m3w would have a batch of 2\.5 sequences"):
        scaled(config, 1.25)


@pytest.mark.slow
def test_steps_that_take_turns_are_planned_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(build: Any, config: RunConfig, topology: Any) -> Compiled:
        (dataset,) = config.mixture.datasets
        return Compiled(10, dataset.length, dataset.length, 1.0, build(config, topology).told, None)

    monkeypatch.setattr(planning, "compile_program", compiled)
    config = tiny()

    def planned(**fields: Any) -> Plan:
        mixture = dataclasses.replace(config.mixture, **fields)
        one = parse("v5e:1x1")
        return plan_training("tiny", dataclasses.replace(config, mixture=mixture), one)

    plan = planned(schedule="round_robin")
    alone = [planned(datasets=(dataset,)) for dataset in config.mixture.datasets]
    assert alone[0].model_flops_per_step != alone[1].model_flops_per_step
    for name in ("model_flops_per_step", "roofline_seconds_per_step"):
        parts = [getattr(each, name) for each in alone]
        assert getattr(plan, name) == pytest.approx(sum(parts) / 2, rel=1e-6)
    assert plan.peak_bytes == max(each.peak_bytes for each in alone)
    assert plan.batch_sizes == {d.name: d.batch_size for d in config.mixture.datasets}
    assert plan.compile_seconds == 2.0


@pytest.mark.slow
def test_a_search_ranks_what_fits_by_speed() -> None:
    config = tiny()
    alone = dataclasses.replace(config.decoder, num_heads=1, num_kv_heads=1)  # no tensor to try
    config = with_mesh(dataclasses.replace(config, decoder=alone), SLICE)
    plans = search("tiny", config, SLICE)
    ranks = [(not plan.fits, plan.roofline_seconds_per_step) for plan in plans]
    assert ranks == sorted(ranks)
    assert {plan.remat for plan in plans} == {"none", "dots", "full"}
    assert len({tuple(plan.mesh.items()) for plan in plans}) > 1
    assert report.as_ranking(plans).count("\n") == len(plans)


@pytest.mark.slow
def test_prefill_and_decoding() -> None:
    prefill, decode = plan_serving("tiny", tiny(), parse("v5e:2x2"), Load(4, 32, 2, 32))
    assert (prefill.program, decode.program) == ("prefill", "decode")
    assert prefill.mesh == decode.mesh == {"slice": 1, "data": 2, "fsdp": 1, "tensor": 2}
    # A step is one token of 32, and sees no media anew.
    assert decode.model_flops_per_step < prefill.model_flops_per_step / 16
    assert decode.estimated_days is None
    with pytest.raises(UserError, match="3 prompts cannot be split over 2 copies"):
        plan_serving("tiny", tiny(), parse("v5e:2x2"), Load(3, 32, 2, 32))


@pytest.mark.slow
def test_a_program_without_room_does_not_fit() -> None:
    config = tiny()
    large = dataclasses.replace(config.decoder, vocab_size=2**24)
    config = scaled(dataclasses.replace(config, decoder=large), 64.0)
    plan = plan_training("large", config, parse("v5e:1x1"))
    assert not plan.fits
    assert plan.peak_bytes > plan.hbm_bytes_per_device
    assert plan.collectives is None
    assert "DOES NOT FIT" in report.as_text(plan)
    assert "does not fit" in report.as_markdown([(plan, "")])


def mistaken(_: Any) -> Any:
    raise UserError("What was wrong.")


def test_a_mistake_in_the_other_process_is_told_in_this_one() -> None:
    from flamingo_jax.planning.compiler import compile_program

    with pytest.raises(UserError, match=r"^What was wrong\.$"):
        compile_program(mistaken, None)


def test_a_compiled_program_is_of_one_device() -> None:
    assert {field.name for field in dataclasses.fields(Compiled)} >= {"argument_bytes", "text"}
    assert jax.default_backend() == "cpu"  # planning for TPUs takes no hold of one


KEYS = {
    *("config", "topology", "chips", "mesh", "fits", "hbm_bytes_per_device", "argument_bytes"),
    *("temp_bytes", "peak_bytes", "compile_seconds", "model_flops_per_step"),
    *("roofline_seconds_per_step", "bound", "estimated_days", "collectives"),
}


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "flamingo_jax.plan", *flags]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_prints_one_object() -> None:
    done = command("--config=configs/openmoji.py", "--topology=v5e:2x2", "--batch=12", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= KEYS
    assert (found["config"], found["chips"], found["fits"]) == ("openmoji", 4, True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--topology=v9:2x2",), "--topology=v9:2x2 is no TPU topology"),
        (("--topology=v5e:2x2", "--batch=13"), "keeps the proportions"),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "has 3 devices, v5e:2x2 has 4"),
    ],
)
def test_mistakes_are_one_sentence(flags: tuple[str, ...], words: str) -> None:
    done = command("--config=configs/openmoji.py", *flags)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
