"""The commands' frame: statuses, errors, interruption, help."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from vexfs.cli import main
from vexfs.errors import Busy, NotFound, Unreachable, UsageError

PROGRAMS = ("vexfs", "vexctl")


def start(program, *arguments, **options):
    """The real program in a process of its own."""
    code = f"from vexfs.cli.main import {program}; {program}()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(program, *arguments):
    process = start(program, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture
def failing(monkeypatch):
    """Puts a command ``fail`` into vexctl that raises what it is given."""
    raised = []

    def command(args):
        raise raised[0]

    class Module:
        @staticmethod
        def register(subparsers):
            subparsers.add_parser("fail").set_defaults(run=command)

    real = main.importlib.import_module
    monkeypatch.setattr(main, "COMMANDS", (main.Command("vexctl", "fail", "tests.fail", "fails"),))
    monkeypatch.setattr(main.importlib, "import_module", lambda n: Module if n == "tests.fail" else real(n))
    return raised.append


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (NotFound.at("no such file; see `vexfs ls`", "a/b"), 1, "vexctl: a/b: no such file; see `vexfs ls`\n"),
        (Busy.at("in use\n  by 42", "v"), 1, "vexctl: v: in use by 42\n"),
        (UsageError("--a and --b exclude each other"), 2, "vexctl: --a and --b exclude each other\n"),
        (Unreachable.at("no node answers", "/run/s"), 3, "vexctl: /run/s: no node answers\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "vexctl: x: No such file or directory\n"),
        (NotFound.at("gone", "a\x1b[31m\udcff"), 1, "vexctl: a\\x1b[31m\\xff: gone\n"),
        (KeyboardInterrupt(), 130, "vexctl: interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(failing, capsys, error, status, line):
    failing(error)
    assert main.run("vexctl", ["fail"]) == status
    out, err = capsys.readouterr()
    assert (out, err) == ("", line)


def test_debug_shows_where_an_error_arose(failing):
    failing(NotFound.at("gone", "x"))
    with pytest.raises(NotFound):
        main.run("vexctl", ["--debug", "fail"])


def test_a_defect_keeps_its_traceback(failing):
    failing(AttributeError("a slip of ours"))
    with pytest.raises(AttributeError):
        main.run("vexctl", ["fail"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_usage(program):
    assert finish(program, "--version") == (0, f"{program} {main.__version__}\n", "")
    assert finish(program)[0] == 2
    status, out, err = finish(program, "no-such-command")
    assert (status, out) == (2, "")
    assert "no-such-command" in err


def leaves():
    for program in PROGRAMS:
        for parser in main.parsers_below(main.build_parser(program)):
            if not main.subparsers_of(parser):
                yield pytest.param(parser, id=parser.prog.replace(" ", "-"))


@pytest.mark.parametrize("parser", list(leaves()))
def test_every_command_runs_answers_json_and_shows_an_example(parser):
    assert callable(parser.get_default("run")), "sets no `run`"
    assert "--json" in parser._option_string_actions
    assert parser.prog in (parser.epilog or ""), "its help has no example that names it"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_overview_says_what_the_modules_say(program, capsys):
    alone = main.build_parser(program, "")
    whole = main.build_parser(program)
    assert list(main.subparsers_of(alone)) == list(main.subparsers_of(whole))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_imports_nothing_heavy(program):
    code = (
        "import sys\nfrom vexfs.cli import main\n"
        f"try: main.run({program!r}, ['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'cryptography', 'fsspec', 'llfuse', 'vexfs.volume', 'vexfs._core.fs'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("place", ["before", "after"])
def test_json_may_stand_on_either_side(place, capsys):
    words = ["completion", "bash"]
    assert main.run("vexctl", ["--json", *words] if place == "before" else [*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shell"] == "bash"


def test_a_closed_pipe_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "from vexfs.cli.main import vexctl; vexctl()"
    result = subprocess.run(
        [sys.executable, "-c", code, "completion", "bash"], stdout=write_end, stderr=subprocess.PIPE, text=True
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["volume", "info", "--help"], ["completion", "bash"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_a_full_device_does_not_take_is_an_error(words, unbuffered):
    code = "from vexfs.cli.main import vexctl; vexctl()"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", code, *words], stdout=full, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("vexctl: No space left on device")


@pytest.mark.parametrize("program", PROGRAMS)
def test_bash_completes(program, tmp_path):
    status, script, _ = finish(program, "completion", "bash")
    assert status == 0
    ask = (
        f"{script}\nCOMP_WORDS=({program} completion --j); COMP_CWORD=2; _{program}_complete; echo ${{COMPREPLY[@]}}\n"
        f"COMP_WORDS=({program} compl); COMP_CWORD=1; _{program}_complete; echo ${{COMPREPLY[@]}}\n"
    )
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert answer == ["--json", "completion"]


OFFERED = {
    "index create --metric eu": ["euclidean"],
    "index create --metric = d": ["dot"],
    "--volume n.vex token create x --scope ": ["read", "write", "watch", "admin"],
    "performance simd configure --enable-avx2 f": ["false"],
    "search words --k ": [],
    "index list --volume n": ["n.vex"],
    "volume fsck ": [],
    "volume fsck --rep": ["--repair"],
    "performance validate --baseline n": [],
    "setup show vexfs.s": ["vexfs.service"],
    "setup show grafana": ["grafana/vexfs.json"],
    "setup install ngi": ["nginx", "nginx/vexfs.conf"],
    "setup install systemd ngi": ["nginx", "nginx/vexfs.conf"],
}


def test_bash_completes_the_values_of_options(tmp_path):
    """Nothing is offered where bash itself completes file names."""
    (tmp_path / "n.vex").mkdir()
    (tmp_path / "n.json").touch()
    try_it = 'try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vexctl_complete; echo "${COMPREPLY[@]}"; }'
    ask = [finish("vexctl", "completion", "bash")[1], try_it]
    for line in OFFERED:
        *words, last = line.split(" ")
        ask.append(f"try vexctl {' '.join(words)} '{last}'")
    answer = subprocess.run(["bash", "-c", "\n".join(ask)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert dict(zip(OFFERED, (line.split() for line in answer.stdout.splitlines()), strict=True)) == OFFERED


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(program, shell, capsys):
    assert main.run(program, ["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"complete -c {program} " in script if shell == "fish" else f"_{program}_words" in script
    try:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
    except FileNotFoundError:
        pytest.skip(f"{shell} is not installed; the script's content was checked")


def test_ctrl_c_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build_parser", interrupted)
    assert main.run("vexctl", ["volume", "info", "x"]) == 130
    assert capsys.readouterr().err == "vexctl: interrupted\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "vexctl: No space left on device; make room"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/v.vex"), "/v.vex: No space left on device; make room"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "size limit"),
        (OSError(errno.ENOSPC, "said in other words"), "vexctl: said in other words\n"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "vexctl: Permission denied\n"),
    ],
)
def test_what_the_host_refuses_is_told_with_a_remedy(monkeypatch, capsys, error, says):
    def refused(*_):
        raise error

    monkeypatch.setattr(main, "build_parser", refused)
    assert main.run("vexctl", ["volume", "info", "x"]) == 1
    assert says in capsys.readouterr().err


def test_ctrl_c_behind_an_error_of_another_package_is_one_line(monkeypatch, capsys):
    def fail(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Error calling __set_name__") from interrupt

    monkeypatch.setattr(main, "build_parser", fail)
    assert main.run("vexctl", ["volume", "info", "x"]) == 130
    assert capsys.readouterr().err == "vexctl: interrupted\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nod", "there is no 'nod'; did you mean node? volume, "),
        ("node stat", "there is no 'stat'; did you mean status? status, stop are there"),
        ("serach x", "did you mean search?"),
        ("performance memory-pool status", "did you mean memory-pools?"),
        ("index create /x --dims 3", "vexctl index create: error: --dims is no option here; did you mean --dim?"),
        ("index drop --volume v -- /x --json", "--json stands behind --, where every word is a name"),
        ("index drop /x --zeal", "--zeal is no option here; it takes --help, --socket, --volume, --key-file, --json"),
        ("search two words", "'words' is one word too many; words that belong together want quotes"),
        ("--volume a.vex volume info b.vex", "vexctl volume info: error: --volume is no option here"),
        ("--socket", "vexctl: error: "),
    ],
)
def test_a_slip_in_a_command_line_is_told_with_the_likely_word(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        main.run("vexctl", words.split())
    assert end.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--socket /no/x node status", "--json --socket=/no/x node status", "--socket /no/x search -- -w"]
)
def test_where_a_command_works_may_stand_before_it(words, capsys):
    assert main.run("vexctl", words.split()) == 3
    assert "/no/x: no node answers there" in capsys.readouterr().err


def test_streams_that_a_parent_closed_are_no_fault_and_no_place_for_files(tmp_path):
    code = "from vexfs.cli.main import vexctl; vexctl()"
    making = [sys.executable, "-c", code, "volume", "create", str(tmp_path / "v.vex")]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*shell, *making], check=False).returncode == 0
    listing = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code, "setup", "list"]
    found = subprocess.run(listing, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_name_that_the_terminal_cannot_show_is_no_fault(tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("PYTHONIOENCODING", None)
    process = start("vexctl", "volume", "create", str(tmp_path / "ü.vex"), env=environment)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "")
    assert r"\xfc.vex" in out or r"\udcc3\udcbc.vex" in out


def test_a_name_that_is_no_utf8_is_no_fault_where_output_is_strict(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    process = start("vexctl", "volume", "create", str(tmp_path / "\udcff.vex"), env=environment)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "") and r"\udcff.vex" in out
