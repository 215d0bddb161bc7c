"""Reader of torch.save files as data, without running them.

Such a file is a pickle, mostly within a zip archive, with the bytes of its tensors beside it. A pickle is a program: it names functions,
which are called while it is loaded, with arguments of its choice. Here nothing is called. The few functions that build tensors and plain
values are known by name and done by this module. Whatever else the program would call or make is kept as a `Record` of its name and
arguments, for the reader to refuse or examine. Only the opcodes that torch writes are known. Sizes that the program declares are checked
against the bytes of the file before memory is taken for them.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from affpipe.core.errors import WeightsError
from affpipe.system.weights.reading import first_line

ZIP = b"PK\x03\x04"  # first bytes of an archive, by which torch recognizes it
MAGIC = 0x1950A86A20F9469CFC6C  # beginning of the older form of torch.save
LONGEST = 8 << 20  # most bytes of a pickle, without tensors: many times those of any network
DIMENSIONS, NAMED = 64, 200  # most dimensions of a tensor, most letters of a name
SHARED = 16  # tensors of one file may share values, up to so many times its size in all
KINDS = {  # class of torch that names a dtype
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
STORAGES = {f"torch.{name}Storage": kind for name, kind in KINDS.items()} | {"torch.storage.UntypedStorage": torch.uint8}
SCALARS = (str, int, float, bool, type(None))
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Name:
    """Name of a class or function in a pickle, "module.name"."""

    of: str


@dataclass(eq=False)
class Record:
    """Record of what a pickle would have called or made.

    state is what it would have set on the object; items, what it would have put in it.
    """

    name: str
    args: tuple
    state: Any = None
    items: list[Any] = field(default_factory=list)


class Pickled(NamedTuple):
    """Content of a file: plain values, tensors on the CPU, and records. calls and makes name the functions and classes of the records."""

    value: Any
    calls: frozenset[str]
    makes: frozenset[str]

    @property
    def foreign(self) -> list[str]:
        """Names that the file asks for beyond tensors and plain values."""
        return sorted(self.calls | self.makes)


class _Storage(NamedTuple):
    kind: torch.dtype
    data: Tensor  # (bytes,) uint8, not filled yet


def load(who: str, path: Path) -> Pickled:
    """Read a checkpoint. Raises WeightsError in the name of `who` if it is none, is damaged, or declares more than it has."""
    check_archive(who, path)
    try:
        with path.open("rb") as file:
            zipped = file.read(len(ZIP)) == ZIP
            file.seek(0)
            return _zipped(path) if zipped else _bare(file, path.stat().st_size)
    except FAULTS as error:
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None


def check_archive(who: str, path: Path) -> None:
    """Raise WeightsError if a file is a zip archive that unpacks to more bytes than it has, or whose directory cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                return
        with zipfile.ZipFile(path) as archive:
            unfolded = sum(member.file_size for member in archive.infolist())
    except FAULTS as error:
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None
    if unfolded > (size := path.stat().st_size):
        raise WeightsError(f"{who}: {path}: want tensors as they are, got {size} bytes that unfold to {unfolded}: do not trust it")


def _zipped(path: Path) -> Pickled:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("two members of one name")
        (program,) = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")] or [None]
        if program is None or members[program].file_size > LONGEST:
            raise ValueError("no data.pkl of usual size")
        folder = program.removesuffix("data.pkl")
        if (order := folder + "byteorder") in members and members[order].file_size < 10 and archive.read(order) != b"little":
            raise ValueError("numbers of another byte order")
        found: dict[str, Tensor] = {}

        def storage(key: str, size: int) -> Tensor:
            if (stored := members[f"{folder}data/{key}"].file_size) < size:
                raise ValueError(f"{size} bytes declared of {stored}")
            if key not in found:
                found[key] = torch.empty(stored, dtype=torch.uint8)
            return found[key]

        with archive.open(program) as file:
            machine = _Machine(storage, path.stat().st_size)
            value = machine.run(file)
        for key, data in found.items():
            with archive.open(f"{folder}data/{key}") as file:
                _fill(data, file)
    return Pickled(value, frozenset(machine.calls), frozenset(machine.makes))


