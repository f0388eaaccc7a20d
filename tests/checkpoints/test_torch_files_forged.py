"""Forged files of torch.save: what would run code, or read elsewhere, does nothing."""

import builtins
import collections
import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamingo_jax.checkpoints.tensors import open_tensors
from flamingo_jax.errors import UserError

torch = pytest.importorskip("torch")


class Storage:
    """Stands for a storage in a forged pickle."""

    def __init__(self, key: Any = "0", numel: Any = 6, kind: Any = torch.FloatStorage) -> None:
        self.identifier = ("storage", kind, key, "cpu", numel)


class Call:
    """Unpickles by calling a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def forged(path: Path, program: Any) -> Path:
    """An archive with a pickle (or what to pickle) and one storage of six floats."""
    if not isinstance(program, bytes):
        program = pickled(program)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
    return path


def pickled(content: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol)
    pickler.persistent_id = lambda item: getattr(item, "identifier", None)
    pickler.dump(content)
    return buffer.getvalue()


def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> dict[str, Call]:
    rest = rest or (False, collections.OrderedDict())
    function = torch._utils._rebuild_tensor_v2
    return {"weight": Call(function, storage, offset, shape, strides, *rest)}


def test_a_forged_archive_can_be_read(tmp_path: Path) -> None:
    """Else the refusals below would prove nothing."""
    path = forged(tmp_path / "a.pt", tensor(Storage(), 1, torch.Size((2, 2)), (1, 3)))
    np.testing.assert_array_equal(open_tensors(path)["weight"].read(), [[1, 4], [2, 5]])


@pytest.mark.parametrize(
    "content",
    [
        tensor(Storage(), -1, (2,), (1,)),
        tensor(Storage(), 5, (2,), (1,)),
        tensor(Storage(), 1 << 62, (2,), (1,)),
        tensor(Storage(), 0, (7,), (1,)),
        tensor(Storage(), 0, (2,), (-1,)),
        tensor(Storage(), 0, (2,), (1 << 61,)),
        tensor(Storage(), 0, (1 << 40, 1 << 40), (0, 0)),
        tensor(Storage(), 0, (1 << 80,), (0,)),
        tensor(Storage(), 0, (2,), (1, 1)),
        tensor(Storage(), 0, ((2,),), (1,)),
        tensor(Storage(), 0, (2.0,), (1,)),
        tensor(Storage(), 0, (1,) * 65, (1,) * 65),
        tensor(Storage(numel=7), 0, (2,), (1,)),
        tensor(Storage(numel=1 << 60), 0, (1 << 59,), (1,)),
        tensor(Storage(numel=-1), 0, (2,), (1,)),
        tensor(Storage(key="1"), 0, (2,), (1,)),
        tensor(Storage(key="../../model.pt"), 0, (2,), (1,)),
    ],
)
def test_hostile_places(tmp_path: Path, content: Any) -> None:
    path = forged(tmp_path / "model.pt", content)
    with pytest.raises(UserError, match=r"model\.pt.*'weight'|'weight'.*model\.pt"):
        open_tensors(path)["weight"].read()


@pytest.mark.parametrize(
    "content",
    [
        tensor(Storage(kind="FloatStorage"), 0, (2,), (1,)),
        tensor(Storage(key=0), 0, (2,), (1,)),
        tensor(Storage(numel="6"), 0, (2,), (1,)),
        tensor("storage", 0, (2,), (1,)),
        tensor(Storage(), "0", (2,), (1,)),
        tensor(Storage(), 0, 2, (1,)),
        tensor(Storage(), 0, (2,), [1]),
        tensor(Storage(), 0, (2,), (1,), False, {}, {"neg": True}),
        {"weight": Call(torch._utils._rebuild_parameter, 1, False, {})},
        {"weight": Call(collections.OrderedDict, {"a": 1})},
        {("a", "b"): 1},
        {"set": {1, 2}},
        {"bytes": bytearray(3)},
    ],
)
def test_what_is_no_tensor_s_part(tmp_path: Path, content: Any) -> None:
    path = forged(tmp_path / "model.pt", content)
    with pytest.raises(UserError, match=r"model\.pt is"):
        open_tensors(path)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Programs that make the file `ran` when unpickled as usual, and what they must be named by."""
    touch, code = b"S'touch ran'\n", b'S\'open("ran", "w")\'\n'
    text = b"\x8c\x09touch ran"
    real = pickle.dumps({"weight": 1}, 2)[:-1]
    return {
        "reduce": (b"cos\nsystem\n(" + touch + b"tR.", "os.system"),
        "eval": (b"cbuiltins\neval\n(" + code + b"tR.", "builtins.eval"),
        "exec": (b"cbuiltins\nexec\n(" + code + b"tR.", "builtins.exec"),
        "python 2's name": (b"c__builtin__\neval\n(" + code + b"tR.", "__builtin__.eval"),
        "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.", "os.system"),
        "module of a module": (b"cposix\nsystem\n(" + touch + b"tR.", "posix.system"),
        "inst": (b"(" + touch + b"ios\nsystem\n.", "os.system"),
        "obj": (b"(csubprocess\nPopen\n](S'touch'\nS'ran'\neo.", "subprocess.Popen"),
        "newobj": (
            b"\x80\x02csubprocess\nPopen\n](S'touch'\nS'ran'\ne\x85\x81.",
            "subprocess.Pope",
        ),
        "in a tuple": (real + b"(((cos\nsystem\n(" + touch + b"tRttt\x86.", "os.system"),
        "dropped again": (b"cos\nsystem\n(" + touch + b"tR0" + real + b".", "os.system"),
        "from the memo": (b"cos\nsystem\nq\x010h\x01(" + touch + b"tR.", "os.system"),
        "as a key": (b"}cos\nsystem\n(" + touch + b"tRK\x01s.", "os.system"),
        "attribute of a known name": (
            b"\x80\x04\x8c\x0ctorch._utils\x8c$_rebuild_tensor_v2.__globals__.clear\x93)R0"
            b"cos\nsystem\n(" + touch + b"tR.",
            "_rebuild_tensor_v2.__globals__.clear",
        ),
    }


