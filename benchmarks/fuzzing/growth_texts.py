"""Pieces of text that patterns and loops stumble over when they are repeated."""

from __future__ import annotations

PIECES = (
    # tags, closed, unclosed, mentioned, half
    "<think>", "</think>", "<think></think>", "<think>a", "a</think>", "<think", "<", ">", "< / ", "&lt;",
    "<think> and ",
    "`<think>`", "the <think> tag ", "[THINK]", "<|channel|>", "<|channel|>analysis<|message|>", "<|end|>",
    "<|start|>",
    "<think ", "<a:think x", "<answer>", "<answer>B", "</answer>", "<answer>B</answer>", "<del>", "~~", "~~a",
    # marks and white space
    " ", "\n", "\t", "\r\n", " \n", "\n ", "\u3000", "\u200b", ".", ". ", ",", ",,, ", "...", "…", "-", "–", "_",
    "*", "**",
    "#", "# ", "|", "'", "''", " '", "a'", '"', '" ', '"a', "`", "```", "```\n", "`a", "(", ")", "()", "[", "{", "}",
    "{}",
    "\\", "\\n", "\\boxed{", "\\boxed{\\text{", "$", "!", "?", "? ",
    "！？", "。", "，", "：", "“", "”", "「", "（A）",
    # letters and lists
    "A", "B ", "A ", "AB", "ABCD", "A, ", "A or ", "A and ", "A/", "A|B ", "A.", "A. ", "A) ", "(A) ", "(A) a, ",
    "A\n",
    "\nA. x", "A. x\n", "A: x; ", "- A\n", "• B: ", "A,B,", "(A", "A)", "B is ", "B is not ", "a ", "b) ",
    "A B C D ", "A-", "A、",
    "option A ", "option ", "the option ", "A is correct, B is wrong. ", "not A, not B, ", "A; B; ", "E. coli ",
    "vitamin B ",
    # words of the rules
    "answer", "answer ", "answer: ", "Answer:\n", "answer is ", "the answer is ", "the answer is not ",
    "the answer is B. ",
    "Answer: A\n", "the correct answer is option ", "final answer ", "final ", "not ", "not not not ", "no ", "yes ",
    "yes, ",
    "yes no ", "yes or no ", "maybe ", "no, ", "no - ", "... no, ", "wait, ", "wait ", "actually, ", "but ", "if ",
    "so ", "therefore ",
    "all of the above ", "none of the above ", "none ", "all ", "except ", "between ", "because ", "had ", "i ",
    "i'm ", "i can't ",
    "Question: ", "\nQuestion 1:", "\nHuman: ", "\nuser\n", "\nuser\na\nassistant\n", "[INST]", "<|im_start|>user\n",
    "Human: ",
    "{\"answer\": ", "{\"answer\": \"B\"}", "\"answer\":", "{answer:", ",answer:", "{,", "unlike A, ",
    "I think it is B ",
    # Chinese
    "答", "答案", "答案是", "答案：", "答案：A", "选", "选项", "选A", "A项", "不",
    "不是", "是", "否", "是否", "是不是", "不一定", "可能",
    "正确", "错误", "错", "对", "以上都不对", "除", "除了A", "因此", "所以", "因为",
    "更正", "等等", "不，", "。\n", "的", "一", "维生素",
    # figures
    "1", "1 ", "1,", "1,000,", "1.", "1.5", "0.", ".5", "1e5", "1 x 10^", "1-", "1 to ", "= 1", "= ", "=", "is 1 ",
    "1/", "1%", "1 of ",
    "(1) ", "(1", "10^", "1\n", "1/2/", "12/06/2024 ", "17 weeks ", "4 days ", "weeks ", "-1", "±",
    # scripts and odd characters
    "α", "é", "e\u0301", "\u0301", "\u202e", "\ufeff", "\x00",
    "\ud800", "🙂", "👨‍👩‍👧", "ก", "ひ", "あア漢", "ы ", "İ",
    "ß", "ﬁ", "Ａ", "①", "𝐀",
    # long words
    "a", "ab", "aA", "Aa ", "aspirin ", "supercalifragilistic", "a-", "a.", "a b", "x y z ", "the ", "&amp;",
    "&quot;", "-\n",
)  # fmt: skip

# One start, a long middle, one end: what looks for the end from the start, or the other way round.
PREFIXED = (
    ("<think>", "a ", ""), ("", "a ", "</think>"), ("<answer>", "a ", ""), ("<", "a ", ">"), ("<think ", " ", ">"),
    ("The answer is ", " ", "B"), ("Answer:", "\n", "B"), ("Answer:", " ", ""), ("B", " ", ""), ("B", "\n", "A"),
    ("B. ", "a", ""),
    ("B", ".", "a"), ("\"", "a ", "\""), ("(", "a ", ")"), ("{", "a ", "}"), ("```", "a\n", "```"),
    ("not ", "not ", "B"),
    ("answer to ", "a ", " is B"), ("A. x\n", "a ", "\nB. y"), ("is ", "1 ", "%"), ("A", ",", "B"), ("", "a", " B"),
    ("", "B ", "."),
    ("\\boxed{", "{", "B}"), ("~~", "a", "~~"), ("i ", "a ", "is a complaint"), ("if ", "a ", ", B"),
    ("答案是", "的", "B"), ("选", "，", "A"),
    ("analysis", "A ", "assistantfinal"), ("## Thinking\n", "# a\n", "## Final Response\n"), ("~~", "~", "a"),
    ("{", "\"a\":", "1}"),
    ("[", "[", "]"), ("\"", "\\\"", "\""), ("A is ", "not ", "correct"), ("The correct option is", "\t", "C"),
)  # fmt: skip
