"""Layout that the store accepts in an HDF5 file: datasets of plain numbers that lie in the file itself, and nothing else.

HDF5 can do much more than `store.Writer` needs. A dataset may be a link to another file, be put together from others, be compressed a
thousandfold, or declare rows that were never written. In a cache that others write to, each of these lets a few kilobytes read a file
outside the cache or fill the memory. So the headers are checked before any row is read: what all datasets declare must fit in the file.
"""

import math
import os
from collections.abc import Mapping

import h5py
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

SPARSE, SPARSE_BYTES = "values", 6144  # the dataset whose chunks of zeros may be left out; most bytes in its row (landmarks: 5736)
BLANK = "blank_chunks"  # its attribute: how many chunks were left out
TIMES = "start_s"  # the dataset with as many rows as that one, all of them written
# A file may take less room on a disk than its size says: some disks leave out zeros, some compress. At most how many times less, for
# a stream that is all zeros (THIN), and for its times, which are read whole and are never all zeros (THIN_TIMES).
THIN, THIN_TIMES, BLOCK = 1024, 32, 1 << 20
WHOLE = (b"start_s", b"end_s", b"valid")
NUMBERS = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)  # h5py keeps a bool as an enumeration


def check(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Check the headers of a file and return the shapes of its datasets by name.

    Raises ValueError unless every link of the root is a dataset of numbers, in chunks and not compressed, and the file has room for all of
    them. The room is counted on the disk too: a file of a terabyte may take up a few blocks.
    """
    names: list[bytes] = []
    file.id.links.iterate(names.append)
    shapes, declared, times = {}, 0, 0
    for name in names:
        shape, size = _declared(file.id, name)
        shapes[name.decode("utf-8", "backslashreplace")] = shape
        declared += size
        times += size if name in WHOLE else 0
    if SPARSE in shapes:
        declared -= _blank(file, shapes)
    if declared > (size := file.id.get_filesize()):
        raise ValueError(f"datasets of {declared} bytes in a file of {size}")
    on_disk = os.fstat(file.id.get_vfd_handle()).st_blocks * 512
    if on_disk and (declared > THIN * on_disk + BLOCK or times > THIN_TIMES * on_disk + BLOCK):  # 0: this disk does not say
        raise ValueError(f"datasets of {declared} bytes in a file of {on_disk} bytes on the disk")
    return shapes


def check_written(file: h5py.File) -> None:
    """Check that every chunk of every dataset was written. Raises ValueError otherwise, since missing chunks read as zeros.

    Takes time in proportion to the number of chunks.
    """
    for name, dataset in file.items():
        _, declared = _declared(file.id, name.encode())
        stored = dataset.id.get_storage_size()
        declared -= _blank(file, {name: dataset.shape, TIMES: file[TIMES].shape}) if name == SPARSE else 0
        if declared > stored:
            raise ValueError(f"{name} of {declared} bytes, of which {stored} are there")


def row_bytes(dataset: h5py.Dataset) -> int:
    """Return the bytes of one row."""
    return math.prod(dataset.shape[1:]) * dataset.dtype.itemsize


def _blank(file: h5py.File, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the bytes of the chunks of `SPARSE` that were left out as zeros, by its attribute.

    Raises ValueError if the dataset may not have any: a few kilobytes must not declare gigabytes of rows. So a row must be short, and there
    must be as many rows as times, which lie in the file in full.
    """
    dataset = file[SPARSE]
    if BLANK not in dataset.attrs:
        return 0
    count, side = int(dataset.attrs[BLANK]), dataset.chunks[0]
    chunks = -(-len(dataset) // side)
    if not 0 <= count <= chunks or row_bytes(dataset) > SPARSE_BYTES or len(dataset) != shapes.get(TIMES, (-1,))[0]:
        raise ValueError(f"{count} blank chunks in {SPARSE} of {chunks} chunks, {row_bytes(dataset)} bytes a row")
    return count * side * row_bytes(dataset)


def _declared(root: h5g.GroupID, name: bytes) -> tuple[tuple[int, ...], int]:
    """Return the shape of a dataset, and the bytes that its chunks take when all are written, without their checksums."""
    shown = name.decode("utf-8", "backslashreplace")
    if root.links.get_info(name).type != h5l.TYPE_HARD:
        raise ValueError(f"{shown}, a link to elsewhere")
    dataset = h5o.open(root, name)
    if not isinstance(dataset, h5d.DatasetID):
        raise ValueError(f"{shown}, which is no dataset")
    kind = dataset.get_type()
    if kind.get_class() not in NUMBERS:
        raise ValueError(f"{shown} of {kind.dtype}, which are no numbers")
    made = dataset.get_create_plist()
    if made.get_layout() != h5d.CHUNKED or made.get_external_count():
        raise ValueError(f"{shown}, which does not lie in chunks of this file")
    if any(made.get_filter(i)[0] != h5z.FILTER_FLETCHER32 for i in range(made.get_nfilters())):
        raise ValueError(f"{shown}, which is compressed")
    shape = dataset.shape
    chunks = (-(-length // side) * side for length, side in zip(shape, made.get_chunk(), strict=True))
    return shape, math.prod(chunks) * kind.get_size()
