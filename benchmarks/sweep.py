"""Eleven ratios of two adapters over the same prompts: what a sweep costs beside generating alone.

    python benchmarks/sweep.py [--prompts 440] [--layers 3] [--hidden 96] [--tokens 48] [--rounds 3] [--only engine]

In one run, taking turns: (a) 11 x generation with one set of weights, straight from the engine; (b) the same with
another ratio each time, by merging again in place; (c) the same with the adapters as live low-rank paths (PEFT), whose
scaling is set for each ratio; (d) `inspect eval` of one candidate, eleven times; (e) the whole `medbench sweep` of
eleven candidates with logs and scores. The model is random, of the micro-lab's size by default; end of text is
switched off, so that all ratios do the same work.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from shapes import write_adapters

RATIOS = [round(number / 10, 1) for number in range(11)]
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes


@task
def prompts(count: int, tokens: int) -> Task:
    samples = [Sample(id=i, input=f"What helps against symptom {i} in week {i % 7}?", target="x") for i in range(count)]
    return Task(dataset=MemoryDataset(samples), scorer=includes(), config=GenerateConfig(max_tokens=tokens))
"""


def build(work: Path, layers: int, hidden: int) -> None:
    """A random base that never ends a text by itself, and two random adapters of rank 16."""
    from transformers import AutoModelForCausalLM

    from medbench.provider import tiny

    tiny.build(work / "base", layers=layers, hidden=hidden)
    model = AutoModelForCausalLM.from_pretrained(work / "base")
    write_adapters(model, work, ("pt", "sft"), size=0.02)


class Competitors:
    """The five ways, on one base in memory."""

    def __init__(self, work: Path, count: int, tokens: int) -> None:
        from inspect_ai.model import get_model

        self.work, self.count, self.tokens = work, count, tokens
        self.models = [get_model(f"medbench/{work / 'base'}", memoize=False, **self._args(pt)) for pt in RATIOS]
        self.engine = self.models[0].api.engine
        self.engine.eos = self.engine._sampler.eos = frozenset()
        # Wall time, and processor time of the engine's thread: while it switches, the caller is still tokenizing the
        # prompts, and the two threads wait for each other.
        self.switching = [0.0, 0.0]
        switch = self.engine._switch

        def timed(candidate: Any) -> None:
            begin, cpu = time.perf_counter(), time.thread_time()
            switch(candidate)
            self.switching[0] += time.perf_counter() - begin
            self.switching[1] += time.thread_time() - cpu

        self.engine._switch = timed
        self.live = self._live_paths()
        (work / "prompts.py").write_text(TASK)

    def _args(self, pt: float) -> dict[str, Any]:
        return {"adapters": [f"pt={self.work / 'pt'}:{pt}", f"sft={self.work / 'sft'}:{round(1 - pt, 1)}"]}

    def _live_paths(self) -> Any:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from medbench.provider.engine import Engine

        model = AutoModelForCausalLM.from_pretrained(self.work / "base")
        wrapped = PeftModel.from_pretrained(model, self.work / "pt", adapter_name="pt")
        wrapped.load_adapter(self.work / "sft", adapter_name="sft")
        wrapped.base_model.set_adapter(["pt", "sft"])
        self.lora_layers = [module for module in wrapped.modules() if hasattr(module, "lora_A")]
        engine = Engine(wrapped.base_model.model.eval(), AutoTokenizer.from_pretrained(self.work / "base"))
        engine.eos = engine._sampler.eos = frozenset()
        return engine

    def _generate(self, engine: Any, submit: Callable[[Any], None]) -> None:
        import threading

        from medbench.provider.engine import Request
        from medbench.provider.sampling import Decoding, Row

        done = threading.Semaphore(0)
        texts = [f"What helps against symptom {i} in week {i % 7}?" for i in range(self.count)]
        for text in texts:
            row = Row(self.engine.tokenizer(text)["input_ids"], Decoding(self.tokens))
            submit(Request([row], on_done=done.release))
        for _ in texts:
            done.acquire()

    def generation_alone(self) -> None:
        for _ in RATIOS:
            self._generate(self.engine, self.models[3].api._submit)

    def merged_again(self) -> None:
        for model in self.models:
            self._generate(self.engine, model.api._submit)

    def live_paths(self) -> None:
        for pt in RATIOS:
            for layer in self.lora_layers:
                layer.scaling |= {"pt": pt, "sft": round(1 - pt, 1)}
            self._generate(self.live, self.live.submit)

    def evals(self) -> None:
        from inspect_ai import eval as inspect_eval

        with tempfile.TemporaryDirectory(dir=self.work) as logs:
            for _ in RATIOS:
                inspect_eval(
                    str(Path("prompts.py")), model=self.models[3], display="none", log_dir=logs,
                    task_args={"count": self.count, "tokens": self.tokens},
                )  # fmt: skip

    def sweep(self) -> None:
        from medbench.trainers.study import read_study
        from medbench.trainers.sweep import sweep

        study = {
            "base": str(self.work / "base"),
            "adapters": {"pt": str(self.work / "pt"), "sft": str(self.work / "sft")},
            "candidates": [{"pt": "0..1 step 0.1", "sft": "1 - pt"}],
            "controls": False,
            "tasks": [{"task": "prompts.py", "args": {"count": self.count, "tokens": self.tokens}}],
        }
        path = self.work / "study.yaml"
        path.write_text(json.dumps(study))
        with tempfile.TemporaryDirectory(dir=self.work) as out:
            success, logs = sweep(read_study(path), out, display="none")
            assert success
            assert len(logs) == len(RATIOS)


