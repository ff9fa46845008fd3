import os
import threading
from pathlib import Path

import pytest

from vexfs.errors import ConfigError
from vexfs.node import privileges

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.mark.parametrize(
    ("given", "told"), [("no-such-user", "no user 'no-such-user'"), ("nobody:no-such", "no group 'no-such'")]
)
def test_who_is_not_there(given, told):
    with pytest.raises(ConfigError, match=told):
        privileges.identity(given)


def test_nobody_is_asked_for():
    assert privileges.identity("") is None
    privileges.drop(None)


@root
def test_dropped_in_every_thread_and_for_good(tmp_path):
    who = privileges.identity("nobody")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "mine").write_text("x")
    privileges.own(tmp_path / "mine", who)
    assert (tmp_path / "mine").stat().st_uid == who.uid
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found, go = [], threading.Event()

            def look():
                go.wait()
                found.append(Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text())

            threads = [threading.Thread(target=look) for _ in range(3)]
            for thread in threads:
                thread.start()
            privileges.drop(who)
            go.set()
            for thread in threads:
                thread.join()
            uids = {tuple(line.split()[1:]) for text in found for line in text.splitlines() if line.startswith("Uid:")}
            assert uids == {(str(who.uid),) * 4}
            for again in (lambda: os.setresuid(0, 0, 0), (tmp_path / "secret").read_text):
                try:
                    again()
                except PermissionError:
                    continue
                os._exit(3)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
