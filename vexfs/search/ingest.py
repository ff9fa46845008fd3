"""Ingest: text that lands below an index with an embedder is read, cut, embedded and put into the index.

One thread follows the changes of content and names, one a model embeds, both of the lowest priority and in idle time
(while others are busy only notes are taken), unless somebody waits.  What is indexed is told by the rows (each knows
the generation of the content that it was made from): nothing is done twice or lost by a crash, and a file that changes
while it is worked on is simply met again.  Opening a volume looks at what changed behind a mark.

What fails is told apart: a model that cannot be reached, and a full disk, make files wait, ever longer; a file from
which no text can be had, or on which the model fails again and again, is set aside with the reason.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from vexfs._core.origin import met
from vexfs._core.watch import Watch
from vexfs.errors import IndexClosed, NoSpace, Unreachable
from vexfs.search.apart import Stopped
from vexfs.search.aside import told
from vexfs.search.backlog import Backlog
from vexfs.search.chunk import Chunker
from vexfs.search.embedding import Batch, Model, model_of
from vexfs.search.extract import Limits, Skipped
from vexfs.search.marks import Marks
from vexfs.search.pace import Pace
from vexfs.search.passages import Changed, Passages, is_file, no_room, passages, path_of_text, wanted
from vexfs.search.relay import Relay
from vexfs.search.turns import Turns
from vexfs.search.underway import UnderWay

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

log = logging.getLogger("vexfs.search")

_POLL_S = 0.1
_FILES, _NAMES, _ENTRIES = 256, 500, 1000
_LOOK_EVERY_S = 5.0
#: Files that changed since the last time, looked at before the volume is open.
_CHECKED = 10_000
_TRIES, _CLOSE_MOST_S, _WAIT_MOST_S, _FULL_WAIT_MOST_S = 3, 15.0, 300.0, 20.0


class Ingest:
    """Keeps the indexes with an embedder of one catalog up to date, from :meth:`start` to :meth:`close`.

    Parameters
    ----------
    catalog : Catalog
    limits : Limits, optional
        What a file may cost.
    chunker : Chunker, optional
    """

    def __init__(self, catalog: "Catalog", *, limits: Limits | None = None, chunker: Chunker | None = None) -> None:
        self.catalog = catalog
        self.filesystem = catalog.filesystem
        self._chunker = chunker or Chunker()
        self._backlog = Backlog()
        self._holds: dict[Model, tuple[float, float, str]] = {}
        self._tries: dict[int, int] = {}
        self._lock = threading.Condition()
        self._asked = self._answered = 0
        self._pace = Pace()
        self.files = self.passages = self.failures = 0
        self._state = "idle"
        self._stop, self._wake = threading.Event(), threading.Event()
        self._limits = attrs.evolve(limits or Limits(), stop=self._stop)
        self._watch: Watch | None = None
        self._looked = time.monotonic()
        self._relay = Relay("vexfs-ingest", self._run, self._is_waited_for)
        self._marks = Marks(catalog)
        self._turns = Turns(self.filesystem, catalog.bridge, self._stop)
        self._under_way = UnderWay(self._stop, self._breathe, self._is_waited_for)

    # -- life

    def start(self) -> None:
        """Begin, with what changed since it last ran; harmless when it has begun."""
        with self._lock:
            if self._relay.begun or self._stop.is_set():
                return
            try:
                self._watch = Watch(self.filesystem)
            except OSError as error:
                log.warning("%s: files are compared with their rows every %g s instead", error, _LOOK_EVERY_S)
            self._catch_up()
            self._relay.start()

    def _catch_up(self) -> None:
        """What changed since ingest last ran: told by the log of changes, or else by a look at every file."""
        marks = {index: self._marks.of(index) for index in self.catalog.known() if index.embedder is not None}
        known = [mark for mark in marks.values() if mark is not None]
        newer = self._marks.newer(min(known)) if known else None
        if newer is not None:
            files, names = newer
            if len(files) + len(names) <= _CHECKED:  # what is up to date is not said to wait
                files |= {ino for parent, name in names if (ino := self._file_at(parent, name)) is not None}
                files, names = set(filter(self._has_news, files)), set()
            self._backlog.add_all(files)
            self._backlog.name(names)
        for index, mark in marks.items():
            if mark is None or newer is None:
                self.look_through(index)

    def _has_news(self, ino: int) -> bool:
        """Whether a file is to be indexed."""
        generation = is_file(self.filesystem, ino)
        if generation is None or path_of_text(self.filesystem, ino) is None:  # looks for a name where one went
            return False
        index = self.catalog.covering(ino)
        return index is not None and index.embedder is not None and self._is_wanted(index, ino, generation)

    def close(self) -> None:
        """End after the passages in hand; what is left is found again when the volume is next opened."""
        first = not self._stop.is_set()
        self._stop.set()
        self._wake.set()
        with self._lock:
            self._lock.notify_all()
        if first:  # a model or an extractor that hangs is not waited for, nor twice: what it answers is thrown away
            self._relay.join(_CLOSE_MOST_S)
        self._turns.close()
        self._under_way.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._keep(now=True)

    def _keep(self, now: bool) -> None:
        """Write down, now or once in a while, which files are set aside and how far the changes were followed."""
        due = self._marks.due(now)
        with contextlib.suppress(OSError):  # without room for it, it is found again when the volume is next opened
            for index in self.catalog.known():
                index.aside.save(now or due)
            if due:
                self._marks.save()

    # -- what people ask

    def look_through(self, index: "Index") -> None:
        """Compare every file below an index with its rows."""
        if index.embedder is not None:
            self._holds.pop(model_of(index), None)
            self.look_below(index.description.directory)

    def look_below(self, directory: int) -> None:
        """Compare every file below a directory with the rows of the index that covers it."""
        self._backlog.tree(directory)
        self._marks.forget()
        self._wake.set()

    def look_at(self, ino: int) -> None:
        """Compare one file with its rows."""
        self._backlog.add(ino)
        self._wake.set()

    def retry(self, index: "Index | str | os.PathLike[str]") -> int:
        """Try the files of an index, or of the one at a path, again that were set aside; how many."""
        index = self.catalog.at(index) if isinstance(index, str | os.PathLike) else index
        for ino in (inos := index.aside.clear()):
            self._tries.pop(ino, None)
            self._backlog.add(ino)
        self._marks.forget()
        self.catalog.settling.tree(index.description.directory)
        self._wake.set()
        return len(inos)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything that has changed so far is indexed or set aside, without sparing others: the work
        has the priority of the calling thread until then.

        Returns
        -------
        bool
            False: `timeout` seconds were not enough.
        """
        if not self._relay.begun:
            return True
        with self._lock:
            self._asked += 1
            ticket = self._asked
            self._wake.set()
            for part in (_POLL_S, None) if timeout is None else (min(_POLL_S, timeout), timeout - _POLL_S):
                if not self._lock.wait_for(lambda: self._answered >= ticket or self._stop.is_set(), part):
                    self._relay.urge()
                    self._under_way.urge()
            return self._answered >= ticket

    def _is_waited_for(self) -> bool:
        return self._asked > self._answered

    def status(self) -> dict[str, Any]:
        """How it stands: ``state`` ("idle", "working", "waiting for others", "waiting for a model"), ``backlog`` files
        not indexed yet, ``settled`` (nothing is left, also to look through), ``files`` and ``passages`` indexed since
        it began, their rates a second, ``eta_s``, files ``without_text`` and ``failed`` that were set aside, ``held``:
        models that failed and are asked again later, with the reason, and ``awaited``: models that have been asked for
        long, with the seconds.
        """
        late = self._under_way.late()
        files, cut = self._pace.rates()
        backlog = self._backlog.with_those(set(self._under_way.in_hand))
        asides = [index.aside.counts() for index in self.catalog.known() if index.embedder is not None]
        return {
            "state": self._state, "backlog": backlog, "files": self.files, "passages": self.passages,
            "settled": self._state == "idle" and self._backlog.empty and not backlog,
            "files_per_s": round(files, 2), "passages_per_s": round(cut, 2),
            "eta_s": 0.0 if not backlog else None if self._holds or late or not files else round(backlog / files, 1),
            "without_text": sum(a for a, _ in asides), "failed": sum(b for _, b in asides), "failures": self.failures,
            "held": {model[0]: why for model, (_, _, why) in list(self._holds.items())},
            "awaited": late,
        }  # fmt: skip

    def status_of(self, index: "Index") -> dict[str, Any]:
        """As `status`, of all indexes, but what was set aside is that of one: ``aside`` is path and reason of each."""
        aside = index.aside.listed(100)
        without, failed = index.aside.counts()
        return {**self.status(), "without_text": without, "failed": failed, "aside": aside}

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set() and self._relay.goes_on():
            try:
                rested = self._step()
            except Exception:  # a fault must not end ingest; what was in hand is met again by the next look
                if self._stop.is_set():
                    return
                self.failures += 1
                self._marks.faulted = True
                log.exception("ingest failed on something; going on")
                rested = 1.0
            if rested:
                self._wake.wait(rested)
                self._wake.clear()

    def _step(self) -> float:
        """One round; how long to rest after it."""
        asked, looks, epoch = self._asked, self._marks.looks, self._marks.epoch()
        self._gather()
        for model in self._backlog.parked:
            if not self._under_way.full(model):
                self._backlog.unpark(model, _FILES)
        if self._backlog.empty and not self._under_way:
            self._settled(asked, looks, epoch)
            return _POLL_S
        hurry = self._is_waited_for()
        if not hurry and self._turns.others_are_busy():
            self._state = "waiting for others"
            return _POLL_S
        self._turns.worked = time.monotonic()
        for parent, name in self._backlog.take_names(_NAMES):
            if (ino := self._file_at(parent, name)) is not None:
                self._backlog.add(ino)
        while (top := self._backlog.take_tree()) is not None:
            self._state = "working"
            self._walk(top)
        inos = self._backlog.take(_FILES, hurry)
        if not inos:
            if self._backlog.unresolved:
                return 0.0
            self._under_way.begin()
            if self._under_way:
                self._state = "waiting for a model" if self._under_way.stuck(self._holds) else "working"
                self._backlog.add_all(self._under_way.drop({each.description.number for each in self.catalog.known()}))
                self._take_in(_POLL_S)
                return 0.0
            if self._backlog.empty:
                self._settled(asked, looks, epoch)
            else:
                self._state = "waiting for a model" if self._holds else "idle"
            return min(_POLL_S, max(0.005, self._backlog.soonest))
        self._state, self._marks.worked = "working", True
        through, left = self._turns.passed(inos)
        self._backlog.add_all(left, _POLL_S)
        self._work_off(through)
        return 0.0

    def _settled(self, asked: int, looks: int, epoch: int) -> None:
        if self._stop.is_set():
            return
        self._state = "idle"
        self._marks.settled(epoch, looks)
        self._keep(now=False)
        if asked > self._answered:
            with self._lock:
                self._answered = asked
                self._lock.notify_all()

    def _gather(self, amid: bool = False) -> None:
        if self._watch is None and (amid or time.monotonic() - self._looked < _LOOK_EVERY_S):
            return
        found = None if self._watch is None else self._watch.take()
        if found is None:
            self._looked = time.monotonic()
            for index in self.catalog.known():
                self.look_through(index)
            return
        self._backlog.changed({ino for ino in found[0] if path_of_text(self.filesystem, ino) is not None})
        self._backlog.name(found[1])

    # -- from names and trees to files

    def _file_at(self, parent: int, name: bytes) -> int | None:
        """The file of that name; a directory is noted to be walked."""
        with contextlib.suppress(OSError):
            found = self.filesystem.lookup(parent, name)
            if stat.S_ISDIR(found.st_mode):
                self._backlog.tree(found.st_ino)
            elif stat.S_ISREG(found.st_mode):
                return found.st_ino
        return None

    def _walk(self, top: int) -> None:
        """Files below a directory whose rows are not those of their content."""
        directories, walked = [top], 0
        while directories and not self._stop.is_set():
            directory = directories.pop()
            with contextlib.suppress(OSError):
                index = self.catalog.covering(directory)
                for name, ino, kind in self.filesystem.scandir(directory):
                    walked += 1
                    if not walked % _ENTRIES:
                        self._breathe()
                    if kind & 0o170000 == 0o040000:
                        directories.append(ino)
                    elif index is not None and index.embedder and kind & 0o170000 == 0o100000:
                        met(self.filesystem, directory, name)
                        generation = is_file(self.filesystem, ino)
                        if generation is not None and self._is_wanted(index, ino, generation):
                            self._backlog.later(ino, 0.0)

    def _is_wanted(self, index: "Index", ino: int, generation: int) -> bool:
        try:
            return wanted(index, ino, generation) and not index.aside.has(ino, generation)
        except IndexClosed:  # it was dropped meanwhile
            return False

    # -- files

    def _work_off(self, inos: list[int]) -> None:
        answers = self._under_way.answers
        for at, ino in enumerate(inos):
            if self._stop.is_set() or not self._relay.goes_on():
                self._backlog.add_all(inos[at:])
                return
            if not answers.empty():
                self._take_in()
            if (found := self._prepared(ino)) is not None:
                self._under_way.add(found)
            self._backlog.looked(ino)

    def _prepared(self, ino: int) -> Passages | None:
        """A file's passages, None when there is nothing to do; one that cannot be read is set aside."""
        generation = is_file(self.filesystem, ino)
        if generation is None or self._under_way.in_hand.get(ino) == generation:
            return None
        if (path := path_of_text(self.filesystem, ino)) is None:
            return None
        index = self.catalog.covering(ino)
        if index is None or index.embedder is None or not self._is_wanted(index, ino, generation):
            return None
        model = model_of(index)
        if (held := self._holds.get(model, (0.0, 0.0, ""))[0] - time.monotonic()) > 0:
            self._backlog.later(ino, held + 0.01)
            return None
        if self._under_way.full(model) and not self._gets_room(model):
            self._backlog.park(ino, model)
            return None
        try:
            if not (made := passages(index, ino, self._chunker, self._limits)).put_under_new_name():
                return made
            self._indexed(made)
        except Skipped as why:
            index.aside.put(ino, generation, str(why), fault=False, path=path)
        except Changed:
            self._backlog.changed({ino})
        except Stopped:
            return None
        except OSError as error:
            if is_file(self.filesystem, ino) is not None:
                self._failed(index, ino, generation, error)
        except Exception as error:  # an extractor may be anybody's code
            self.failures += 1
            index.aside.put(ino, generation, f"cannot be read: {told(error)}", fault=True, path=path)
        return None

    def _failed(self, index: "Index", ino: int, generation: int, error: BaseException) -> None:
        """A file on which something failed: again later, and not for ever."""
        self.failures += 1
        tries = self._tries[ino] = self._tries.get(ino, 0) + 1
        if tries < _TRIES:
            self._backlog.later(ino, 0.5 * 2**tries)
        else:
            self._tries.pop(ino)
            index.aside.put(ino, generation, told(error), fault=True)

    def _gets_room(self, model: Model) -> bool:
        """Whether a full model, which is waited for a little, may be read for again."""
        self._take_in(self._under_way.patience(model))
        return not self._under_way.full(model)

    def _take_in(self, timeout_s: float = 0.0) -> None:
        """What models have answered: into the indexes; waited for so long when there is nothing."""
        while not self._stop.is_set() and (batch := self._under_way.answered(timeout_s)) is not None:
            timeout_s = 0.0
            self._turns.worked = time.monotonic()
            try:
                if batch.error is None and batch.rows is not None:
                    self._store(batch)
            finally:
                self._under_way.done(batch)
            self._gather(amid=True)
            if batch.error is not None:
                self._refused(batch, batch.error)

    def _refused(self, batch: Batch, error: Exception) -> None:
        """A model has failed on a batch."""
        if batch.without_model or isinstance(error, Unreachable):
            self._hold(batch.model, batch.files, error)
        elif len(batch.files) > 1:  # a model may be anybody's code: at which of them does it fail?
            self._under_way.one_by_one(batch)
        else:
            self._failed(batch.files[0].index, batch.files[0].ino, batch.files[0].generation, error)

    def _store(self, batch: Batch) -> None:
        """Put the files of a batch into their indexes, those of an index as one change."""
        assert batch.rows is not None
        at, by_index = 0, dict[int, list[tuple[Passages, slice]]]()
        for each in batch.files:
            part = slice(at, at + len(each.chunks))
            by_index.setdefault(each.index.description.number, []).append((each, part))
            at = part.stop
        for found in by_index.values():
            self._put(found, batch)

    def _breathe(self) -> None:
        """In long work: see what changes meanwhile, and let others go first, unless somebody waits for us."""
        self._gather(amid=True)
        while not self._is_waited_for() and not self._stop.is_set() and self._turns.others_are_busy():
            self._stop.wait(_POLL_S)

    def _hold(self, model: Model, batch: list[Passages], error: Exception, most_s: float = _WAIT_MOST_S) -> None:
        """A model does not answer, or cannot be had, or what it answers has no room: its files wait, ever longer."""
        self.failures += 1
        until, pause, _ = self._holds.get(model, (0.0, 0.5, ""))
        if until < time.monotonic():
            pause = min(most_s, 2 * pause)
            wait_s = max(pause, error.again_s if isinstance(error, Unreachable) else 0.0)
            self._holds[model] = (time.monotonic() + wait_s, pause, str(error))
            log.warning("%s; again in %.3g s", error, wait_s)
        self._backlog.add_all((each.ino for each in batch), pause)

    def _put(self, found: list[tuple[Passages, slice]], batch: Batch) -> None:
        """Put files into their index, as one change."""
        assert batch.rows is not None
        index = found[0][0].index
        whole = len(found) == len(batch.files)
        try:
            done = index.writer.put_files(
                [(each.ino, each.generation, len(each.chunks)) for each, _ in found],
                [span for each, _ in found for span in each.spans()],
                batch.records if whole else [record for _, part in found for record in batch.records[part]],
                batch.rows if whole else np.concatenate([batch.rows[part] for _, part in found]),
                called=[os.fsencode(each.name) for each, _ in found],
            )
        except IndexClosed:  # it was dropped meanwhile; another one may cover them
            done = [False] * len(found)
        except (OSError, ValueError) as error:
            if len(found) > 1:  # which of them is it?
                for one in found:
                    self._put([one], batch)
            elif why := no_room(self.filesystem, error):
                self._hold(batch.model, [found[0][0]], NoSpace(why), _FULL_WAIT_MOST_S)
            else:
                self._failed(index, found[0][0].ino, found[0][0].generation, error)
            return
        self._holds.pop(batch.model, None)
        for (each, _), put in zip(found, done, strict=True):
            if put:
                self._indexed(each)
            else:
                self._backlog.add(each.ino, 0.05)  # it has changed, or is gone

    def _indexed(self, each: Passages) -> None:
        self._tries.pop(each.ino, None)
        each.index.aside.drop(each.ino)
        self._backlog.done(each.ino)
        self.files += 1
        self.passages += len(each.chunks)
        self._pace.note(len(each.chunks))
