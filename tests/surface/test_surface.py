"""Surface metrics against the libraries that define them: nltk, rouge_chinese, jieba, sacreBLEU, rouge-score."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import jieba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from medbench import surface
from medbench.errors import MedbenchError
from medbench.surface import kernels, segment, tokens

jieba.setLogLevel(logging.CRITICAL)
ROOT = Path(__file__).resolve().parents[2]


def _load_peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_surface", ROOT / "benchmarks" / "surface.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers = _load_peers()
standard_peer = peers.StandardPeer()

# What tokenizers disagree about: line ends, runs of stops, quotes after stops, decimals, entities, mixed scripts.
pieces = st.sampled_from(
    [
        *"。！？?…”’“，、：.,-%+#&_;!()/'\"<>[]{}~^`|@$*=\\ \n\r\t\u3000\xa0\u2028\x1c\x85",
        *"aBzC019ÅſKİΣσς中国人的是了在患者糖尿病肝龘㐀鿕鿖豈𠀀😀①Ⅷ１Ａー가のβ",
        *["......", "。\n\n", "\r\n", "&amp;lt;", "&quot;", "<skipped>", "-\n", "3.5", "1,000", "25%"],
        *["\ud800", "\u2001", "\u2a6d", "\u2fa1", "the ", "patient ", "mg/dL", "COVID-19 "],
        *["B超", "CT", "T恤", "胰岛素抵抗", "高血压", "王小明"],
    ]
)
texts = st.lists(pieces, max_size=40).map("".join)


@settings(max_examples=200)
@given(texts)
@example("中......。...........b”，....... \n\n。\n \nx")
def test_segmentation_is_jiebas(text: str) -> None:
    ends = segment.cut(segment.code_points(text)).tolist()
    assert [text[start:end] for start, end in pairwise([0, *ends])] == list(jieba.cut(text))


@settings(max_examples=200)
@given(texts, texts)
@example("a\n\nb", "a\n\nb")
@example("..............", "...... ......")
@example("", "")
@example("。", "")
@example("abc", "abc")
@example("好", "好")
def test_llamafactory_profile_is_the_libraries(prediction: str, reference: str) -> None:
    assert surface.score_item(prediction, reference).llamafactory == peers.llamafactory_item(prediction, reference)


@settings(max_examples=200)
@given(texts, texts, st.sampled_from(["en", "zh"]))
@example("a..b...c., .d", "a ..b...c,.d", "en")
@example("1.5,2-3-a.-5.", "1.5,2-3-a.-5.", "zh")
def test_standard_profile_is_the_libraries(prediction: str, reference: str, language: str) -> None:
    mine = surface.score_item(prediction, reference, language)
    scores, stats = standard_peer.item(prediction, reference, language)
    assert mine.standard == pytest.approx(scores, abs=1e-9)
    assert list(mine.bleu_stats) == stats


@settings(max_examples=150)
@given(texts)
def test_bleu_tokens_are_sacrebleus(text: str) -> None:
    for language, name in (("en", "13a"), ("zh", "zh")):
        codes, spans = surface.tokenize(text, language).bleu_words
        words = ["".join(map(chr, codes[start:end])) for start, end in spans.tolist()]
        assert words == BLEU(tokenize=name)._preprocess_segment(text).split()


def test_character_tables_are_pythons() -> None:
    whitespace = {code for code in range(0x110000) if tokens._is_space.py_func(code)}
    assert whitespace == {code for code in range(0x110000) if chr(code).isspace()}
    assert len(tokens.lower("".join(map(chr, range(0xD800))))) == 0xD800


@pytest.mark.parametrize("name", ["en_valid", "zh_valid", "en_train", "zh_train"])
def test_real_answers_against_other_questions(shared_data: Path, name: str) -> None:
    """The first 60 of each file; `benchmarks/surface.py --verify` compares all 11,144."""
    with (shared_data / "medical_qa" / f"{name}.jsonl").open(encoding="utf-8") as lines:
        answers = [json.loads(next(lines))["output"] for _ in range(60)]
    rotated = answers[-1:] + answers[:-1]
    mine = surface.score_profiles(answers, rotated)
    theirs = [peers.llamafactory_item(hyp, ref) for hyp, ref in zip(answers, rotated, strict=True)]
    assert peers.largest_difference(mine["llamafactory"], theirs) == 0
    language = name[:2]
    assert mine["standard"].languages == [language] * 60
    standard = [standard_peer.item(hyp, ref, language)[0] for hyp, ref in zip(answers, rotated, strict=True)]
    assert peers.largest_difference(mine["standard"], standard) < 1e-9

    bleu = BLEU(tokenize={"en": "13a", "zh": "zh"}[language])
    assert mine["standard"].corpus["bleu4"] == pytest.approx(bleu.corpus_score(answers, [rotated]).score, abs=1e-9)
    assert mine["standard"].signature["bleu4"] == str(bleu.get_signature())
    # against their own references the floor is what the rotation above scored, and the score 100, but for answers of
    # one word, which have no bigrams
    for profile, scores in surface.score_profiles(answers, answers).items():
        long = np.array([len(answer) > 10 for answer in answers])
        for values in scores.per_item.values():
            assert values[long] == pytest.approx(100.0, abs=1e-4)
        assert scores.floor == pytest.approx(mine[profile].corpus)
        low, high = scores.floor_interval["bleu4"].low, scores.floor_interval["bleu4"].high
        assert low < scores.floor["bleu4"] < high


def test_real_text_of_every_file_is_segmented_as_jieba_does(shared_data: Path) -> None:
    for file in ["cmexam/val_even.csv", "medical_qa/zh_valid.jsonl", "generations/DeepSeek-R1-Distill-Qwen-7B.jsonl"]:
        text = (shared_data / file).read_text(encoding="utf-8")[:100_000]
        ends = segment.cut(segment.code_points(text)).tolist()
        assert [text[start:end] for start, end in pairwise([0, *ends])] == list(jieba.cut(text))


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 5), max_size=200).map(lambda values: np.array(values, np.int32)),
    st.lists(st.integers(0, 5), max_size=200).map(lambda values: np.array(values, np.int32)),
)
def test_longest_common_subsequence_is_the_tables(hyp: np.ndarray, ref: np.ndarray) -> None:
    from rouge_chinese.rouge_score import _len_lcs

    assert kernels.lcs_length(hyp, ref) == _len_lcs(hyp.tolist(), ref.tolist())


def test_bootstrap_spreads_as_sacrebleus_does() -> None:
    from sacrebleu.significance import _bootstrap_resample

    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(40)]
    predictions = [" ".join(rng.choice(words, 30)) for _ in range(100)]
    references = [" ".join(rng.choice(words, 30)) for _ in range(100)]
    scores = surface.score(predictions, references)
    assert scores.bleu_stats is not None
    mine = surface.bootstrap_bleu(scores.bleu_stats, 2000, np.random.default_rng(1))
    assert np.array_equal(mine, surface.bootstrap_bleu(scores.bleu_stats, 2000, np.random.default_rng(1)))
    theirs = [score.score for score in _bootstrap_resample(scores.bleu_stats.tolist(), BLEU(), 2000)[1]]
    assert np.mean(mine) == pytest.approx(np.mean(theirs), rel=0.02)
    assert np.quantile(mine, [0.025, 0.975]) == pytest.approx(np.quantile(theirs, [0.025, 0.975]), rel=0.03)


def test_language_is_detected_from_what_tells() -> None:
    assert surface.detect_language("Take 5 mg of warfarin (华法林) daily.") == "en"
    assert surface.detect_language("华法林 warfarin 5 mg，每日一次") == "zh"
    assert surface.detect_language("75%", "约四分之三") == "zh"
    assert surface.detect_language("AB", "选 AB") == "zh"
    assert surface.detect_language("", "") == "en"
    scores = surface.score(["是的", "yes it is"], ["不是的", "no it is not"])
    assert scores.languages == ["zh", "en"]
    assert "tok:13a+zh" in scores.signature["bleu4"]
    assert surface.score(["120", "是的"], ["120/80", "不是的"]).languages == ["zh", "zh"]


# Two answers each: one to a question about fluids, one about fever; written for this test.
SENTENCES = {
    "Thai": (
        "ผู้ป่วยควรดื่มน้ำมาก ๆ และพักผ่อนให้เพียงพอ",
        "หากมีไข้สูงเกินสามวันให้ไปพบแพทย์ทันที",
    ),
    "Korean": (
        "환자는 물을 충분히 마시고 휴식을 취해야 합니다.",
        "열이 사흘 넘게 계속되면 의사와 상담하십시오.",
    ),
    "Arabic": (
        "يجب على المريض أن يشرب الكثير من الماء وأن يستريح.",
        "إذا استمرت الحمى أكثر من ثلاثة أيام فاستشر الطبيب.",
    ),
    "Hindi": (
        "रोगी को खूब पानी पीना चाहिए और आराम करना चाहिए।",
        "यदि बुखार तीन दिन से अधिक रहे तो डॉक्टर से मिलें।",
    ),
    "Japanese": (
        "患者さんは水分を十分に取って、ゆっくり休んでください。",
        "熱が三日以上続く場合は、医師に相談してください。",
    ),
    "Russian": (
        "Пациенту следует пить много воды и больше отдыхать.",
        "Если жар держится дольше трёх дней, обратитесь к врачу.",
    ),
    "Vietnamese": (
        "Bệnh nhân nên uống nhiều nước và nghỉ ngơi đầy đủ.",
        "Nếu sốt kéo dài hơn ba ngày, hãy đi khám bác sĩ.",
    ),
    "French": (
        "Le patient doit boire beaucoup d'eau, même en été, et se reposer.",
        "Si la fièvre dure plus de trois jours, consultez un médecin.",
    ),
}


@pytest.mark.parametrize("language", SENTENCES)
def test_other_languages_are_cut_into_unicode_words(language: str) -> None:
    fluids, fever = SENTENCES[language]
    scores = surface.score([fluids, fluids], [fluids, fever])
    assert scores.languages == ["other", "other"]
    for metric, (same, different) in scores.per_item.items():
        assert same == pytest.approx(100), metric
        assert different < 50, metric
    words = fluids.split()
    if len(words) > 5:  # half of the words kept: the score follows the text, not only equality
        half = " ".join(words[: len(words) // 2])
        assert 40 < surface.score([half], [fluids]).corpus["rouge1"] < 90
    assert f"tok:uax29-nfc-regex-{version('regex')}|" in scores.signature["bleu4"]
    assert f"tok:uax29-nfc-regex-{version('regex')}-lower-alnum|" in scores.signature["rouge"]
    assert scores.signature["items"] == "other:2"


def test_unicode_words_ignore_how_a_letter_is_composed() -> None:
    korean = SENTENCES["Korean"][0]
    apart = unicodedata.normalize("NFD", korean)
    assert apart != korean
    assert list(surface.score([apart], [korean]).corpus.values()) == pytest.approx([100] * 4)


def test_other_languages_are_told_from_english_and_chinese() -> None:
    assert surface.detect_language("환자는 acetaminophen 500mg 을 복용하고 쉬어야 합니다") == "other"
    assert surface.detect_language("Give a β-blocker, then an α-blocker.") == "en"
    assert surface.detect_language("α受体阻滞剂") == "zh"
    assert surface.detect_language("Sjögren's syndrome and Ménière's disease are treated differently.") == "en"
    assert surface.detect_language("急性腎不全の治療について") == "other"
    assert surface.detect_language("“Take it – twice a day” ☺") == "en"
    assert surface.detect_language("네") == "other"


def test_floor_uses_the_last_different_reference_of_the_language() -> None:
    references = ["yes", "yes", "不", "no", "是", "yes"]
    languages = ["en", "en", "zh", "en", "zh", "en"]
    assert surface.other_references(references, languages) == [3, 3, 4, 1, 2, 3]
    assert surface.other_references(["same"] * 3, ["en"] * 3) == [None] * 3
    alone = surface.score(["one answer"], ["one answer"])
    assert np.isnan(alone.floor["bleu4"])
    assert np.isnan(alone.floor_interval["bleu4"].low)


def test_score_above_floor_is_paired_on_the_items_that_have_one() -> None:
    rng = np.random.default_rng(5)
    words = ["dose", "daily", "twice", "before", "meals", "after", "water", "rest", "fever", "cough"]
    references = [" ".join(rng.choice(words, 12)) for _ in range(40)] + ["服药后多喝水"]
    predictions = [" ".join([*r.split()[:8], "then", "sleep"]) for r in references[:40]] + ["多喝水"]
    scores = surface.score(predictions, references, language=["en"] * 40 + ["zh"])
    assert scores.floor_items == list(range(40))  # the only Chinese item has no other reference to be scored against
    bleu = BLEU()
    others = [references[(i - 1) % 40] for i in range(40)]
    expected = (
        bleu.corpus_score(predictions[:40], [references[:40]]).score
        - bleu.corpus_score(predictions[:40], [others]).score
    )
    above = scores.above_floor["bleu4"]
    assert above.estimate == pytest.approx(expected)
    # pairing takes out what the two share: resampling both apart gives a wider interval
    difference = scores.per_item["rougeL"][:40] - scores.floor_scores.per_item["rougeL"]
    half = 1.96 * difference.std(ddof=1) / np.sqrt(40)
    paired = scores.above_floor["rougeL"]
    assert paired.estimate == pytest.approx(difference.mean())
    assert (paired.high - paired.low) / 2 == pytest.approx(half, rel=0.15)


def test_empty_texts_score_zero_and_are_counted() -> None:
    for profile in surface.PROFILES:
        scores = surface.score(["", "x y z w", " \n"], ["a b c d", "", ""], profile=profile)
        assert all(value == 0 for values in scores.per_item.values() for value in values)
        assert (scores.empty_predictions, scores.empty_references) == (2, 2)


@pytest.mark.parametrize(
    ("predictions", "references", "options", "message"),
    [
        (["a"], ["a", "b"], {}, "1 predictions but 2 references"),
        ([], [], {}, "no predictions"),
        (["a", None], ["a", "b"], {}, "prediction of item 1 .* NoneType"),
        ("text", "text", {}, "predictions is one text"),
        (["a"], ["a"], {"profile": "llama"}, "llamafactory"),
        (["a"], ["a"], {"language": "de"}, "unknown language 'de'"),
        (["a"], ["a"], {"language": ["en", "zh"]}, "2 languages for 1 items"),
    ],
)
def test_bad_input_is_named(predictions: list, references: list, options: dict, message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        surface.score(predictions, references, **options)


def test_texts_may_come_from_anything_that_yields_them() -> None:
    texts = ["take two aspirin daily please", "发热三天伴咳嗽"]
    plain = surface.score(texts, texts[::-1], language=["en", "zh"])
    for other in (tuple(texts), np.array(texts), (text for text in texts), dict.fromkeys(texts)):
        scores = surface.score(other, iter(texts[::-1]), language=iter(["en", "zh"]))
        assert scores.corpus == plain.corpus
        assert scores.signature == plain.signature


def test_threads_agree_with_one_thread() -> None:
    pairs = [("患者血糖高" * (i + 1), "患者血压高 and more" * (i + 2)) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda pair: surface.score_item(*pair), pairs))
    assert threaded == [surface.score_item(*pair) for pair in pairs]


def test_a_megabyte_is_scored() -> None:
    """200,000 words a side: the quadratic table of a longest common subsequence would take 40 GB."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(3000)])
    first, second = (" ".join(rng.choice(words, 200_000)) for _ in range(2))
    assert len(first) > 1_000_000
    scored = surface.score_item(first, second)
    assert 0 < scored.standard["rougeL"] < 100


def test_import_is_quiet_and_leaves_the_dictionary_alone() -> None:
    script = (
        "import sys, medbench, medbench.surface as s\n"
        "assert 'jieba' not in sys.modules\n"
        "s.score_item('糖尿病患者', '高血压患者')\n"
        "import jieba\n"
        "assert not jieba.dt.initialized\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
