"""Which runs count: one of each candidate under one setting and seed, and one version of a task; the rest is named."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from medbench.reports.header import key_of, tuned_prompt
from medbench.reports.logs import Notice, Run, short_name

# A newer run that covers less than this share of an older one's items is a trial, and does not replace it.
_WHOLE = 0.9
# From this share of a candidate's outputs on, those cut off at `max_tokens` are worth a line.
_CUT_OFF = 0.05


def latest(runs: Sequence[Run], notices: list[Notice]) -> list[Run]:
    """The newest run of each candidate, task, version, setting and seed that is about as large as the largest."""
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.task, run.version, run.candidate, key_of(run.setting), run.seed].append(run)
    kept = []
    for members in groups.values():
        most = max(len(set(run.ids)) for run in members)
        whole = [run for run in members if len(set(run.ids)) >= _WHOLE * most]
        chosen = max(whole, key=lambda run: (run.created, run.file))
        kept.append(chosen)
        others = [run for run in members if run is not chosen]
        if others:
            newer = any(run.created > chosen.created for run in others)
            why = f"with {most} items, although a smaller one is newer" if newer else "the newest"
            named = listed([f"{short_name(run.file)} ({len(set(run.ids))} items)" for run in others])
            notices.append(
                Notice(
                    "rerun",
                    f"{chosen.candidate} ran {chosen.task} {len(members)} times under one setting and seed: "
                    f"{short_name(chosen.file)}, {why}, is used; left out, not averaged in: {named}.",
                )
            )
    return kept


def one_version(runs: Sequence[Run], notices: list[Notice]) -> list[Run]:
    """The runs of each task's commonest version, of equally common ones the highest."""
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        versions[run.task][run.version] += 1
    chosen = {task: max(counts, key=lambda v: (counts[v], _in_order(v))) for task, counts in versions.items()}
    for task, counts in versions.items():
        if len(counts) > 1:
            dropped = [
                f"{short_name(r.file)} (version {r.version})"
                for r in runs
                if r.task == task and r.version != chosen[task]
            ]
            notices.append(
                Notice(
                    "version",
                    f"{task} occurs in versions {listed(sorted(counts, key=_in_order))}, whose scores are not "
                    f"comparable: version {chosen[task]} is used; left out: {listed(dropped)}.",
                )
            )
    return [run for run in runs if run.version == chosen[run.task]]


def _in_order(version: str) -> list[tuple[int, int, str]]:
    """Sorts versions by their numbers: 10 after 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", version)]


def say_apart(task: str, runs: Sequence[Run], main: Sequence[Run], notices: list[Notice]) -> dict[str, str]:
    """Candidate -> its setting, of those that never ran under the main one: other decoding, so not ranked with it."""
    here = {run.candidate for run in main}
    apart: dict[str, str] = {}
    for run in runs:
        if run.candidate not in here:
            apart.setdefault(run.candidate, run.setting_name)
    by_setting: dict[str, list[str]] = defaultdict(list)
    for name, setting in sorted(apart.items()):
        by_setting[setting].append(name)
    if apart:
        others = "; ".join(f"{listed(names)} under {setting}" for setting, names in by_setting.items())
        notices.append(
            Notice(
                "settings",
                f"{task}: not ranked together, because they were decoded or asked in another way: {others}; "
                f"the {'others' if len(here) > 1 else listed(sorted(here))} under {main[0].setting_name}. Run them "
                "again under one setting (e.g. --temperature 0) to compare them.",
            )
        )
    return apart


def say_unscored(runs: Sequence[Run], notices: list[Notice]) -> None:
    """Outputs without a score: whether their item is lost or stays with fewer epochs."""
    for run in runs:
        scored = set(run.ids)
        failed = Counter(run.unscored)
        lost = [item for item in failed if item not in scored]
        fewer = [item for item in failed if item in scored]
        if lost:
            notices.append(
                Notice(
                    "unscored",
                    f"{short_name(run.file)}: {counted(len(lost), 'item')} ended in an error or without a score, in "
                    "every epoch. They are missing, not wrong: left out for every candidate.",
                )
            )
        if fewer:
            outputs = sum(failed[item] for item in fewer)
            notices.append(
                Notice(
                    "unscored",
                    f"{short_name(run.file)}: {counted(outputs, 'output')} of {counted(len(fewer), 'item')} ended in "
                    "an error or without a score. They are missing, not wrong: the items count by their other epochs.",
                )
            )


def say_limits(task: str, runs: Sequence[Run], notices: list[Notice]) -> None:
    """Outputs that a limit ended before they were done, and what that means for their scores."""
    ended: list[str] = []
    for run in runs:
        limits = dict(run.limits)
        # The option's letter is one token, and is meant to be all.
        if run.setting.get("mode") == "logprob" or limits.get("max_tokens", 0) < _CUT_OFF * len(run.ids):
            limits.pop("max_tokens", None)
        if limits:
            kinds = ", ".join(f"{count} by {_limit_name(kind)}" for kind, count in sorted(limits.items()))
            ended.append(f"{run.candidate} {kinds} (of {len(run.ids)})")
    if ended:
        notices.append(
            Notice(
                "limit",
                f"{task}: outputs were ended before they were done, and are scored as they stand{_meaning(runs)}: "
                f"{listed(ended)}.",
            )
        )


def say_prompts(task: str, runs: Sequence[Run], notices: list[Notice]) -> None:
    """Candidates that were asked with prompts of their own, each picked for it on other items."""
    asked: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        tuned = tuned_prompt(run.provenance.get("metadata") or {})
        if tuned is not None and run.candidate not in asked[str(tuned.get("of"))]:
            asked[str(tuned.get("of"))].append(run.candidate)
    if asked:
        told = "; ".join(f"{prompt.partition('#')[2] or prompt}: {listed(names)}" for prompt, names in asked.items())
        notices.append(
            Notice(
                "prompts",
                f"{task}: compared on purpose under prompts of their own, each picked on items that are not tested "
                f"({told}). Tests are of these prompts; what holds for prompts like them is under Own prompts.",
            )
        )


def _meaning(runs: Sequence[Run]) -> str:
    """What being cut off does to a task's scores."""
    if any("accuracy/answer" in run.values for run in runs):
        return ", mostly as wrong"
    if any("refusal/answer" in run.values for run in runs):
        return " (a refusal that comes later is not seen)"
    return ""


def _limit_name(kind: str) -> str:
    return kind if kind == "max_tokens" else f"the {kind} limit"


def counted(count: int, noun: str) -> str:
    """``1 item``, ``1,273 items``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names with commas, long lists cut with how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