@click.command()
@click.option("--prompts", default=440, show_default=True)
@click.option("--tokens", default=48, show_default=True)
@click.option("--layers", default=3, show_default=True)
@click.option("--hidden", default=96, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", type=click.Choice(["engine", "inspect"]), help="(a) to (c), or (a), (d) and (e): shorter runs.")
def main(prompts: int, tokens: int, layers: int, hidden: int, rounds: int, only: str | None) -> None:
    """Run the benchmark."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(work, layers, hidden)
        os.chdir(work)
        competitors = Competitors(work, prompts, tokens)
        ways = {
            "11 x generation alone": competitors.generation_alone,
            "11 ratios, merged again": competitors.merged_again,
            "11 ratios, live paths": competitors.live_paths,
            "11 x inspect eval": competitors.evals,
            "medbench sweep": competitors.sweep,
        }
        left_out = {"engine": list(ways)[3:], "inspect": list(ways)[1:3], None: []}[only]
        ways = {name: way for name, way in ways.items() if name not in left_out}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        shares = []
        for number in range(rounds + 1):
            competitors.count = prompts if number else 8  # a short warm-up: imports, first logs
            for name, way in ways.items():
                competitors.switching = [0.0, 0.0]
                begin, cpu = time.perf_counter(), time.process_time()
                way()
                wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
                click.echo(f"  {number} {name} {wall:.2f} s, cpu {cpu:.2f} s", err=True)
                if number == 0:
                    continue
                times[name].append((wall, cpu))
                if name == "11 ratios, merged again":
                    waited, worked = competitors.switching
                    shares.append((waited / len(RATIOS), waited / wall, worked / len(RATIOS), worked / cpu))
    alone = statistics.median(cpu for _, cpu in times["11 x generation alone"])
    first = statistics.median(wall for wall, _ in times["11 x generation alone"])
    click.echo(f"{'':26}{'wall s':>8}{'x':>7}{'cpu s':>8}{'x':>7}")
    for name, results in times.items():
        wall, cpu = (statistics.median(values) for values in zip(*results, strict=True))
        click.echo(f"{name:26}{wall:8.2f}{wall / first:7.2f}{cpu:8.2f}{cpu / alone:7.2f}")
    if not shares:
        return
    waited, of_wall, worked, of_cpu = (statistics.median(values) for values in zip(*shares, strict=True))
    click.echo(
        f"switching the ratio, of 'merged again': {waited * 1e3:.1f} ms wall each ({of_wall:.2%}), "
        f"{worked * 1e3:.1f} ms processor time each ({of_cpu:.2%})"
    )


if __name__ == "__main__":
    main()
