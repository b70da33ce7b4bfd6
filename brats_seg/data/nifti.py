"""NIfTI-1 files: headers, volumes and label maps in file order, read with every claim of the header checked first.

In: paths of `.nii` and `.nii.gz` files (told apart by content, not by name). Out: C-ordered arrays (K, J, I), or
(T, K, J, I) of a 4-D file, where I, J, K are the NIfTI voxel axes: exactly the order of the bytes in the file, so that
nothing is ever transposed. Affines are nibabel's: from (i, j, k) to RAS+ millimetres.

Voxels are inflated straight into the result by isal (gzip where isal is missing) and the gzip check sum is always
verified. ITK's reader is not used: it returns a truncated or corrupted `.nii.gz` without any error, and is no faster.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.header import (
    FIRST_VOXEL,
    HEADER_BYTES,
    NIFTI_TYPES,
    Header,
    header_for,
    header_from_bytes,
    parse_header,
    same_geometry,
    sizes_in_words,
)
from brats_seg.errors import DataError
from brats_seg.files import atomic_file

_fast_gzip: Any = gzip
_DAMAGED: tuple[Any, ...] = (zlib.error, gzip.BadGzipFile)
try:
    from isal import igzip, isal_zlib
except ImportError:  # a bare GPU node: the same voxels, slower
    pass
else:
    _fast_gzip = igzip
    _DAMAGED = (*_DAMAGED, isal_zlib.error)

__all__ = [
    "Header",
    "header_for",
    "header_from_bytes",
    "read_header",
    "read_label_map",
    "read_stack",
    "read_stored",
    "read_volume",
    "same_geometry",
    "write_label_map",
    "write_volume",
]

_LARGEST_VOLUME_BYTES = 8 << 30
"""No MR study is larger; a header that claims more is damaged, and is refused before any memory is asked for."""
_LARGEST_DEFLATE_RATIO = 1032
"""Deflate cannot pack tighter than this, so a compressed file's size bounds what it can hold."""
_LABEL_INTENT = 1002


def read_header(path: Path) -> Header:
    """Return the header of a NIfTI-1 file, read from its first bytes and checked against the size of the file.

    Raises:
        DataError: the file cannot be read, is empty, is no NIfTI-1 file (a web page, say), claims more voxels than it
            can hold, or has a geometry that is no grid of right angles.
    """
    with _reading(path), _open(path) as stream:
        return _header_of_stream(stream, path)


def read_volume(path: Path, *, channel: int | None = None) -> tuple[NDArray[Any], Header]:
    """Return the voxels and the header of a file.

    Args:
        path: the file.
        channel: the one volume of a 4-D file to return as (K, J, I); None returns all that is there.

    Returns:
        A C-ordered array in file order and native byte order: of the type on disk, or float32 where the header
        scales values; and the header (of the whole file, whatever the channel).

    Raises:
        DataError: as `read_header`; or the file is truncated or damaged, or has no such channel.
    """
    array, header = read_stored(path, channel=channel)
    return _as_values(array, header), header


def read_stored(path: Path, *, channel: int | None = None) -> tuple[NDArray[Any], Header]:
    """Return the numbers of a file as they are on disk, not scaled and in its byte order, and the header.

    Otherwise as `read_volume`: for stored numbers that are wanted as such, like the levels of saved probabilities.
    """
    with _reading(path), _open(path) as stream:
        header = _header_of_stream(stream, path)
        shape, skip = _part(header, channel, path)
        array = np.empty(shape, header.dtype)
        _fill(stream, array, header.vox_offset + skip * array.nbytes)
    return array, header


def read_stack(files: Sequence[tuple[Path, int | None]]) -> tuple[NDArray[Any], tuple[Header, ...]]:
    """Return several volumes of one grid as one array (volume, K, J, I), and their headers.

    Each voxel is written once: files of one type are inflated straight into the result. Channels of one 4-D file are
    inflated together.

    Args:
        files: (path, channel) of each volume, as `read_volume` takes them.

    Raises:
        DataError: as `read_volume`; or the volumes differ in shape or affine.
    """
    if len(files) > 1 and len({path for path, _ in files}) == 1:
        return _read_channels(files[0][0], [channel for _, channel in files])
    headers = tuple(read_header(path) for path, _ in files)
    for (path, _), header in zip(files, headers, strict=True):
        if (difference := same_geometry(headers[0], header)) is not None:
            raise DataError(
                f"{path}: {difference}, against {files[0][0].name}; the volumes of a case share one grid: register "
                "them and resample all to the first one's"
            )
    values = [np.dtype(np.float32) if _is_scaled(h) else h.dtype.newbyteorder("=") for h in headers]
    stack = np.empty((len(files), *headers[0].grid), np.result_type(*values))
    for target, (path, channel), header in zip(stack, files, headers, strict=True):
        if channel is None and len(header.shape) == 3 and header.dtype == stack.dtype and not _is_scaled(header):
            with _reading(path), _open(path) as stream:
                _fill(stream, target, header.vox_offset)
        else:
            target[...] = _only_volume(read_volume(path, channel=channel)[0], path)
    return stack, headers


