"""Cards against independent computations, checks on judges with a known fault, and corrected rates."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claim_world import said, written
from click.testing import CliRunner
from sklearn.metrics import cohen_kappa_score

from medbench.claims import card as cards
from medbench.claims import checks
from medbench.claims.command import judge as command
from medbench.claims.files import Labelled
from medbench.claims.verdicts import CONTRADICTED, ENTAILED, LABELS, NEUTRAL, Case, Verdict
from medbench.errors import MedbenchError


def world(questions: int = 20, claims: int = 6, seed: int = 0) -> list[Labelled]:
    """Answers of 20 to 400 words; people's labels do not depend on their length."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(questions):
        answer = " ".join(["word"] * int(rng.integers(20, 400)))
        for claim in range(claims):
            label = str(rng.choice(LABELS, p=[0.4, 0.5, 0.1]))
            case = Case(f"question {number}", f"claim {claim} of {number}", answer)
            rows.append(Labelled(case, label, {"a": label, "b": label}, "m", f"row {number}"))
    return rows


def noisy(rows: list[Labelled], right: float, seed: int = 1) -> list[Verdict]:
    rng = np.random.default_rng(seed)
    return [Verdict(str(row.label) if rng.random() < right else str(rng.choice(LABELS)), judge="noisy") for row in rows]


def test_kappa_per_class_is_scikit_learns() -> None:
    rows, verdicts = world(), noisy(world(), 0.7)
    made = cards.make(rows, verdicts, "noisy")
    truth, given = [row.label for row in rows], [verdict.label for verdict in verdicts]
    assert made["agreement"]["kappa"][0] == pytest.approx(cohen_kappa_score(truth, given), abs=1e-4)
    for label in LABELS:
        expected = cohen_kappa_score([x == label for x in truth], [x == label for x in given])
        assert made["agreement"][label]["kappa"][0] == pytest.approx(expected, abs=1e-4)
    assert made["people"][0]["kappa"][0] == 1
    assert made["confusion"][ENTAILED][ENTAILED] == sum(a == b == ENTAILED for a, b in zip(truth, given, strict=True))


def test_claims_without_verdict_or_majority_are_counted_apart() -> None:
    rows, verdicts = world(), noisy(world(), 0.7)
    verdicts[0], verdicts[1] = Verdict(None, "failed", "noisy"), Verdict(None, "refused", "noisy")
    rows[2] = Labelled(rows[2].case, None, {"a": ENTAILED, "b": NEUTRAL}, "m", "row")
    made = cards.make(rows, verdicts, "noisy")
    assert (made["n"], made["no_majority"], made["unscored"]) == (117, 1, {"failed": 1, "refused": 1})
    with pytest.raises(MedbenchError, match="gave no verdict on any labelled claim \\(120 failed\\)"):
        cards.make(world(), [Verdict(None, "failed")] * 120, "silent")


def test_a_judge_who_likes_long_answers_is_caught() -> None:
    rows = world(60)
    long = [Verdict(ENTAILED if len(row.case.answer) > 1000 else NEUTRAL) for row in rows]
    caught = checks.length_slope(rows, long)
    assert caught is not None
    assert caught.per_doubling.low > 0.1
    fair = checks.length_slope(rows, noisy(rows, 0.8))
    assert fair is not None
    assert fair.per_doubling.low < 0 < fair.per_doubling.high
    assert abs(fair.per_doubling.estimate) < 0.06


def test_the_slope_is_that_of_a_regression_with_the_label_as_factor() -> None:
    rows = world(15, seed=4)
    verdicts = noisy(rows, 0.6, seed=5)
    found = checks.length_slope(rows, verdicts)
    assert found is not None
    x = np.log2([len(row.case.answer.split()) for row in rows])
    y = np.array([verdict.label == ENTAILED for verdict in verdicts], dtype=float)
    dummies = np.array([[row.label == label for label in LABELS] for row in rows], dtype=float)
    expected = np.linalg.lstsq(np.column_stack([x, dummies]), y, rcond=None)[0][0]
    assert found.per_doubling.estimate == pytest.approx(expected, abs=1e-9)
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    groups = np.unique([row.case.question for row in rows], return_inverse=True)[1]
    fit = sm.OLS(y, np.column_stack([x, dummies])).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True
    )
    width = float(np.diff(fit.conf_int()[0])[0])
    assert found.per_doubling.high - found.per_doubling.low == pytest.approx(width, rel=0.02)


