"""Valid rows of the files that people have, which the fuzzer changes."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

OWN: list[list[Row]] = [
    [{"question": "Which drug?", "options": {"A": "aspirin", "B": "heparin"}, "answer_idx": "B", "meta_info": "step1"}]
    * 2,
    [{"stem": "哪项正确？", "选项": "A. 阿司匹林\nB. 肝素\nC. 华法林", "答案": "AC", "解析": "因为"}] * 2,
    [
        {"question": "Q", "choices": ["a", "b", "c"], "answer": 2, "group": 7},
        {"question": "R", "choices": ["d", "e"], "answer": 0},
    ],
    [{"instruction": "What helps?", "input": "", "output": "Rest and water."}] * 2,
    [{"messages": [{"role": "user", "content": "What helps?"}, {"role": "assistant", "content": "Rest."}]}] * 2,
    [{"conversations": [{"from": "human", "value": "What helps?"}, {"from": "gpt", "value": "Rest."}]}],
    [{"QUESTION": "Is it so?", "CONTEXTS": ["one", "two"], "LONG_ANSWER": "It is.", "final_decision": "yes"}] * 2,
    [{"Question": "哪项？", "Options": "A 一\\nB 二", "Answer": "A,B", "Explanation": "因"}],
    [{"question": "Q?", "A": "one", "B": "two", "C": "", "D": None, "key": "B"}] * 3,
]

PREDICTIONS: dict[str, list[Row]] = {
    "llamafactory": [
        {
            "prompt": "<|im_start|>user\nWhat helps?<|im_end|>\n<|im_start|>assistant\n",
            "predict": "Rest.",
            "label": "Rest and water.",
        },
        {"prompt": "user\nWhat else?\nassistant\n", "predict": "<think>a</think>B", "label": "Water."},
    ],
    "lm-eval": [
        {
            "doc_id": 0,
            "doc": {"question": "Q?", "options": {"A": "a", "B": "b"}, "answer_idx": "A"},
            "target": "0",
            "filter": "none",
            "arguments": {"gen_args_0": {"arg_0": "Q?", "arg_1": " a"}, "gen_args_1": {"arg_0": "Q?", "arg_1": " b"}},
            "resps": [[["-1.5", "False"]], [["-2.5", "True"]]],
            "filtered_resps": [["-1.5", "False"]],
        },
        {
            "doc_id": 1,
            "doc": {"question": "Q?"},
            "target": "A",
            "arguments": [["Q?", {"until": ["\n"]}]],
            "resps": [["The answer is A."]],
        },
    ],
    "evalscope": [
        {
            "index": 0,
            "messages": [{"role": "user", "content": "Q?"}],
            "target": "A",
            "model_output": {
                "choices": [
                    {"message": {"content": [{"type": "reasoning", "reasoning": "r"}, {"type": "text", "text": "A"}]}}
                ]
            },
        },
        {
            "index": 1,
            "target": ["B"],
            "messages": [{"role": "user", "content": "Q?"}],
            "sample_score": {"score": {"prediction": "B"}},
        },
    ],
    "opencompass": [
        {"origin_prompt": [{"role": "HUMAN", "prompt": "Q?"}], "prediction": "A", "gold": "A"},
        {"origin_prompt": "R?", "prediction": "B", "gold": "B"},
    ],
    "helm": [
        {
            "adapter_spec": {"method": "multiple_choice_joint", "model": "m"},
            "request_states": [
                {
                    "instance": {
                        "id": "id0",
                        "input": {"text": "Q?"},
                        "references": [
                            {"output": {"text": "a"}, "tags": ["correct"]},
                            {"output": {"text": "b"}, "tags": []},
                        ],
                    },
                    "request": {"prompt": "Q? A. a B. b"},
                    "output_mapping": {"A": "a", "B": "b"},
                    "result": {"success": True, "completions": [{"text": "A", "thinking": {"text": "r"}}]},
                }
            ],
        },
        {"instance_id": "id0", "predicted_text": "A", "stats": {}, "thinking_text": "r"},
    ],
    "csv": [{"id": "1", "prediction": "A", "prompt": "Q?", "reference": "A", "model": "m"}] * 2,
    "plain": [{"prompt": "Q?", "output": "A"}] * 2,
}

FINDINGS: list[Row] = [
    {
        "corpus_file": "c.jsonl", "record": 3, "item_id": "0123456789abcdef", "field": "question", "signal": signal,
        "score": 0.97,
        "corpus_span": [0, 40], "item_span": [0, 40], "corpus_text": "t", "item_text": "t",
    }
    for signal in ("verbatim", "near", "short")
]  # fmt: skip
