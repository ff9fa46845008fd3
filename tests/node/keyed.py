"""What every key's test needs: a case says how a key's effect is seen, from outside, under two of its values."""

import contextlib
import tomllib

import attrs

from tests.node.conftest import Running
from vexfs.config import load
from vexfs.config.model import KEYS
from vexfs.node import Node


@attrs.frozen
class Case:
    """One key: two values as the file would have them, and what `look` sees under each.

    What is seen is compared, or asked when it is callable.  `given` are further settings, as ``--set`` takes them; a
    value may be followed by more of them behind semicolons.
    `{here}` in values and settings is the node's own directory.
    """

    key: str
    values: tuple
    look: object
    seen: tuple
    given: tuple = ()

    def settings(self, which, here):
        words = [*self.given, *f"{self.key}={self.values[which]}".split(";")]
        return [each.replace("{here}", str(here)) for each in words]

    def check(self, which, saw):
        wanted = self.seen[which]
        right = wanted(saw) if callable(wanted) else saw == wanted
        assert right, f"{self.key} = {self.values[which]}: saw {saw!r}"

    def change(self, node, which, here):
        text = self.values[which].replace("{here}", str(here))
        node.change({self.key: tomllib.loads(f"x = {text}")["x"]})

    def run(self, here, opened):
        """Under either value from the start; a live key also by a change while the node runs, and back."""
        for which in (0, 1):
            place = here / f"of{which}"
            with opened(place, *self.settings(which, place)) as at:
                self.check(which, self.look(at))
        if KEYS[self.key].live:
            place = here / "live"
            with opened(place, *self.settings(0, place)) as at:
                for which in (0, 1, 0):
                    self.change(getattr(at, "node", at), which, place)
                    self.check(which, self.look(at))


def named(cases):
    """Cases as pytest's parameters, by their keys."""
    return {"argvalues": cases, "ids": [case.key for case in cases], "argnames": "case"}


@contextlib.contextmanager
def opened(here, *overrides):
    """An open node in this process."""
    here.mkdir(exist_ok=True)
    settings = load(environment={}, overrides=[f"general.data_dir={here}/data", *overrides])
    with Node(settings).open() as node:
        yield node


@contextlib.contextmanager
def running(here, *overrides):
    """A running node, with its services, in threads of this process."""
    here.mkdir(exist_ok=True)
    run = Running(here, "", overrides)
    try:
        yield run.start()
    finally:
        run.stop()
