"""Run regularly (every hour, say): finishes, retries, expires and forgets uploads."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from async_uploads.batches import Report
from async_uploads.cleanup import reconcile

_LINES = {
    "promoted": "claimed files moved to their permanent place",
    "adopted": "uploads adopted for records that hold their keys",
    "returned": "claims given back because no record holds them",
    "failed": "actions failed and will be tried again",
    "expired": "abandoned uploads removed",
    "sources": "promoted uploads cleared of what they had left",
    "removed": "rows of files promoted long ago removed",
}


class Command(BaseCommand):
    """Exits with a status other than 0 when something needs a person."""

    help = "Finish uploads that were claimed by records, and remove those that were abandoned."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--age",
            type=float,
            default=48,
            metavar="HOURS",
            help="Unclaimed finished uploads, and rows of promoted files, are kept so long. Default: 48.",
        )
        parser.add_argument("--quiet", action="store_true", help="Print nothing but what needs a person.")
        parser.add_argument("--dry-run", action="store_true", help="Count only; change nothing.")
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run once and report."""
        if options["age"] < 0:
            raise CommandError("--age must not be negative.")
        report = reconcile(timedelta(hours=options["age"]), dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(json.dumps({**report.as_dict(), "dry_run": options["dry_run"]}, indent=2))
        elif not options["quiet"]:
            self.print_report(report, "would be: " if options["dry_run"] else "")
        if report.problems:
            problems = "\n".join(report.problems)
            raise CommandError(f"{len(report.problems)} uploads need a person:\n{problems}", returncode=3)

    def print_report(self, report: Report, prefix: str) -> None:
        """Print one line for each count that is not zero."""
        counts = {name: getattr(report, name) for name in _LINES}
        for name, count in counts.items():
            if count:
                self.stdout.write(f"{count} {prefix}{_LINES[name]}")
        if not any(counts.values()):
            self.stdout.write("Nothing to do.")
