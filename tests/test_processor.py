"""What the processor is, told from what the system says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg import processor

AMD, INTEL = "AuthenticAMD", "GenuineIntel"


def describe(monkeypatch: pytest.MonkeyPatch, folder: Path, vendor: str, flags: str) -> None:
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Some CPU @ 2:1\nflags\t\t: fpu {flags} rdpid\n"
    text = core + "\n" + core.replace("processor\t: 0", "processor\t: 1")
    (folder / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(processor, "_CPUINFO", folder / "cpuinfo")


@pytest.mark.parametrize(
    ("vendor", "flags", "is_fast"),
    [
        (INTEL, "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        (INTEL, "avx512f avx512_bf16", False),
        (AMD, "avx512f avx512_bf16", True),
        (AMD, "avx2", False),
        (AMD, "avx512f", False),
    ],
)
def test_bf16_is_fast_with_amx_and_on_amd_with_its_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: str, flags: str, is_fast: bool
) -> None:
    describe(monkeypatch, tmp_path, vendor, flags)
    assert processor.computes_bf16_fast() is is_fast


@pytest.mark.parametrize(("flags", "word"), [("amx_bf16", "with"), ("avx512_bf16", "without")])
def test_name_is_the_model_and_whether_amx_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, word: str
) -> None:
    describe(monkeypatch, tmp_path, INTEL, flags)
    assert processor.processor_name() == f"Some CPU @ 2:1, {word} AMX"


def test_system_that_tells_nothing_of_its_processor_has_no_fast_bf16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "absent")
    assert not processor.computes_bf16_fast()
    assert processor.processor_name().endswith(", without AMX")
