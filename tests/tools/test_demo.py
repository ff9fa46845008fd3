"""The demo, whole, on a small tree; and that it notices when a volume does not give back what it was given."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "demo.py"


def load():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load()


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    shutil.copytree(ROOT / "docs", top / "docs")
    shutil.copytree(ROOT / "vexfs" / "cli", top / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    (top / "link").symlink_to("docs/index.md")
    (top / "empty").mkdir()
    (top / "script").write_bytes(b"\0\xff" * 70_000)
    (top / "script").chmod(0o4755)
    os.utime(top / "script", ns=(1, 1_234_567_890_123_456_789))
    return top


@pytest.mark.parametrize("mounts", [True, False])
def test_the_whole_demo(tree, tmp_path, mounts):
    if mounts and demo.why_no_mount():
        pytest.skip(demo.why_no_mount())
    kept = tmp_path / "kept"
    result = subprocess.run(
        [sys.executable, SCRIPT, "--tree", tree, "--keep", kept, *([] if mounts else ["--no-mount"])],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "All of it worked" in result.stdout
    assert ("== Mount it, and work" in result.stdout) is mounts
    assert result.stdout.count("checksums are those of the original") == (3 if mounts else 1)
    assert not os.path.ismount(kept / "mnt")
    assert demo.fingerprint(kept / "exported") == demo.fingerprint(tree)


@pytest.mark.parametrize("change", ["content", "time", "mode", "link", "gone", "more"])
def test_a_difference_is_noticed(tree, tmp_path, change, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    wanted = demo.fingerprint(tree)
    demo.compare(demo.Tour(tmp_path), wanted, copy)
    script, link = copy / "script", copy / "link"
    status = script.stat()
    if change == "content":
        script.write_bytes(script.read_bytes()[:-1] + b"\0")
        os.utime(script, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(script, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "mode":
        script.chmod(0o755)
    elif change == "link":
        link.unlink()
        link.symlink_to("elsewhere")
    elif change == "gone":
        (copy / "empty").rmdir()
    else:
        (copy / "empty" / "new").touch()
    with pytest.raises(demo.Failed, match="files differ"):
        demo.compare(demo.Tour(tmp_path), wanted, copy)


def test_a_failing_step_fails_the_demo(tmp_path, capsys):
    with pytest.raises(demo.Failed, match="exit status 3: no such thing"):
        demo.Tour(tmp_path).run("sh", "-c", "echo no such thing >&2; exit 3")
