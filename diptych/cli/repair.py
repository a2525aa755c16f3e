"""`diptych repair`: mends a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diptych.cli.check import progress_line, report_as_json, show_findings
from diptych.cli.printing import print_json

__all__ = ["Repair"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """Mends a data folder that no server has: makes anew what is derived, and databases from what can be read of them.

    What was there before is kept under quarantine/ in the folder; remove it when all is well. Exit code 1 where
    something is still damaged.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """The data folder."""
    drop_damaged: bool = False
    """Take out records, sources and snapshots that are damaged; they are named, and kept under quarantine/."""
    json: bool = False
    """Print JSON instead of lines."""

    def run(self) -> int:
        """Repairs it and prints what was done, and what is left."""
        from serving.maintenance.repair import repair_folder

        with progress_line() as tick:
            report = repair_folder(self.folder, drop_damaged=self.drop_damaged, tick=tick)
        if self.json:
            told = {"actions": report.actions, "refusals": report.refusals, "after": report_as_json(report.after)}
            print_json(told)
        else:
            for action in report.actions:
                print(action)
            for refusal in report.refusals:
                print(f"not done: {refusal}")
            show_findings(report.after, self.folder)
        return 0 if report.after.is_sound and not report.refusals else 1
