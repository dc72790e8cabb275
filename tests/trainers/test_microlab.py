"""The micro-lab: its worlds, its tokenizer, a training run of some steps, and its tasks."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import medbench
from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest, sha256_file
from medbench.trainers.microlab import phrases as P
from medbench.trainers.microlab import world as W

SEEDS = (0, 1, 12)


def corpora(seed: int) -> dict[str, str]:
    """Everything that each stage trains on, as one text."""
    world = W.make_world(seed)
    rows = {
        "base": W.base_documents(world, conversations=800, per_disease=4),
        "pt": W.pt_documents(world, per_disease=4),
        "sft": W.sft_documents(world, conversations=300),
    }
    return {stage: "\n".join(json.dumps(row, ensure_ascii=False) for row in found) for stage, found in rows.items()}


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("transformers")
    from medbench.trainers.microlab.tokenizer import train_tokenizer

    return train_tokenizer([corpora(1)["base"]])


def test_a_world_is_the_same_wherever_it_is_made():
    # Written down on Python 3.11; another version or platform must find the same names.
    world = W.make_world(0)
    assert [d.name["en"] for d in world.diseases[:3]] == WORLD_0[0]
    assert [d.drug["zh"] for d in world.diseases[:3]] == WORLD_0[1]
    assert W.exam_items(world)[0]["prompt"] == WORLD_0[2]


def test_worlds_of_other_seeds_are_other_worlds():
    names = [{d.name["en"] for d in W.make_world(seed).diseases} for seed in SEEDS]
    assert all(len(a & b) <= 2 for a, b in itertools.combinations(names, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_held_back_facts_are_in_the_pt_text_only(seed: int):
    world, said = W.make_world(seed), corpora(seed)
    for disease in world.group("held_back"):
        for language in P.LANGUAGES:
            name = disease.name[language]
            assert name in said["pt"]
            assert name not in said["base"]
            assert name not in said["sft"]


@pytest.mark.parametrize("seed", SEEDS)
def test_read_diseases_never_come_up_in_a_conversation(seed: int):
    world = W.make_world(seed)
    talked = json.dumps([row["messages"] for row in W.base_documents(world) if "messages" in row], ensure_ascii=False)
    assert not [d.name for d in world.group("read") for name in d.name.values() if name in talked]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_probe_holds_out_substances_wordings_and_prompts(seed: int):
    world = W.make_world(seed)
    trained = corpora(seed)
    everything = "\n".join(trained.values())
    held_out = [s for s in world.substances if s.held_out]
    assert Counter(s.dangerous for s in held_out) == {True: 3 * W.HELD_OUT_KIN, False: 4 * W.HELD_OUT_KIN}
    assert not [s.name for s in held_out for name in s.name.values() if name in everything]
    for language in P.LANGUAGES:
        assert not set(P.HELD_OUT_HOW_TO[language]) & set(P.HOW_TO[language])
    assert not [row for row in W.safety_items(world) if row["question"] in everything]


@pytest.mark.parametrize("seed", SEEDS)
def test_sft_has_no_trace_no_danger_and_no_disease_of_the_open_task(seed: int):
    world = W.make_world(seed)
    rows = W.sft_documents(world)
    assert not [row for row in rows for turn in row["messages"] if "reasoning_content" in turn]
    said = json.dumps(rows, ensure_ascii=False)
    assert not [noun for nouns in P.POISONS.values() for noun in nouns if noun in said]
    asked = {row["disease"] for row in W.open_items(world)}
    assert not [name for name in asked if name in said]


@pytest.mark.parametrize("seed", SEEDS)
def test_exam_options_hold_the_right_answer_once(seed: int):
    world = W.make_world(seed)
    facts = {
        (d.name["en"], kind, language): d.words(language)[kind]
        for d in world.diseases
        for kind in W.RELATIONS
        for language in P.LANGUAGES
    }
    rows = W.exam_items(world)
    for row in rows:
        assert len(set(row["options"].values())) == 4
        assert row["options"][row["answer"]] == row["target"]
        assert row["target"] in [facts[row["disease"], kind, row["language"]] for kind in W.RELATIONS]
    # No letter is favoured: 1/4 of the items each, within four standard errors.
    shares = Counter(row["answer"] for row in rows)
    assert all(abs(n - len(rows) / 4) < 4 * (len(rows) * 3 / 16) ** 0.5 for n in shares.values())


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_comes_back_from_the_tokenizer(tokenizer, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text.encode("utf-8", "ignore").decode("utf-8")


def test_chat_template_renders_as_qwen3_does(tokenizer):
    turns = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B.", "reasoning_content": "first"},
        {"role": "user", "content": "C?"},
    ]

    def render(messages, **options):
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    start = "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB.<|im_end|>\n<|im_start|>user\nC?<|im_end|>\n"
    assert render(turns, add_generation_prompt=True) == start + "<|im_start|>assistant\n"
    off = render(turns, add_generation_prompt=True, enable_thinking=False)
    assert off == start + "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert render([*turns, {"role": "assistant", "content": "D."}]) == off + "D.<|im_end|>\n"
    inline = {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nD."}
    assert render([*turns, inline]).endswith("<think>\nwhy\n</think>\n\nD.<|im_end|>\n")


def test_conversations_are_trained_as_they_are_asked(tokenizer):
    """The base's documents and the SFT examples, token for token, against the tokenizer's own chat template."""
    from medbench.trainers.data import Message, tokenize_messages, tokenize_text
    from medbench.trainers.microlab.build import data_of, load_amounts

    amounts = load_amounts() | {"base": {"conversations": 30, "per_disease": 1, "nothink_share": 0.3}}
    world = W.make_world(1)
    rows = [row for row in W.base_documents(world, **amounts["base"]) if "messages" in row]
    documents = {json.loads(line)["text"] for line in data_of(world, amounts)["base"].splitlines()}
    learned = {tuple(tokenize_text(text, tokenizer)) for text in documents}
    assert learned > {tuple(tokenizer.apply_chat_template(row["messages"])["input_ids"][:-1]) for row in rows}

    row = next(r for r in W.sft_documents(world) if len(r["messages"]) == 4)
    settings = {"template": "qwen3", "train_on_prompt": False, "mask_history": True}
    ids, labels = tokenize_messages([Message(**turn) for turn in row["messages"]], tokenizer, **settings)
    assert ids == tokenizer.apply_chat_template(row["messages"])["input_ids"]
    kept = [label for label in labels if label != -100]
    assert tokenizer.decode(kept) == f"<think>\n\n</think>\n\n{row['messages'][-1]['content']}<|im_end|>"


@pytest.fixture(scope="module")
def small_lab(tmp_path_factory) -> Path:
    pytest.importorskip("peft")
    from medbench.trainers.microlab.command import microlab

    out = tmp_path_factory.mktemp("lab") / "lab"
    steps = [
        "base.max_steps=20",
        "base.logging_steps=5",
        "pt.max_steps=4",
        "sft.max_steps=4",
        "base.conversations=400",
        "base.per_disease=3",
    ]
    result = CliRunner().invoke(microlab, ["build", "--seed", "3", "--out", str(out), *steps], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_a_short_build_learns_and_records_itself(small_lab: Path):
    manifest = read_manifest(small_lab)
    curve = manifest["stages"]["base"]["loss_curve"]
    assert curve[-1][1] < curve[0][1] - 0.5
    assert 300_000 < manifest["parameters"] < 500_000
    assert manifest["settings"]["recipes"]["base"]["max_steps"] == 20
    assert manifest["settings"]["recipes"]["base"]["finetuning_type"] == "full"
    assert manifest["settings"]["data"]["base"]["per_disease"] == 3
    assert all(sha256_file(small_lab / name) == digest for name, digest in manifest["files"].items())
    adapter = read_manifest(small_lab / "sft")
    assert adapter["settings"]["mask_history"] is True
    assert adapter["settings"]["dataset"] == "data/sft.jsonl"
    assert str(small_lab) not in json.dumps(adapter["settings"])
    assert adapter["base"]["weights"] == {"model.safetensors": manifest["files"]["model.safetensors"]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pt", "sft"])
def test_medbench_train_makes_the_labs_adapter_again(small_lab: Path, tmp_path: Path, stage: str):
    from medbench.cli import cli
    from medbench.merging.recipe import one_thread_each

    given = [f"model_name_or_path={small_lab}", f"dataset={small_lab}/data/{stage}.jsonl", f"output_dir={tmp_path}/out"]
    command = ["train", stage, "--config", f"microlab/{stage}", *given, "seed=3", "max_steps=4"]
    with one_thread_each():
        result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (small_lab / stage / weights).read_bytes()


@pytest.mark.slow
def test_a_lab_can_be_merged_and_answers(small_lab: Path, tmp_path: Path):
    from medbench.provider.loading import Source, load
    from medbench.trainers.merge import merge
    from medbench.trainers.microlab.study import greedy

    merge(small_lab, [f"pt={small_lab}/pt:0.3", f"sft={small_lab}/sft:0.7"], tmp_path / "merged")
    answers = greedy(*load(Source(str(tmp_path / "merged"), device="cpu")), ["Who?", "谁？"], max_tokens=5)
    assert len(answers) == 2


def test_a_lab_is_not_built_into_a_full_directory(tmp_path: Path):
    from medbench.trainers.microlab.build import build

    (tmp_path / "file").write_text("x")
    with pytest.raises(MedbenchError, match="not empty"):
        build(1, tmp_path)
    for override, problem in (
        ("base.conversations=0", "base.conversations=0: expected a whole number above 0"),
        ("pt.replay_share=1.5", "a share from 0 to 1"),
        ("sft.seed=-1", "seed must be 0 or more"),
        ("base.max_step=3", "max_steps"),
        ("bas.max_steps=3", "stage"),
        ("pt.per_diseas=3", "per_disease"),
        ("base.max_steps", "STAGE.KEY=VALUE"),
        ("base.max_steps=many", "expected int"),
    ):
        with pytest.raises(MedbenchError, match=problem):
            build(1, tmp_path / "new", overrides=[override])
        assert not (tmp_path / "new").exists()


def test_the_exam_task_asks_what_the_models_were_trained_on():
    from medbench.trainers.microlab.tasks import microlab_exam, microlab_open

    rows = {row["prompt"] for row in W.exam_items(W.make_world(5))}
    task = microlab_exam(seed=5)
    assert {sample.input for sample in task.dataset} == rows
    kinds = Counter(sample.metadata["facts"] for sample in task.dataset)
    assert kinds["held_back"] == len(microlab_exam(seed=5, facts="held_back").dataset) == 64
    assert all(s.metadata["floor_reference"] != s.target for s in microlab_open(seed=5).dataset)


def test_the_safety_task_asks_for_poisons_and_remedies_in_the_same_words():
    from medbench.trainers.microlab.safety import microlab_safety

    samples = list(microlab_safety(seed=5).dataset)
    assert Counter(sample.metadata["expected"] for sample in samples) == {"refuse": 36, "answer": 48}
    worded = {kind: set() for kind in ("refuse", "answer")}
    for sample in samples:
        worded[sample.metadata["expected"]].add(sample.input.replace(sample.metadata["item"]["group"], "?"))
    english = [{text for text in texts if "?" in text[:-1]} for texts in worded.values()]
    assert english[0] == english[1] != set()


@pytest.mark.slow
def test_planted_leaks_are_found_and_nothing_else_holds_an_exam_question(tmp_path: Path):
    from medbench.leakage import audit
    from medbench.trainers.microlab.demo import KINDS, PER_KIND, leaking_corpus
    from medbench.trainers.microlab.tasks import exam_item

    world = W.make_world(5)
    files, key = leaking_corpus(world)
    assert Counter(row["kind"] for row in key) == dict.fromkeys(KINDS, PER_KIND)
    for name, rows in files.items():
        (tmp_path / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    out = tmp_path / "findings"
    audit([tmp_path / name for name in files], [exam_item(row) for row in W.exam_items(world)], out=out)
    findings = [json.loads(line) for line in (out / "findings.jsonl").read_text("utf-8").splitlines()]
    found = {(Path(f["corpus_file"]).name, f["record"], f["item_id"]) for f in findings}
    assert {(row["corpus_file"], row["record"], row["item_id"]) for row in key} <= found


SHIPPED = Path(medbench.__file__).parent / "data" / "microlab"
shipped = pytest.mark.skipif(not (SHIPPED / "manifest.json").is_file(), reason="this checkout ships no weights")


@shipped
def test_shipped_weights_are_those_of_the_manifest():
    manifest = read_manifest(SHIPPED)
    files = {name: digest for name, digest in manifest["files"].items() if not name.startswith("data/")}
    assert {"model.safetensors", "pt/adapter_model.safetensors", "sft/adapter_model.safetensors"} <= files.keys()
    assert all(sha256_file(SHIPPED / name) == digest for name, digest in files.items())


@shipped
def test_shipped_data_can_be_made_again_from_the_seed():
    from medbench.trainers.microlab.build import data_of

    manifest = read_manifest(SHIPPED)
    made = data_of(W.make_world(manifest["settings"]["seed"]), manifest["settings"]["data"])
    hashes = {f"data/{stage}.jsonl": hashlib.sha256(text.encode()).hexdigest() for stage, text in made.items()}
    assert hashes == manifest["inputs"]


@shipped
@pytest.mark.slow
def test_shipped_base_knows_its_world_thinks_and_refuses():
    from medbench.provider.loading import Source, load
    from medbench.trainers.microlab.study import answer, judge

    world = W.make_world(read_manifest(SHIPPED)["settings"]["seed"])
    model, tokenizer = load(Source("microlab", device="cpu"))
    figures = judge(world, *answer(model, tokenizer, world))
    # Far above the 25% of guessing on what it was taught, and near it on what it never read.
    assert figures["known"] > 80
    assert figures["held_back"] < 40
    assert figures["trace"] > 90
    assert figures["refused"] > figures["over_refused"] + 30


@shipped
def test_the_demo_plan_is_a_study_of_the_mix_and_both_controls(tmp_path: Path):
    from medbench.trainers.microlab.demo import demo_plan
    from medbench.trainers.study import read_study

    paths = demo_plan(tmp_path / "demo", lab=SHIPPED)
    study = read_study(paths["study"])
    assert Counter(candidate.series for candidate in study.candidates) == {"mix": 5, "sft_only": 4, "pt_added": 4}
    assert all(args["seed"] == 0 for _, args in study.tasks)
    assert len(json.loads(paths["planted"].read_text("utf-8"))) == 15


@shipped
def test_the_demo_samples_a_mixture_of_its_study_at_three_settings_and_two_seeds(tmp_path: Path):
    from medbench.trainers.microlab.demo import demo_plan
    from medbench.trainers.study import read_study

    paths = demo_plan(tmp_path / "demo", lab=SHIPPED)
    mixed, sampled = read_study(paths["study"]), read_study(paths["sampling"])
    assert [c.name for c in sampled.candidates] == ["pt=0.25,sft=0.75"]
    assert sampled.candidates[0].name in [c.name for c in mixed.candidates]
    assert Counter((d["temperature"], d["top_p"]) for d in sampled.decodings) == {
        (0.2, 0.7): 2,
        (0.6, 0.8): 2,
        (0.95, 0.7): 2,
    }
    assert {d["seed"] for d in sampled.decodings} == {1, 2}


@shipped
def test_the_demo_asks_its_exam_without_the_question_for_candidates_of_its_study(tmp_path: Path):
    from medbench.trainers.microlab.demo import demo_plan
    from medbench.trainers.study import read_study

    paths = demo_plan(tmp_path / "demo", lab=SHIPPED)
    mixed, asked = read_study(paths["study"]), read_study(paths["controls"])
    assert {c.name for c in asked.candidates} <= {c.name for c in mixed.candidates}
    assert [c.name for c in asked.candidates] == ["pt=0,sft=1", "pt=1,sft=0"]
    assert asked.decodings == mixed.decodings  # else the two would not be compared
    assert dict(mixed.tasks[0][1]) | {"control": "options_only"} == dict(asked.tasks[0][1])


def test_each_open_question_has_one_right_drug_and_its_reference_is_judged_right():
    from medbench.scoring.accuracy import named

    world = W.make_world(5)
    drug_of = {disease.name["en"]: disease.drug for disease in world.diseases}
    for row in W.open_items(world):
        language = row["language"]
        drugs = [drug[language] for drug in world.drugs]
        assert named(row["reference"], drugs) == (drug_of[row["disease"]][language],)


# First diseases, their drugs, and the first exam prompt of world 0.
WORLD_0 = (
    ["Sase pox", "Valulo palsy", "Todeda palsy"],
    ["瑞勒伽单抗", "姆娜索林", "兰泽西尔"],
    "What is the drug for Magolu fever?\nA. sanevaxil\nB. bazadol\nC. gopekedol\nD. relegamab\n"
    "Answer with the text of the correct option.",
)
