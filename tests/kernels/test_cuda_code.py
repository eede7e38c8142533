"""What nvcc makes of the CUDA kernels: accesses of 16 bytes, and everything in registers.

No GPU is needed. PTX tells the accesses, which the assembler keeps as they are; the assembler tells
registers and what it has put into local memory. Where ``nvdisasm`` is found, the machine code's
accesses are read as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from restyle.kernels.toolchain import ARCHITECTURES, SOURCES

# A kernel whose threads have more of them leaves too few warps for the memory to be busy: 16 of a
# processor's 64 in inference, 12 in training.
MOST_REGISTERS = {"upfirdn": 168}
MOST_ELSEWHERE = 128

# Kernels with 16-byte accesses of T, and how many loads and stores of activations they have at
# least: blur_layer sees five packs for two, to_rgb_layer four for four.
PACKED = {
    "blur_layer": (5, 2),
    "to_rgb_layer": (4, 4),
    "upfirdn_tiles": (12, 8),
    "upfirdn_any": (1, 1),
    "epilogue": (1, 1),
    "epilogue_gradient": (2, 1),
    "activate": (1, 1),
    "squeeze": (1, 0),
    "add_shortcut": (2, 1),
}


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, nvcc: str) -> Path:
    """PTX of all kernels."""
    made = tmp_path_factory.mktemp("ptx")
    oldest = f"-arch=compute_{ARCHITECTURES[0]}"
    for source in SOURCES.glob("*.cu"):
        ptx = made / f"{source.stem}.ptx"
        flags = ("-std=c++17", "-O3", oldest, "-ptx", "-o", str(ptx))
        subprocess.run([nvcc, *flags, str(source)], check=True)
    return made


def kernels(ptx: str) -> dict[str, str]:
    """The text of each kernel by its mangled name."""
    found = re.split(r"\.entry (\w+)\(", ptx)
    return dict(zip(found[1::2], found[2::2], strict=True))


def packed(name: str) -> str | None:
    """Which of :data:`PACKED` this is, with accesses as wide as they can be."""
    found = re.search(rf"\d({'|'.join(PACKED)})I(6__half|NS_4bf16E|f|d)Li(\d+)E", name)
    widths = {"6__half": 8, "NS_4bf16E": 8, "f": 4, "d": 2}
    if found is None or widths[found[2]] != int(found[3]):
        return None
    return found[1]


# Two doubles are 16 bytes as well.
WIDE = r"{}\.global(?:\.nc)?\.v(?:4\.[ubf]32|2\.[ubf]64)"


def test_activations_are_read_and_written_by_16_bytes(folder: Path) -> None:
    seen: set[str] = set()
    for path in folder.glob("*.ptx"):
        for name, text in kernels(path.read_text()).items():
            kind = packed(name)
            if kind is None:
                continue
            loads, stores = PACKED[kind]
            seen.add(kind)
            assert len(re.findall(WIDE.format("ld"), text)) >= loads, name
            assert len(re.findall(WIDE.format("st"), text)) >= stores, name
            # Nothing of two bytes is read or written one by one.
            assert not re.search(r"(ld|st)\.global(\.nc)?\.[ubf]16", text), name
    assert seen == set(PACKED)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_in_local_memory(folder: Path, nvcc: str, architecture: str) -> None:
    listed = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True)
    if f"sm_{architecture}" not in listed.stdout.split():
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    for path in folder.glob("*.ptx"):
        code = folder / f"{path.stem}.{architecture}.cubin"
        flags = (f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v", "-o", str(code))
        made = subprocess.run([nvcc, *flags, str(path)], capture_output=True, text=True, check=True)
        told = made.stdout + made.stderr
        frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", told)
        names = re.findall(r"Compiling entry function '(\w+)'", told)
        assert len(frames) >= len(names) > 0, path.name
        assert set(frames) == {("0", "0")}, path.name
        registers = [int(each) for each in re.findall(r"Used (\d+) registers", told)]
        assert max(registers) <= MOST_REGISTERS.get(path.stem, MOST_ELSEWHERE), path.name
        _check_machine_code(code)


def _check_machine_code(code: Path) -> None:
    disassembler = shutil.which("nvdisasm")
    if disassembler is None:
        return
    text = subprocess.run(
        [disassembler, "-c", str(code)], capture_output=True, text=True, check=True
    ).stdout
    assert not re.search(r"\b(LDL|STL)\b", text), code.name
    for name, body in re.findall(r"\n\.text\.(\w+):\n(.*?)(?=\n\.text\.|\Z)", text, re.DOTALL):
        kind = packed(name)
        if kind is None:
            continue
        assert len(re.findall(r"LDG\.E\S*\.128", body)) >= PACKED[kind][0], name
        assert len(re.findall(r"STG\.E\S*\.128", body)) >= PACKED[kind][1], name