def read_label_map(path: Path) -> tuple[NDArray[np.uint8], Header]:
    """Return a label map as uint8 (K, J, I), whatever type it has on disk, and its header.

    Raises:
        DataError: as `read_volume`; or values that are no whole numbers from 0 to 255.
    """
    values, header = read_volume(path)
    values = _only_volume(values, path)
    if values.dtype == np.uint8:
        return values, header
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # NaN fails this, too
        what = "NaN" if np.isnan(low) else f"values from {low:g} to {high:g}"
        raise DataError(f"{path}: {what}, but a label map has whole numbers from 0 to 255; is this the segmentation?")
    label_map: NDArray[np.uint8] = values.astype(np.uint8)
    if values.dtype.kind == "f" and not np.array_equal(label_map, values):
        found = float(values[label_map != values].flat[0])
        raise DataError(f"{path}: value {found:g}, but a label map has whole numbers; resample it by nearest neighbour")
    return label_map, header


def write_label_map(path: Path, label_map: NDArray[np.uint8], header_bytes: bytes) -> None:
    """Write a label map (K, J, I) as uint8 with the geometry of `header_bytes`, bit for bit.

    qform, sform, their codes, voxel size and units are the given header's; type, scaling, intent and display range are
    a label map's; texts and extensions, which may name users and hosts, are left out. Complete or not at all.

    Raises:
        DataError: the shape is not the header's.
        OutputError: the file cannot be written.
    """
    header = parse_header(header_bytes)
    _set_type(header, np.dtype(np.uint8), 1.0, 0.0)
    header["intent_code"], header["intent_name"] = _LABEL_INTENT, b""
    for field in ("intent_p1", "intent_p2", "intent_p3"):
        header[field] = 0
    _write(path, np.asarray(label_map, np.uint8), header)


def write_volume(
    path: Path, volume: NDArray[Any], header_bytes: bytes, *, slope: float = 1.0, intercept: float = 0.0
) -> None:
    """Write a volume (K, J, I) or (T, K, J, I) in its own type with the geometry of `header_bytes`, bit for bit.

    Readers see stored number * slope + intercept: probabilities are uint8 with slope 1/255. Complete or not at all.

    Raises:
        DataError: the grid is not the header's, or NIfTI has no such type.
        OutputError: the file cannot be written.
    """
    header = parse_header(header_bytes)
    _set_type(header, volume.dtype, slope, intercept)
    header["intent_code"] = 0
    _write(path, volume, header)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever reading a file can raise into a DataError that names the file."""
    try:
        yield
    except EOFError as error:
        message = f"{path}: truncated: the file ends before its voxels do; download or unpack it again"
        raise DataError(message) from error
    except _DAMAGED as error:
        raise DataError(f"{path}: damaged: it cannot be decompressed ({error}); download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its first two bytes say so."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    stream: IO[bytes] = _fast_gzip.open(path, "rb") if is_compressed else path.open("rb")
    return stream


def _header_of_stream(stream: IO[bytes], path: Path) -> Header:
    raw = stream.read(HEADER_BYTES)
    _refuse_other_formats(raw, path)
    if len(raw) < HEADER_BYTES:
        raise EOFError
    header = header_from_bytes(raw, str(path))
    _refuse_impossible_size(header, path)
    return header


def _refuse_other_formats(raw: bytes, path: Path) -> None:
    """Say what a file that is no single-file NIfTI-1 seems to be."""
    if raw[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c") and raw[344:347] in (b"n+1", b""):
        return
    if not raw:
        raise DataError(f"{path}: empty (0 bytes); download or unpack it again")
    if raw[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):
        raise DataError(f"{path}: NIfTI-2, expected NIfTI-1; convert it (nibabel: Nifti1Image.from_image)")
    if raw[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"):
        raise DataError(f"{path}: a header without voxels (Analyze, or one of a pair), expected a .nii or .nii.gz file")
    text = raw[:40].decode("ascii", "replace").strip().split("\n")[0]
    page = "; a web page was saved under this name: download it again" if b"<" in raw[:40] else ""
    raise DataError(f"{path}: not a NIfTI file: it begins with {text!r}, expected a NIfTI-1 header{page}")


def _refuse_impossible_size(header: Header, path: Path) -> None:
    """Compare what the header claims with what the file can hold, before anything is allocated."""
    claimed = header.vox_offset + int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    size = path.stat().st_size
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    bound = min(_LARGEST_VOLUME_BYTES, size * _LARGEST_DEFLATE_RATIO if is_compressed else size)
    if claimed > bound:
        raise DataError(
            f"{path}: header claims {sizes_in_words(header.shape)} voxels ({claimed:,} bytes), but its {size:,} bytes"
            f" can hold at most {bound:,}: header damaged or file truncated; download it again"
        )


def _part(header: Header, channel: int | None, path: Path) -> tuple[tuple[int, ...], int]:
    """Return the shape to read, and how many volumes of that shape lie before it."""
    if channel is None:
        return header.shape, 0
    num = header.shape[0] if len(header.shape) == 4 else 1
    if not 0 <= channel < num:
        raise DataError(f"{path}: no channel {channel}: it has {num} (counted from 0)")
    return header.grid, channel


def _fill(stream: IO[bytes], array: NDArray[Any], offset: int) -> None:
    """Read the bytes of `array` from `offset` on, then the rest of the stream, which checks gzip's sum of it all."""
    stream.seek(offset)
    view = array.reshape(-1).view(np.uint8).data
    while len(view):
        num = stream.readinto(view)  # type: ignore[attr-defined]
        if not num:
            raise EOFError
        view = view[num:]
    while stream.read(1 << 20):
        pass


