"""``PATCH /v1/files``: another name, attributes, mode, time; what is refused changes nothing."""

import contextlib
import errno
import os
from typing import Annotated

import msgspec
from vexfs.frontends.http.api.files import PLACE, hold, info, while_it_is, writable
from vexfs.frontends.http.api.types import FileInfo, Scalar
from vexfs.frontends.http.fence import fence
from vexfs.frontends.http.message import Problem, Reply, Request, normal
from vexfs.frontends.http.route import WRITE, Answer, Route

from vexfs.errors import NoAttribute, NotPermitted, from_errno
from vexfs.node import Node
from vexfs.store.attributes import PREFIX, RESERVED, encode

NOREPLACE = 1
#: Bytes of an attribute's name, with its prefix, and value.
NAME_MOST, VALUE_MOST = 255, 64 << 10


class Patch(msgspec.Struct, forbid_unknown_fields=True):
    """What to change: a null takes an attribute away."""

    rename_to: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    replace: bool = True
    attributes: dict[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], Scalar] | None = None
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] | None = None
    mtime_ns: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] | None = None


def change(request: Request) -> Reply:
    """PATCH: rename, attributes, mode, time."""
    patch = request.decoded(Patch)
    with fence(request, changes=patch.rename_to is not None), while_it_is(request):
        return _changed(request, patch, writable(request, request.path))


def _changed(request: Request, patch: Patch, path: str) -> Reply:
    filesystem = request.node.volume.filesystem
    attributes = [_attribute(path, name, value) for name, value in (patch.attributes or {}).items()]
    hold(request, filesystem.stat(path))
    if patch.rename_to is not None:
        goal = request.allow(normal_target(patch.rename_to), follow=False)
        filesystem.rename(path, goal, 0 if patch.replace else NOREPLACE)
        path = request.allow(goal)  # a link leads elsewhere from another place
    for name, value in attributes:
        if value is not None:
            filesystem.setxattr(path, name, value)
        else:
            with contextlib.suppress(NoAttribute):
                filesystem.removexattr(path, name)
    if patch.mode is not None:
        filesystem.chmod(path, patch.mode)
    if patch.mtime_ns is not None:
        filesystem.utimens(path, None, patch.mtime_ns)
    return request.reply(info(request, path))


def _attribute(path: str, name: str, value: Scalar) -> tuple[bytes, bytes | None]:
    """An attribute as it is kept; what cannot be is refused before anything is changed."""
    raw, kept = PREFIX + os.fsencode(name), None if value is None else encode(value)
    if raw.startswith(RESERVED):
        raise NotPermitted.at("names that begin with 'vexfs.' are VexFS's own", path)
    if "\0" in name or len(raw) > NAME_MOST:
        raise Problem(400, f"an attribute's name has no NUL byte and {NAME_MOST - len(PREFIX)} bytes at most")
    if kept is not None and len(kept) > VALUE_MOST:
        raise from_errno(errno.E2BIG, path)
    return raw, kept


def normal_target(path: str) -> str:
    """The goal of a rename, as an absolute, normal path."""
    goal = normal(path)
    if goal == "/":
        raise Problem(400, "nothing can be renamed to the root")
    return goal


def routes(node: Node) -> list[Route]:
    """Of changes."""
    return [
        Route(method="PATCH", about="Rename, set attributes, mode, time", handle=change, scope=WRITE, body=Patch,
              answers={200: Answer(about="What is there now", kind=FileInfo)}, **PLACE),
    ]  # fmt: skip
