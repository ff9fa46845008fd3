"""Build of the compiled core.  Everything that is not compilation stands in ``pyproject.toml``."""

import os
import platform
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CORE = Path("vexfs/_core")
INCLUDE = [str(CORE / "include")]
HEADERS = [str(p) for p in sorted([*CORE.glob("include/vexfs/*.h"), *CORE.glob("src/*.h")])]
SYSTEM = {"sqlite3": "libsqlite3-dev", "liblz4": "liblz4-dev", "libcrypto": "libssl-dev"}
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "freethreading_compatible": False,  # none was run on such an interpreter: docs/memory-and-bridge.md
}


def pkg_config(option: str) -> list[str]:
    """Ask pkg-config about the system libraries; name the Debian package of a missing one."""
    flags: list[str] = []
    for library, package in SYSTEM.items():
        try:
            out = subprocess.run(["pkg-config", option, library], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise SystemExit("vexfs: pkg-config is missing; install it (Debian: apt-get install pkg-config)") from None
        except subprocess.CalledProcessError:
            raise SystemExit(f"vexfs: {library} is missing; install it (Debian: apt-get install {package})") from None
        flags += [flag for flag in shlex.split(out.stdout) if flag not in flags]
    return flags


CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-g1"]
if platform.machine() == "x86_64":
    CFLAGS += ["-mtls-dialect=gnu2"]  # TLS descriptors: local.h says why
CFLAGS += pkg_config("--cflags") + shlex.split(os.environ.get("VEXFS_CFLAGS", ""))
LDFLAGS = shlex.split(os.environ.get("VEXFS_LDFLAGS", ""))
LIBS = pkg_config("--libs") + ["-lpthread", "-lm", *LDFLAGS]
C_ONLY = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion"]


def c_sources() -> list[str]:
    """Every C file of the core; NEON is left out where the machine has none, and the x86 files on ARM."""
    arm = platform.machine() in ("aarch64", "arm64")
    skip = ("avx2", "avx512") if arm else ("neon",)
    return [str(p) for p in sorted((CORE / "src").glob("*.c")) if not any(s in p.stem for s in skip)]


def extension(path: Path, package: str) -> Extension:
    """One extension module per ``.pyx``; all link the same static library of mechanisms."""
    return Extension(
        f"{package}.{path.stem}",
        [str(path)],
        include_dirs=INCLUDE,
        # The hot code is in the C library; translating these at -O3 costs minutes and gains nothing.
        extra_compile_args=[*CFLAGS, "-O2", "-Wno-unused-function", "-Wno-unreachable-code"],
        extra_link_args=LIBS,
        libraries=["vexfs_core"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=[*HEADERS, *c_sources()],
    )


def declarations() -> str:
    """A directory where Cython finds ``vexfs/frontends``: on disk the frontends stand beside the package."""
    package = ROOT / "build/declarations/vexfs"
    package.mkdir(parents=True, exist_ok=True)
    for name, target in (("__init__.py", "vexfs/__init__.py"), ("_core", CORE), ("frontends", "frontends")):
        link, there = package / name, Path("../../..") / target
        if not link.is_symlink() or link.readlink() != there:  # one that was copied with its tree may lead elsewhere
            link.unlink(missing_ok=True)
            link.symlink_to(there)
    return str(package.parent)


class BuildLibrary(build_clib):
    """As setuptools has it, with as many compilers at once as there are processors."""

    def build_libraries(self, libraries: Any) -> None:
        """Compile and archive them."""
        one_by_one = self.compiler.compile
        with ThreadPoolExecutor(os.cpu_count()) as threads:

            def compile_all(sources: list[str], **options: Any) -> list[str]:
                made = list(threads.map(lambda source: one_by_one([source], **options), sources))
                return [name for names in made for name in names]

            self.compiler.compile = compile_all
            super().build_libraries(libraries)


class BuildExtensions(build_ext):
    """The same for the extension modules."""

    def finalize_options(self) -> None:
        """Take all processors, unless told how many."""
        super().finalize_options()
        self.parallel = self.parallel or True


extensions = [extension(p, "vexfs._core") for p in sorted(CORE.glob("*.pyx"))]
extensions += [
    extension(p, ".".join(("vexfs", *p.parent.parts))) for p in sorted(Path("frontends").glob("**/*.pyx"))
]

# Put in front of libfuse by frontends/fuse/device.py; never imported.
ROOM = Extension(
    "vexfs.frontends.fuse.room", ["frontends/fuse/room.c"], extra_compile_args=[*CFLAGS, *C_ONLY],
    extra_link_args=["-ldl", *LDFLAGS],
)

setup(
    cmdclass={"build_clib": BuildLibrary, "build_ext": BuildExtensions},
    libraries=[
        (
            "vexfs_core",
            {
                "sources": c_sources(),
                "include_dirs": INCLUDE,
                "cflags": [*CFLAGS, *C_ONLY, "-fPIC"],
                "obj_deps": {"": HEADERS},
            },
        )
    ],
    ext_modules=[
        *cythonize(
            extensions,
            include_path=[declarations()],
            compiler_directives=DIRECTIVES,
            nthreads=0,
            build_dir="build/cython",
            show_all_warnings=False,
        ),
        ROOM,
    ],
)