def _is_scaled(header: Header) -> bool:
    return (header.slope, header.intercept) != (1.0, 0.0)


def _as_values(array: NDArray[Any], header: Header) -> NDArray[Any]:
    if _is_scaled(header):
        values: NDArray[Any] = (array.astype(np.float64) * header.slope + header.intercept).astype(np.float32)
        return values
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _only_volume(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if values.ndim != 3:
        raise DataError(f"{path}: {len(values)} volumes in one file, expected one")
    return values


def _read_channels(path: Path, channels: list[int | None]) -> tuple[NDArray[Any], tuple[Header, ...]]:
    values, header = read_volume(path)
    volumes = values if values.ndim == 4 else values[None]
    for channel in channels:
        _part(header, channel, path)
    order = [channel or 0 for channel in channels]
    stack = volumes if order == list(range(len(volumes))) else volumes[order]
    return stack, (header,) * len(channels)


def _set_type(header: Any, dtype: np.dtype[Any], slope: float, intercept: float) -> None:
    """Make the header one of a new file of that type; the geometry stays untouched."""
    code = next((code for code, name in NIFTI_TYPES.items() if np.dtype(name) == dtype.newbyteorder("=")), None)
    if code is None:
        raise DataError(f"voxels of type {dtype}: NIfTI has no such type; convert them first")
    header["datatype"], header["bitpix"] = code, dtype.itemsize * 8
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, intercept, FIRST_VOXEL
    header["magic"] = b"n+1"
    for field in ("cal_min", "cal_max", "glmin", "glmax"):
        header[field] = 0
    for field in ("descrip", "aux_file", "db_name", "data_type"):
        header[field] = b""


def _write(path: Path, volume: NDArray[Any], header: Any) -> None:
    grid = tuple(int(n) for n in header["dim"][1:4])[::-1]
    if volume.ndim not in (3, 4) or volume.shape[-3:] != grid:
        found, expected = sizes_in_words(volume.shape), sizes_in_words(grid)
        raise DataError(f"{path.name}: array of shape {found}, but the header's grid is {expected} (K, J, I)")
    header["dim"] = [volume.ndim, *volume.shape[::-1], *[1] * (7 - volume.ndim)]
    voxels = np.ascontiguousarray(volume, volume.dtype.newbyteorder(header.endianness))
    content = b"".join((header.binaryblock, bytes(4), voxels.data.cast("B") if voxels.size else b""))
    if path.name.endswith(".gz"):
        content = _fast_gzip.compress(content, compresslevel=1, mtime=0)  # no clock time: equal maps, equal bytes
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
