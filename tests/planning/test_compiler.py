"""What is read of the compiler's assignment of memory."""

from pathlib import Path

from flamingo_jax.planning import compiler

ASSIGNMENT = """BufferAssignment:
allocation 0: size 4096, page 0, parameter 0, shape |bf16[32,64]| at ShapeIndex {}:
 value: <1 p0 @0> (size=4096,offset=0): bf16[32,64]{1,0:T(8,128)}
allocation 1: size 1000, page 0, maybe-live-out:
allocation 2: size 300, page 0, preallocated-temp:
allocation 3: size 20, page 0, constant:
allocation 4: size 70000, page 0, thread-local:
 value: <2 param_0.3508 @0> (size=70000,offset=0): f32[8,8,1024,1056]{2,1,3,0:T(8,128)}
allocation 5: size 80000, color 1, page 0, preallocated-temp:
"""


def test_only_what_lies_in_hbm_counts(tmp_path: Path) -> None:
    name = "module_0000.jit_fill.after_optimizations"
    (tmp_path / f"{name}-buffer-assignment.txt").write_text(ASSIGNMENT)
    (tmp_path / f"{name}.txt").write_text("HloModule")
    found = compiler._read(tmp_path, 1.0, None)
    assert (found.argument_bytes, found.temp_bytes, found.peak_bytes) == (4096, 320, 5416)
    assert found.text == "HloModule"
