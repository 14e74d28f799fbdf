"""The generated files in the repository are those of the schema next to them."""

import subprocess
import sys
from pathlib import Path

import pytest

import src.venues.stockbit as folder

HERE = Path(folder.__file__).parent


def run_protoc(target):
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}"]
    outputs = [f"--python_out={target}", f"--pyi_out={target}", str(HERE / "stockbit.proto")]
    return subprocess.run([*command, *outputs], capture_output=True, text=True, check=False)


def test_generating_again_changes_nothing(tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; uv run --group codegen pytest …")
    done = run_protoc(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("stockbit_pb2.py", "stockbit_pb2.pyi"):
        assert (tmp_path / name).read_text() == (HERE / name).read_text(), name


def test_the_generated_descriptor_has_the_fields_of_the_schema():
    """Needs no compiler: every ``name = number;`` line of the schema is in the descriptor, and nothing else is."""
    import re

    from src.venues.stockbit import stockbit_pb2

    text = (HERE / "stockbit.proto").read_text()
    written = set(re.findall(r"^\s+(?:repeated )?\w+ (\w+) = (\d+);", text, flags=re.MULTILINE))
    generated = {
        (field.name, str(field.number))
        for message in stockbit_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert generated == written
