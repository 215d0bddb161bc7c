"""Checkpoints read as data: what torch saves comes back, what a pickle would call is told, what it declares is held against the file."""

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from limits import bounded, refused

from affpipe.core.errors import WeightsError
from affpipe.system.weights import checkpoint, pickled

KINDS = [*pickled.KINDS.values(), torch.float8_e4m3fn, torch.uint16]


@pytest.mark.parametrize("zipped", [True, False])
def test_all_kinds_of_numbers_come_back_with_their_shapes_and_shared_values(tmp_path, zipped):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict({str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in (KINDS if zipped else pickled.KINDS.values())})
    state |= {"turned": base.T, "row": base[2], "strided": base[::2, 1::3], "one": torch.tensor(3), "none": torch.empty(0, 5)}
    state["parameter"] = torch.nn.Parameter(base.half())
    whole = {"state": state, "epoch": 3, "names": ["a", None, True, 0.5, (1, 2)], "shape": base.shape}
    torch.save(whole, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    found = checkpoint.read("x", tmp_path / "x")
    assert found["state"].keys() == state.keys()
    for name, value in state.items():
        ours = found["state"][name]
        assert (ours.dtype, ours.shape, ours.stride()) == (value.dtype, value.shape, value.stride()), name
        assert ours.numel() == 0 or torch.equal(*(x.detach().reshape(-1).view(torch.uint8) for x in (ours, value))), name
    assert found["state"]["turned"].untyped_storage().data_ptr() == found["state"]["row"].untyped_storage().data_ptr()
    assert {k: v for k, v in found.items() if k != "state"} == {"epoch": 3, "names": ["a", None, True, 0.5, (1, 2)], "shape": (4, 6)}


def test_a_state_dict_of_a_network_is_that_of_torch(tmp_path):
    net = torch.nn.TransformerEncoderLayer(8, 2, 16)
    torch.save(net.state_dict(), tmp_path / "x")
    found, want = checkpoint.read("x", tmp_path / "x"), torch.load(tmp_path / "x", weights_only=True)
    assert list(found) == list(want)
    assert all(torch.equal(found[name], want[name]) for name in want)


ran: list[str] = []


class Told:
    """Unpickles as a call of this module's own function."""

    def __reduce__(self):
        return ran.append, ("ran",)


def test_what_would_be_called_or_made_is_told_and_not_done(tmp_path):
    torch.save({"x": torch.zeros(2), "net": torch.nn.ReLU(), "more": Told()}, tmp_path / "x")
    found = pickled.load("x", tmp_path / "x")
    assert not ran
    assert found.foreign == ["a result of builtins.getattr", "builtins.getattr", "torch.nn.modules.activation.ReLU"]
    assert isinstance(found.value["net"], pickled.Record)
    assert found.value["net"].state["inplace"] is False


def number(n: int) -> bytes:
    return b"J" + n.to_bytes(4, "little") if n < 1 << 31 else b"\x8a\x09" + n.to_bytes(9, "little")


def tensor(numbers: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickle of one tensor, as torch writes it."""
    key, cpu = b"X\x01\x00\x00\x000", b"X\x03\x00\x00\x00cpu"
    stored = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + key + cpu + number(numbers) + b"tQ"
    sizes = b"".join(b"(" + b"".join(map(number, dims)) + b"t" for dims in (shape, strides))
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + stored + number(offset) + sizes + b"\x89ccollections\nOrderedDict\n)RtR."


def archive(path: Path, program: bytes, stored: bytes = bytes(16)) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, data in (("data.pkl", program), ("byteorder", b"little"), ("data/0", stored), ("version", b"3\n")):
            out.writestr(f"archive/{name}", data)
    return path


def legacy(path: Path, program: bytes, stored: bytes = bytes(16)) -> Path:
    keys = ["0"] * (b"storage" in program)
    parts = [pickle.dumps(part, 2) for part in (pickled.MAGIC, 1001, {"little_endian": True})]
    path.write_bytes(b"".join([*parts, program, pickle.dumps(keys, 2), ((4).to_bytes(8, "little") + stored) * len(keys)]))
    return path


def test_the_pickles_of_these_tests_are_read_where_they_are_sound(tmp_path):
    for make in (archive, legacy):
        assert torch.equal(checkpoint.read("x", make(tmp_path / "x", tensor(4, 1, (3,), (1,)))), torch.zeros(3))
    assert torch.equal(torch.load(archive(tmp_path / "x", tensor(4, 1, (3,), (1,))), weights_only=True), torch.zeros(3))


def nested(depth: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple ... as a key: its hash looks at each as often as it is named."""
    return b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * depth + b"Ns."


BOMBS = {
    "57 bytes that ask for two gigabytes": (b"\x80\x02cbuiltins\nbytearray\n" + number(2 << 30) + b"\x85R.", "more in it than tensors"),
    "a storage class that is called": (b"\x80\x02ctorch\nFloatStorage\n" + number(1 << 29) + b"\x85R.", "more in it than tensors"),
    "a tensor class that is called": (b"\x80\x02ctorch\nTensor\n" + number(1 << 29) + b"\x85R.", "more in it than tensors"),
    "a parameter that is made": (b"\x80\x02ctorch.nn.parameter\nParameter\n" + number(1 << 29) + b"\x85\x81.", "more in it than tensors"),
    "a storage longer than its bytes": (tensor(1 << 29, 0, (4,), (1,)), "declared"),
    "a tensor larger than its storage": (tensor(4, 0, (1 << 29,), (1,)), r"a tensor of \(536870912,\) in 16 bytes"),
    "a tensor beyond its storage": (tensor(4, 3, (2,), (1,)), r"a tensor of \(2,\) in 16 bytes"),
    "strides beyond its storage": (tensor(4, 0, (2, 2), (1 << 40, 1)), "in 16 bytes"),
    "one number a billion times": (tensor(4, 0, (1 << 30,), (0,)), "want tensors that it holds, got"),
    "a thousand dimensions": (tensor(4, 0, (1,) * 1000, (1,) * 1000), "a tensor of no shape"),
    "a text of two gigabytes": (b"\x80\x02X" + (2 << 30).to_bytes(4, "little") + b"x.", "a text longer than any"),
    "bytes of two gigabytes": (b"\x80\x05\x96" + (2 << 30).to_bytes(8, "little") + b".", "does not read as weights"),
    "a memory of a billion places": (b"\x80\x02]r\xff\xff\xff\x7f.", None),
    "a number of a million digits": (b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.", "does not read as weights"),
    "a key that takes years to hash": (nested(60), "a key of type tuple"),
    "an opcode of later protocols": (pickle.dumps([1, 2], 4), "which torch does not write"),
    "no end": (b"\x80\x02]", "does not read as weights"),
    "a value that is not there": (b"\x80\x02h\x05.", "does not read as weights"),
    "a call of a list": (b"\x80\x02])R.", "a call of a list"),
    "an attribute of a number": (b"\x80\x02K\x01}b.", "attributes of a int"),
}


@pytest.mark.parametrize("make", [archive, legacy])
@pytest.mark.parametrize("case", BOMBS)
def test_a_pickle_takes_no_more_memory_or_time_than_its_file(tmp_path, case, make):
    program, said = BOMBS[case]
    path = make(tmp_path / "x", program)
    if said is None:
        with bounded():
            pickled.load("x", archive(path, program))
        return
    refused(lambda: checkpoint.read("x", path), WeightsError, str(path))
    with pytest.raises(WeightsError, match=said):
        checkpoint.read("x", path)


def test_a_bare_pickle_is_no_checkpoint(tmp_path):
    (tmp_path / "x").write_bytes(BOMBS["57 bytes that ask for two gigabytes"][0])
    refused(lambda: checkpoint.read("x", tmp_path / "x"), WeightsError, "no file of torch.save")


def test_two_programs_of_one_name_are_refused(tmp_path):
    """Else one reader could be shown the one, another the other."""
    path = archive(tmp_path / "x", tensor(4, 0, (4,), (1,)))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as out:
        warnings.simplefilter("ignore")
        out.writestr("archive/data.pkl", tensor(4, 0, (2,), (1,)))
    refused(lambda: checkpoint.read("x", path), WeightsError, "two members of one name")


def test_numbers_of_another_byte_order_are_refused_and_not_read_as_others(tmp_path):
    plain = io.BytesIO()
    torch.save({"x": torch.arange(4.0)}, plain)
    with zipfile.ZipFile(plain) as found, zipfile.ZipFile(tmp_path / "x", "w") as out:
        for member in found.infolist():
            out.writestr(member.filename, b"big" if member.filename.endswith("byteorder") else found.read(member))
    refused(lambda: checkpoint.read("x", tmp_path / "x"), WeightsError, "another byte order")


def test_a_bit_that_flips_in_a_tensor_is_damage(tmp_path):
    torch.save({"x": torch.full((1000,), 7, dtype=torch.uint8)}, tmp_path / "x")
    data = bytearray((tmp_path / "x").read_bytes())
    data[data.index(bytes([7]) * 1000) + 500] ^= 1
    (tmp_path / "x").write_bytes(data)
    refused(lambda: checkpoint.read("x", tmp_path / "x"), WeightsError, "Bad CRC-32")
