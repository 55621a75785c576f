"""The command ``npnet``: one module of this package for each of its commands.

A command module has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(arguments) -> int``, the exit
code. It is imported when the command, or the list of all, is asked for.

Exit codes
----------
0    done
1    could not be done: a file, a dataset, a run; the last line says what and what to do
2    the command line was wrong
130  stopped by Ctrl-C
143  a training stopped by SIGTERM, which saves as Ctrl-C does
"""

import argparse
import difflib
import importlib
import io
import itertools
import os
import re
import sys
import textwrap
import warnings
from typing import Any, NoReturn

import npnet
from npnet.internal import processes
from npnet.internal.interrupts import Terminated
from npnet.runs.terminal import columns

__all__ = ["COMMANDS", "EPILOG", "Parser", "command_parser", "main"]

COMMANDS = (
    "train", "evaluate", "predict", "export", "report", "compare", "check", "explain", "bench", "info",
    "warmup",
)  # fmt: skip


EPILOG = """\
examples:
  npnet train spiral          a demonstration, in a few seconds
  npnet train                 the tutorial's network on CIFAR-10
  npnet explain               what happens in one training step
  npnet train --help          all about a command

exit codes: 0 done, 1 could not be done, 2 wrong options, 130 stopped by Ctrl-C
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that, of what it does not know, names the nearest it does."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse options that do not exist before their values can be taken for something else."""
        if self._subparsers is None:
            for word in itertools.takewhile(lambda word: word != "--", args or ()):
                if word.startswith("--") and word.split("=")[0] not in self._option_string_actions:
                    self.error(f"unrecognized arguments: {word}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the message with the nearest right word, and exit with 2."""
        message = re.sub(r"invalid int value: (.*)", r"must be a whole number, got \1", message)
        message = re.sub(r"invalid float value: (.*)", r"must be a number, got \1", message)
        pattern = r"unrecognized arguments: (\S+)|argument (\S+): invalid choice: '([^']*)'"
        unknown = re.search(pattern, message)
        if unknown:
            word = (unknown[1] or unknown[3]).split("=")[0]
            close = difflib.get_close_matches(word, self._words(unknown[2]), n=1)
            message += f". Did you mean {close[0]}?" if close else ""
        message = f"{self.prog}: {message}\nSee {self.prog} --help."
        if processes.world().size > 1:
            processes.world().stop(message, 2)
        if processes.announced_rank() == 0:  # all processes have the same command line
            print(message, file=sys.stderr)
        raise SystemExit(2)

    def _words(self, argument: str | None) -> list[str]:
        """Return what an argument, "--lr/--learning-rate", may be; without one the names of all options."""
        if argument is None:
            return [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if argument in ("/".join(action.option_strings), action.metavar, action.dest):
                return [str(choice) for choice in action.choices or ()]
        return []


def command_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="npnet", description="Train, look at and measure neural networks, from scratch.")
    parser.epilog = EPILOG
    parser.add_argument("--version", action="version", version=f"npnet {npnet.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        module = importlib.import_module(f"npnet.cli.{name}")
        paragraphs = (module.__doc__ or module.HELP).split("\n\n")
        filled = (textwrap.fill(text, columns(), break_on_hyphens=False) for text in paragraphs)
        sub = commands.add_parser(name, help=module.HELP, description="\n\n".join(filled))
        module.add_arguments(sub)
        sub.set_defaults(parser=sub, run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    What a user can put right (a missing file or package, a damaged dataset, a wrong value, too little memory)
    ends in one line on standard error and code 1; anything else is a defect and keeps its traceback.
    """
    # Streams that whoever started it has closed. What is meant for one never goes to the other.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # what an encoding lacks must not end a training
    words = sys.argv[1:] if argv is None else argv
    if not words:
        command_parser().print_help()
        return 0
    if processes.announced_rank() > 0:
        sys.stdout, sys.stderr = (processes.Prefixed(stream) for stream in (sys.stdout, sys.stderr))
    try:
        if words[0] == "train":  # before anything can end one process while the others wait for it
            processes.join()
        arguments, rest = command_parser().parse_known_args(argv)
        if rest:
            arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if processes.announced() > 1 and arguments.command != "train":
            arguments.parser.error("of npnet only train is for several processes: leave mpiexec out")
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            return int(arguments.run(arguments))
    except KeyboardInterrupt as stop:
        code = 143 if isinstance(stop, Terminated) else 130
        message = f"\nStopped. {processes.world().resume}".rstrip()
        if processes.world().size > 1:
            processes.world().stop(message, code)
        print(message, file=sys.stderr)
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (
        OSError, ValueError, ImportError, MemoryError, processes.OtherMPIError, processes.OutOfStepError
    ) as error:  # fmt: skip
        if processes.world().size > 1:
            processes.world().stop(processes.world().failure(_sentence(error)), 1)
        if processes.announced_rank() == 0:
            print(f"npnet {words[0]}: {_sentence(error)}", file=sys.stderr)
        return 1


def _sentence(error: Exception) -> str:
    """Return what an error says; of one that the system raised, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}."
    if isinstance(error, MemoryError):
        return f"There is not enough memory. {error}".rstrip()
    return str(error)


def _show_warning(message: Any, *_: Any) -> None:
    """Print a warning without the place in the program that Python would add."""
    print(f"npnet: {message}", file=sys.stderr)
