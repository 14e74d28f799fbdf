"""The checked-in protobuf code is what protoc makes of the .proto beside it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[4] / "src" / "venues" / "futu"
GENERATED = ("futu_pb2.py", "futu_pb2.pyi")


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None,
    reason="grpcio-tools is not installed: uv run --group codegen pytest runs this",
)
def test_generating_anew_changes_nothing(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", str(FOLDER / "futu.proto")], check=True, timeout=100)
    for name in GENERATED:
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text(), f"{name} is out of date; see futu.proto"


def test_every_message_of_the_proto_is_in_the_generated_code():
    from src.venues.futu import futu_pb2

    declared = set(re.findall(r"^message (\w+)", (FOLDER / "futu.proto").read_text(), flags=re.MULTILINE))
    assert set(futu_pb2.DESCRIPTOR.message_types_by_name) == declared


def test_the_runtime_is_not_older_than_the_generated_code():
    import google.protobuf

    made_with = re.search(r"Protobuf Python Version: ([\d.]+)", (FOLDER / "futu_pb2.py").read_text())[1]
    assert [int(n) for n in google.protobuf.__version__.split(".")] >= [int(n) for n in made_with.split(".")]
