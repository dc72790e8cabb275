"""K-QA: patients' real questions, answered in free text and judged claim by claim.

201 questions with physicians' answers, cut into claims: those that an answer must have, and those that are nice to
have. Comprehensiveness is the share of must-have claims that the model's answer entails, the hallucination rate the
number of claims that it contradicts (Manes et al. 2024, "K-QA: A Real-World Medical Q&A Benchmark", arXiv 2401.14493).

    inspect eval medbench/kqa --model MODEL -T judge=openai/gpt-4o
    inspect eval medbench/kqa --model MODEL -T judge=grader,second --model-role grader=A --model-role second=B
    inspect eval tasks/kqa.py --model MODEL -T source=questions_w_answers.jsonl -T verdicts=verdicts.jsonl

Without a judge the words in common judge, which is a baseline: see its card in docs/claims.md, which also says how to
measure a judge against physicians (`medbench judge calibrate`) and to correct its rates by a few human labels.
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.page import About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.claims.items import ClaimItem, record_to_claims
from medbench.claims.task import claims_task, read_claim_rows
from medbench.sources.records import Record

# No commit has been verified; the log records which one was read. Read as a plain file: the other file of the
# repository, in the same configuration, has questions without answers.
HUB = HubSource(
    repository="Itaykhealth/K-QA",
    revision="main",
    split="questions_with_answers",
    data_files="questions_w_answers.jsonl",
)
ABOUT = About(items=201, language="en", scores="claims; BLEU, ROUGE", version=1)


@task
@page(
    "revision",
    source="the publisher's `questions_w_answers.jsonl`, or a table with `question, claim, importance, "
    "reference_answer`, one claim a row",
    revision="the newest",
)
def kqa(
    settings: Settings,
    judge: str | None = None,
    verdicts: str | None = None,
    tie: str = "unscored",
    views: str = "answer",
    floor: bool | None = None,
    calibration: str | None = None,
) -> Task:
    """K-QA: free-text answers to patients' questions, judged claim by claim.

    Args:
        judge: who judges: a model (`openai/gpt-4o`), a model role (`grader`), `lexical`, or several with commas
            between, who make a jury; with `verdicts`, judges of that file.
        verdicts: file of verdicts to replay instead of asking a judge (docs/claims.md says its columns).
        tie: what a divided jury says: `unscored`, or `neutral`.
        views: which views of the output are judged, e.g. `answer,raw`; each costs a round of calls.
        floor: judge every answer by another question's claims too; by default only where that costs no call.
        calibration: the judge's card (`medbench judge calibrate FILE`), whose line stands beside its scores in reports.
    """
    loaded = load(HUB, record_to_item, settings, read=read_claim_rows)
    return claims_task(
        loaded, settings, name="kqa", version=ABOUT.version,
        judge=judge, verdicts=verdicts, tie=tie, views=views, floor=floor,
        calibration=calibration,
    )  # fmt: skip


def record_to_item(record: Record) -> ClaimItem:
    """`Question, Must_have, Nice_to_have, Free_form_answer`."""
    return record_to_claims(record)