def test_floor_and_consistency() -> None:
    rows = world(8)
    cases = checks.swapped(rows)
    assert len(cases) == len(rows)
    answers = {row.case.question: row.case.answer for row in rows}
    assert all(case.answer != answers[case.question] for case in cases)
    every_second = [Verdict(ENTAILED if n % 2 else NEUTRAL) for n in range(len(cases))]
    found = checks.floor(cases, every_second)
    assert found is not None
    assert found.entailed.estimate == 0.5
    same = checks.consistency([row.case for row in rows], every_second, every_second)
    assert same is not None
    assert same.same.estimate == 1
    turned = checks.consistency([row.case for row in rows], every_second, every_second[1:] + every_second[:1])
    assert turned is not None
    assert turned.same.estimate == 0
    assert checks.swapped(world(1)) == []


def labels_file(tmp_path: Path, name: str = "labels.csv", questions: int = 12) -> str:
    path = tmp_path / name
    rows: list[dict[str, Any]] = [
        {
            "question": row.case.question, "claim": row.case.claim, "answer": row.case.answer,
            "importance": "Must_have" if number % 3 else "Nice_to_have", "label_1": row.label, "label_2": row.label,
        }
        for number, row in enumerate(world(questions))
    ]  # fmt: skip
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def invoke(*words: str) -> str:
    result = CliRunner().invoke(command, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_calibrate_writes_a_card_without_texts(tmp_path: Path) -> None:
    labels, out = labels_file(tmp_path), tmp_path / "card.json"
    said = invoke("calibrate", labels, "--out", str(out))
    assert "threshold fitted to the other questions: 72 claims, 12 questions" in said
    text = out.read_text()
    assert "claim 1 of 2" not in text
    made = json.loads(text)
    assert made["kind"] == cards.KIND
    assert cards.load(out)["sources"] == made["sources"]
    assert made["floor"]["n"] == 72
    with pytest.raises(MedbenchError, match="no card of a judge"):
        cards.load(written(tmp_path / "other.json", [{"kind": "x"}]))


def test_a_judge_that_cannot_be_asked_is_refused_before_anything_is(tmp_path: Path) -> None:
    labels = labels_file(tmp_path)
    for name, text in (("grader", "is a role, which only an evaluation has"), ("nowhere/x", "cannot be asked")):
        with pytest.raises(MedbenchError, match=text):
            invoke("calibrate", labels, "--judge", name, "--out", str(tmp_path / "card.json"))
    assert not (tmp_path / "card.json").exists()


def test_a_physician_is_compared_with_the_others(tmp_path: Path) -> None:
    labels, out = labels_file(tmp_path), tmp_path / "card.json"
    invoke("calibrate", labels, "--verdicts", labels, "--judge", "label_1", "--out", str(out))
    made = json.loads(out.read_text())
    assert made["raters"] == 1
    assert made["agreement"]["kappa"][0] == 1


def test_a_model_is_asked_four_times_and_its_file_replays_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import inspect_ai.model
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    asked = []

    def verdict(messages: Any, *rest: Any) -> ModelOutput:
        asked.append(messages[-1].text)
        word = "neutral" if len(asked) % 5 else "entailed"
        made = ModelOutput.from_content("mockllm/model", f"VERDICT: {word}")
        made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return made

    model = get_model("mockllm/model", custom_outputs=verdict, memoize=False)
    monkeypatch.setattr(inspect_ai.model, "get_model", lambda *args, **kwargs: model)
    labels, kept = labels_file(tmp_path, questions=4), tmp_path / "kept.jsonl"
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    said = invoke("calibrate", labels, "--judge", "mockllm/model", "--keep", str(kept), "--out", str(first))
    assert len(asked) == 4 * 24
    assert "asked again: 6" in said or "asked again: 5" in said or "asked again: 7" in said
    invoke("calibrate", labels, "--verdicts", str(kept), "--out", str(second))
    one, two = (json.loads(path.read_text()) for path in (first, second))
    for key in ("agreement", "floor", "length", "repeated", "reordered", "rates", "unscored"):
        assert one[key] == two[key], key
    invoke("calibrate", labels, "--judge", "mockllm/model", "--no-further", "--out", str(first))
    assert len(asked) == 5 * 24


def test_rates_are_corrected_towards_the_labels(tmp_path: Path) -> None:
    truth, judged, labels = [], [], []
    for row in world(80):
        base = {"question": row.case.question, "claim": row.case.claim, "answer": row.case.answer}
        # a lenient judge: neutral passes for entailed in half of the claims
        lenient = ENTAILED if row.label == NEUTRAL and int(row.case.claim.split()[1]) % 2 else row.label
        judged.append({**base, "verdict": lenient})
        truth.append((row.case.question, row.label == ENTAILED))
        if int(row.case.question.split()[1]) < 30:
            labels.append({**base, "label": row.label})
    right = float(np.mean([hit for _, hit in truth]))
    out = tmp_path / "out.json"
    said_ = invoke(
        "correct", written(tmp_path / "judged.jsonl", judged), "--labels", written(tmp_path / "labels.jsonl", labels),
        "--out", str(out),
    )  # fmt: skip
    (found,) = json.loads(out.read_text()).values()
    rate = found["comprehensiveness"]
    assert rate["judge_alone"] > right + 0.15
    assert rate["corrected"][1] <= right <= rate["corrected"][2]
    assert abs(rate["corrected"][0] - right) < abs(rate["judge_alone"] - right) / 2
    assert (rate["labelled_answers"], rate["unlabelled_answers"], rate["questions"]) == (30, 50, 30)
    assert "180 labelled claims of 30 answers to 30 questions; 50 answers without labels" in said_


def test_labels_that_belong_to_nothing_are_listed(tmp_path: Path) -> None:
    rows = said(a=ENTAILED, b=NEUTRAL, c=CONTRADICTED, d=ENTAILED)
    judged = written(tmp_path / "judged.jsonl", rows)
    strange = [
        rows[0], {**rows[1], "answer": "Other."}, {**rows[2], "claim": "No such."}, {**rows[3], "question": "What?"},
    ]  # fmt: skip
    output = invoke("correct", judged, "--labels", written(tmp_path / "labels.jsonl", strange))
    assert "3 of 4 labels are not used" in output
    assert "labels another answer to 'Can I take ibuprofen" in output
    assert "not a judged claim: 'No such.'" in output
    assert "no judged answer to 'What?'" in output
    with pytest.raises(MedbenchError, match="none of its 3 labels belongs to a judged claim"):
        invoke("correct", judged, "--labels", written(tmp_path / "none.jsonl", strange[1:]))


def test_the_shipped_card_is_what_the_command_prints(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "card.json"
    invoke("calibrate", str(shared_data / "human" / "kqa_entailment.csv"), "--out", str(out))
    shipped = cards.lexical_card()
    assert json.loads(out.read_text()) | {"medbench": shipped["medbench"]} == shipped  # an earlier version made it
    line = cards.line(cards.lexical_card())
    assert line.startswith("lexical on 222 claims of 29 questions: kappa 0.32 [0.15, 0.49], people among themselves")


def test_replayed_physicians_give_kqas_published_scores(shared_data: Path, tmp_path: Path) -> None:
    """As evaluation/metrics.py of Itaymanes/K-QA computes them: mean recall, and contradictions over answers."""
    import pandas

    from medbench.predictions.importing import import_predictions

    labels = str(shared_data / "human" / "kqa_entailment.csv")
    rows = pandas.read_csv(labels)
    answers = rows.drop_duplicates("question").rename(columns={"answer": "prediction"})[["question", "prediction"]]
    answers.to_csv(tmp_path / "answers.csv", index=False)
    log = import_predictions(
        str(tmp_path / "answers.csv"), form="csv", task="kqa", model="m", log_dir=str(tmp_path), source=labels,
        task_args={"verdicts": labels},
    )  # fmt: skip
    values = [(sample.scores or {})["claim_entailment"].as_dict() for sample in log.samples or []]
    must = rows[rows.importance == "Must_have"]
    recall = (must.majority == "Entailment").groupby(must.question).mean()
    contradictions = (rows.majority == "Contradiction").sum()
    assert len(values) == 29
    assert np.mean([v["comprehensiveness/answer"] for v in values]) == pytest.approx(recall.mean(), abs=1e-12)
    assert np.mean([v["hallucination_rate/answer"] for v in values]) == pytest.approx(contradictions / 29, abs=1e-12)
    # all labels known: a folder of logs is corrected to the labels' own rate
    said_ = invoke("correct", str(tmp_path), "--labels", labels, "--out", str(tmp_path / "out.json"))
    (found,) = json.loads((tmp_path / "out.json").read_text()).values()
    assert found["candidate"] == "m"
    assert found["comprehensiveness"]["corrected"][0] == pytest.approx(recall.mean(), abs=1e-12)
    assert "0 answers without labels" in said_
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedbenchError, match="holds no logs"):
        invoke("correct", str(tmp_path / "empty"), "--labels", labels)
