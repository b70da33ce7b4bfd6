"""What the command line of `predict` asks for: words and file options become cases, output folder and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_seg.commands.options import select_cases
from brats_seg.data.cases import Case, case_from_files, find_cases
from brats_seg.data.numbered import parse_modalities
from brats_seg.errors import DataError, OutputError, UsageError
from brats_seg.files import require_outside

__all__ = ["Request", "read_request"]


@dataclass(frozen=True)
class Request:
    """Cases of a folder or of explicit files, and where their label maps go."""

    data: Path | None
    """The folder; None where files are given."""
    files: Mapping[str, Path]
    """Modality -> explicit file."""
    output: Path
    overrides: list[str]
    """`key=value` settings."""
    name: str | None
    edition: str | None
    cases: str | None
    shard: tuple[int, int] | None = None
    """(number from 1, of how many): which part of the cases."""
    channels: tuple[str, ...] | None = None
    """Modalities of nnU-Net's numbered channels, in order."""

    def find(self, own_edition: str, *, allow_missing: bool, could_miss: bool) -> list[Case]:
        """Return the cases asked for.

        Args:
            own_edition: the model's, for cases whose names tell none.
            allow_missing: cases may lack modalities, but not all.
            could_miss: the model could do without; an error about a missing modality then names the option.

        Raises:
            DataError: files are missing or ambiguous, or there are no cases.
            OutputError: the output lies in the input, or would replace an image.
            UsageError: unknown names.
        """
        try:
            return self._found(own_edition, allow_missing)
        except DataError as error:
            if not could_miss or allow_missing or not self._is_found_with_less(own_edition):
                raise
            raise DataError(f"{error}; this model can do with fewer modalities: add --allow-missing") from error

    def _is_found_with_less(self, own_edition: str) -> bool:
        try:
            return bool(self._found(own_edition, allow_missing=True))
        except DataError:
            return False

    def _found(self, own_edition: str, allow_missing: bool) -> list[Case]:
        if self.data is not None:
            require_outside(self.output, self.data)
            found = self._in_folder(self.data, own_edition, allow_missing)
            return found if self.shard is None else found[self.shard[0] - 1 :: self.shard[1]]
        edition = self.edition or own_edition
        case = case_from_files(self.files, name=self.name, edition=edition, allow_missing=allow_missing)
        target = self.output / f"{case.name}.nii.gz"
        if target.resolve() in {path.resolve() for path in self.files.values()}:
            raise OutputError(f"{target}: is an input image, which is never written to; choose another OUT or --name")
        return [case]

    def _in_folder(self, data: Path, own_edition: str, allow_missing: bool) -> list[Case]:
        otherwise = self.edition or own_edition  # where names tell nothing, the labels asked for are the input's
        try:
            download = find_cases(
                data, otherwise=otherwise, channels=self.channels, allow_missing=allow_missing, needs_masks=False
            )
        except DataError:
            if self.edition is None:
                raise
            download = find_cases(
                data, edition=self.edition, channels=self.channels, allow_missing=allow_missing, needs_masks=False
            )
        names = set(select_cases([case.name for case in download.cases], self.cases))
        return [case for case in download.cases if case.name in names]


def read_request(
    words: Sequence[str],
    files: Mapping[str, Path | None],
    *,
    name: str | None = None,
    edition: str | None = None,
    cases: str | None = None,
    shard: str | None = None,
    modalities: str | None = None,
) -> Request:
    """Return what words such as DATA OUT KEY=VALUE and the options of explicit files ask for.

    Raises:
        UsageError: there are too few or too many folders, a run in place of data, a shard that is none, or unknown
            modalities.
    """
    given = {modality: path for modality, path in files.items() if path is not None}
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    places = [word for word in words if word not in overrides]
    if len(places) != (1 if given else 2):
        what = "OUT alone beside --t1, --t1c, --t2, --flair" if given else "DATA and OUT"
        raise UsageError(f"predict: found {places}, expected {what}; such as: brats-seg predict RUN DATA OUT")
    if given and shard is not None:
        raise UsageError(f"--shard {shard}: is for a folder of cases, and explicit files are one case; leave it out")
    if given and modalities is not None:
        raise UsageError(f"--modalities {modalities}: is for a folder of nnU-Net's; --t1 and so on name theirs already")
    data = None if given else Path(places[0])
    if data is not None and (data / "config.yaml").is_file() and (data / "model.safetensors").is_file():
        raise UsageError(f"predict: DATA is a trained run: {data}; models come first: brats-seg predict RUN DATA OUT")
    part = None if shard is None else _part_of(shard)
    channels = None if modalities is None else parse_modalities(modalities)
    return Request(data, given, Path(places[-1]), overrides, name, edition, cases, part, channels)


def _part_of(shard: str) -> tuple[int, int]:
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {shard!r}: expected I/N with I from 1 to N, such as 1/4")
    return int(number), int(count)