@pytest.mark.parametrize("kind", hostile())
def test_a_hostile_pickle_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    program, name = hostile()[kind]
    path = forged(tmp_path / "model.pt", program)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"model\.pt ") as caught:
        open_tensors(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", sorted(hostile().keys() - {"newobj", "attribute of a known name"}))
def test_those_pickles_are_hostile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Python's own unpickler runs them (but for two that fail on their way): the test can fail."""
    monkeypatch.chdir(tmp_path)
    result = pickle.loads(hostile()[kind][0])
    if hasattr(result, "wait"):
        result.wait()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "function",
    [
        getattr,
        builtins.__import__,
        os.remove,
        torch.load,
        torch.hub.load,
        torch._utils._rebuild_device_tensor_from_numpy,
        torch.storage._load_from_bytes,
        np.lib.npyio.NpzFile,
        collections.Counter,
    ],
)
def test_any_other_name_is_refused(tmp_path: Path, function: Any) -> None:
    content = {**tensor(Storage(), 0, (6,), (1,)), "extra": [(Call(function, "model.pt"),)]}
    path = forged(tmp_path / "model.pt", content)
    with pytest.raises(UserError, match=r"model\.pt is not read: it names '.*could run code"):
        open_tensors(path)
    assert path.exists()


def test_attributes_are_not_set(tmp_path: Path) -> None:
    """BUILD may set anything on an object; here it sets nothing, on whatever it is used."""
    state = pickle.dumps({"items": 1, "__class__": 2, "__reduce__": 3}, 2)[2:-1]
    weight = tensor(Storage(), 0, (6,), (1,))
    whole = pickled(weight)
    path = forged(tmp_path / "model.pt", whole[:-1] + state + b"b.")
    np.testing.assert_array_equal(open_tensors(path)["weight"].read(), np.arange(6))


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2**31 places
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",  # bytes
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",  # a bytearray
        b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"x.",  # a string
        b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"N.",  # a frame
        b"\x80\x02\x8b\xff\xff\xff\x7fx.",  # a number
        b"I" + b"9" * 100_000 + b"\n.",
        b"(" * 100_000 + b"N.",
        b")" + b"\x85" * 100_000 + b".",
        b"]" + b"q\x00h\x00h\x00\x86" * 10_000 + b".",  # doubles when it is walked
        b"]q\x00" + b"h\x00h\x00\x86q\x00" * 100 + b"h\x00\x93.",  # and when it is named
        b"\x80\x02}X\x05\x00\x00\x00model" + b")" + b"\x85" * 100_000 + b"s.",
    ],
)
def test_small_programs_stay_small(tmp_path: Path, program: bytes) -> None:
    path = forged(tmp_path / "model.pt", program)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"model\.pt "):
            open_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 300 * len(program) + 10**6
    finally:
        tracemalloc.stop()


OPCODES = [
    bytes([code]) for code in b"(012.NRbc}]()esuttao\x81\x85\x86\x87\x88\x89\x93\x94Qq\x00h\x00i"
]
PIECES = [
    *OPCODES,
    b"K\x02",
    b"M\xff\xff",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"G" + bytes(8),
    b"X\x05\x00\x00\x00model",
    b"\x8c\x02os\x8c\x06system\x93",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n",
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x00\x00\x00\x00K\x06tQ",
    pickled(tensor(Storage(), 0, (2,), (1,)))[:-1],
]
"""Opcodes, and what they go on: programs of these get further than random bytes do."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forged")


def assert_read_or_refused(path: Path, program: bytes) -> None:
    forged(path, program)
    try:
        arrays = [found.read() for found in open_tensors(path).values()]
    except UserError as error:
        message = str(error)
    else:
        assert arrays
        assert all(array.nbytes <= 24 for array in arrays)
        message = path.name
    assert path.name in message
    assert "\n" not in message


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_program_of_opcodes(folder: Path, pieces: list[bytes]) -> None:
    assert_read_or_refused(folder / "model.pt", b"".join(pieces) + b".")


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), max_size=5),
    st.sampled_from([2, 4]),
)
@example([], 2)
def test_any_change_of_a_program(
    folder: Path, changes: list[tuple[float, bytes]], protocol: int
) -> None:
    program = pickled(tensor(Storage(), 1, torch.Size((2, 2)), (1, 3)), protocol)
    for place, new in changes:
        at = int(place * len(program))
        program = program[:at] + new + program[at + len(new) :]
    assert_read_or_refused(folder / "model.pt", program)