def _bare(file: BinaryIO, size: int) -> Pickled:
    """Read the form of torch before 1.6: five pickles, then the storages in the order of the fifth."""
    found: dict[str, Tensor] = {}

    def storage(key: str, wanted: int) -> Tensor:
        if key not in found:
            if sum(map(len, found.values())) + wanted > size:
                raise ValueError(f"{wanted} bytes declared in a file of {size}")
            found[key] = torch.empty(wanted, dtype=torch.uint8)
        if len(found[key]) != wanted:
            raise ValueError(f"{wanted} bytes declared of {len(found[key])}")
        return found[key]

    machine = _Machine(storage, size)
    if machine.run(file) != MAGIC:
        raise ValueError("no file of torch.save")
    _version, _system, value, keys = (machine.run(file) for _ in range(4))
    if sorted(keys) != sorted(found):
        raise ValueError("storages that are not those of its tensors")
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        if len(found[key]) % count if count else len(found[key]):
            raise ValueError(f"{count} numbers for {len(found[key])} bytes")
        _fill(found[key], file)
    return Pickled(value, frozenset(machine.calls), frozenset(machine.makes))


def _fill(data: Tensor, file: Any) -> None:
    view, at = memoryview(data.numpy()), 0
    while at < len(view):
        if not (got := file.readinto(view[at:])):
            raise ValueError(f"{at} of {len(view)} bytes")
        at += got


class _Machine:
    """Machine that runs pickles and calls nothing.

    Args:
        storage: gives the bytes of a storage by its key and size. Raises ValueError if there are not so many.
        size: size of the file in bytes.
    """

    def __init__(self, storage: Callable[[str, int], Tensor], size: int):
        self.storage, self.size = storage, size
        self.declared = 0  # bytes of all tensors
        self.calls: set[str] = set()
        self.makes: set[str] = set()

    def run(self, file: Any) -> Any:
        """Return the value of the next pickle of a file."""
        stack: list[Any] = []
        below: list[list[Any]] = []  # stacks under marks
        memo: dict[int, Any] = {}

        def marked() -> list[Any]:
            nonlocal stack
            items, stack = stack, below.pop()
            return items

        for op, arg, at in pickletools.genops(_Bounded(file)):
            if at > LONGEST:
                raise ValueError("a pickle longer than any")
            match op.name:
                case "BINPUT" | "LONG_BINPUT":
                    memo[arg] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[arg])
                case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "SHORT_BINSTRING" | "BINSTRING":
                    stack.append(arg)
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[op.name])
                case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                    stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[op.name]())
                case "MARK":
                    below.append(stack)
                    stack = []
                case "TUPLE":
                    items = marked()
                    stack.append(tuple(items))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(op.name[-1])
                    stack[-count:] = [tuple(stack[-count:])] if len(stack) >= count else _lacking()
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _put(stack[-1], [key, value])
                case "SETITEMS":
                    items = marked()
                    _put(stack[-1], items)
                case "APPEND":
                    value = stack.pop()
                    _add(stack[-1], [value])
                case "APPENDS":
                    items = marked()
                    _add(stack[-1], items)
                case "GLOBAL":
                    stack.append(Name(arg.replace("__builtin__ ", "builtins ").replace(" ", ".")[:NAMED]))
                case "REDUCE":
                    args, function = stack.pop(), stack.pop()
                    stack.append(self._call(function, args))
                case "NEWOBJ":
                    args, kind = stack.pop(), stack.pop()
                    stack.append(self._make(kind, args))
                case "BUILD":
                    state = stack.pop()
                    if isinstance(stack[-1], Record):
                        stack[-1].state = state
                    elif not isinstance(stack[-1], (dict, Tensor)):  # attributes of these are ignored: `_metadata` of a state dict
                        raise ValueError(f"attributes of a {type(stack[-1]).__name__}")
                case "BINPERSID":
                    stack.append(self._stored(stack.pop()))
                case "PROTO":
                    pass
                case "STOP":
                    return stack.pop()
                case other:
                    raise ValueError(f"the opcode {other}, which torch does not write")
        raise ValueError("a pickle without end")

    def _call(self, function: Any, args: Any) -> Any:
        if isinstance(function, Record):  # something on the result of a call, such as a method
            function = Name(f"a result of {function.name}")
        if not (isinstance(function, Name) and isinstance(args, tuple)):
            raise ValueError(f"a call of a {type(function).__name__}")
        match function.of, args:
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list() as pairs,):
                return _put({}, [part for pair in pairs for part in pair])
            case (("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2"), (_Storage() as stored, offset, shape, strides, *_)):
                return self._tensor(stored, stored.kind, offset, shape, strides)
            case "torch._utils._rebuild_tensor_v3", (_Storage() as stored, offset, shape, strides, _, _, Name(of=kind), *_):
                kind = getattr(torch, kind.removeprefix("torch."), None)
                if isinstance(kind, torch.dtype):
                    return self._tensor(stored, kind, offset, shape, strides)
            case (("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state"), (Tensor() as made, *_)):
                return made
            case "torch.Size", (list() | tuple() as sizes,):
                return tuple(sizes)
            case "_codecs.encode", (str() as text, "latin1"):
                return text.encode("latin1")
            case "builtins.set", (list() as items,) if all(isinstance(item, SCALARS) for item in items):
                return set(items)
        self.calls.add(function.of)
        return Record(function.of, args)

    def _make(self, kind: Any, args: Any) -> Record:
        if not (isinstance(kind, Name) and isinstance(args, tuple)):
            raise ValueError(f"an object of a {type(kind).__name__}")
        self.makes.add(kind.of)
        return Record(kind.of, args)

    def _stored(self, said: Any) -> _Storage:
        """Return the storage of ("storage", class, key, device, numbers). The older form adds a sixth, long left empty by torch."""
        match said:
            case ("storage", Name(of=name), str() as key, str(), int() as count, *more) if name in STORAGES and more in ([], [None]):
                kind = STORAGES[name]
                if not 0 <= count <= self.size or "/" in key:
                    raise ValueError(f"{count} numbers declared in a file of {self.size} bytes")
                return _Storage(kind, self.storage(key, count * kind.itemsize))
        raise ValueError("a storage that is no storage of numbers")

    def _tensor(self, stored: _Storage, kind: torch.dtype, offset: Any, shape: Any, strides: Any) -> Tensor:
        numbers = [offset, *shape, *strides]
        if len(shape) != len(strides) or len(shape) > DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise ValueError("a tensor of no shape")
        count = math.prod(shape)
        if count and (offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1) * kind.itemsize > len(stored.data):
            raise ValueError(f"a tensor of {shape} in {len(stored.data)} bytes")
        self.declared += count * kind.itemsize
        if self.declared > SHARED * self.size:
            raise ValueError(f"want tensors that it holds, got {self.size} bytes that make {self.declared}")
        if not count:
            return torch.empty(shape, dtype=kind)
        whole = len(stored.data) // kind.itemsize * kind.itemsize
        return stored.data[:whole].view(kind).as_strided(shape, strides, offset)


class _Bounded:
    """File for pickletools, which would read as many bytes at once as the file tells it to; here at most LONGEST."""

    def __init__(self, file: Any):
        self.file, self.at = file, 0

    def read(self, count: int) -> bytes:
        if count > LONGEST:
            raise ValueError("a text longer than any")
        return self._told(self.file.read(count))

    def readline(self) -> bytes:
        return self._told(self.file.readline(LONGEST))

    def tell(self) -> int:
        return self.at

    def _told(self, data: bytes) -> bytes:
        self.at += len(data)
        return data


def _lacking() -> list[Any]:
    raise ValueError("too few values")


def _put(into: Any, items: list[Any]) -> Any:
    """Put keys and values, one after another, into a dict. Keys must be plain: hashing a tuple of tuples of tuples can take years."""
    if isinstance(into, Record):
        into.items += items
    elif not isinstance(into, dict) or len(items) % 2:
        raise ValueError(f"items of a {type(into).__name__}")
    else:
        for key, value in _pairs(items):
            if not isinstance(key, SCALARS):
                raise ValueError(f"a key of type {type(key).__name__}")
            into[key] = value
    return into


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _add(into: Any, items: list[Any]) -> None:
    into = into.items if isinstance(into, Record) else into
    if not isinstance(into, list):
        raise ValueError(f"items of a {type(into).__name__}")
    into += items
