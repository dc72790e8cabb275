"""Chinese word segmentation with exactly jieba's output, on arrays of code points.

`jieba.cut(text)` in its default mode (0.42.1): the path of highest unigram probability through the dictionary's words,
then a hidden Markov model over the stretches where that path left single characters. The same dictionary, the same
probabilities, additions in the same order and ties broken the same way, so that the words are the same; only the
loops are compiled. The dictionary is read from the installed jieba package when first needed (about half a second,
once a process, under a lock); jieba's own loader, its log lines on stderr and its cache file in /tmp stay out of it.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medbench.surface.kernels import announced, jit, mix_bits, table_size

HAN_FIRST, HAN_LAST = 0x4E00, 0x9FD5  # jieba's own range of Chinese characters
# The literal 0 would have every kernel that takes it compiled once more, for it alone.
_0: int = np.int64(0)  # type: ignore[assignment]
STATES = "BEMS"  # in alphabetical order, by which jieba breaks ties between equal probabilities


class Model(NamedTuple):
    """jieba's dictionary as a trie, and its hidden Markov model, as arrays.

    Attributes:
        keys: open-addressing table of edges, uint64: (node << 21 | code point) + 1, or 0 where empty.
        children: the node each edge leads to.
        log_frequency: per node, the log of the word's count; -1 where the node is only a prefix.
        log_total: the log of all counts.
        start: log-probability of starting in each of `STATES`, shape (4,).
        transition: from state to state, shape (4, 4).
        emission: of each Chinese character in each state, shape (4, characters).
    """

    keys: np.ndarray
    children: np.ndarray
    log_frequency: np.ndarray
    log_total: float
    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray


_loading = threading.Lock()


def model() -> Model:
    """The installed jieba's dictionary and probabilities, read at the first call."""
    with _loading:
        return _load()


@functools.cache
def _load() -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's sources hold escapes that newer Pythons warn about
        import jieba
        from jieba.finalseg import MIN_FLOAT, prob_emit, prob_start, prob_trans

    frequencies: dict[str, int] = {}
    total = 0
    with Path(jieba.__file__).with_name(jieba.DEFAULT_DICT_NAME).open(encoding="utf-8") as lines:
        for line in lines:
            word, frequency = line.split(" ", 2)[:2]
            frequencies[word] = int(frequency)
            total += int(frequency)
    words = list(frequencies)
    keys, children, counts = _build_trie(
        code_points("".join(words)),
        np.fromiter(map(len, words), np.int64, len(words)),
        np.fromiter(frequencies.values(), np.int64, len(words)),
    )
    distinct, where = np.unique(counts, return_inverse=True)
    # math.log, as jieba calls it: another library's log may differ in the last bit, and with it a tie
    logs = np.array([math.log(count) if count else -1.0 for count in distinct.tolist()])
    emission = np.full((4, HAN_LAST - HAN_FIRST + 1), MIN_FLOAT)
    for state, probabilities in prob_emit.P.items():
        for character, probability in probabilities.items():
            if HAN_FIRST <= ord(character) <= HAN_LAST:
                emission[STATES.index(state), ord(character) - HAN_FIRST] = probability
    return Model(
        keys,
        children,
        logs[where],
        math.log(total),
        np.array([prob_start.P[state] for state in STATES]),
        np.array([[prob_trans.P[old].get(new, MIN_FLOAT) for new in STATES] for old in STATES]),
        emission,
    )


def code_points(text: str) -> np.ndarray:
    """The code points of a text, uint32. Lone surrogates, which broken JSON escapes leave behind, pass through."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def cut(codes: np.ndarray) -> np.ndarray:
    """Segment a text as jieba does.

    Args:
        codes: its code points (`code_points`).

    Returns:
        Where each word ends, int64, ascending; words follow each other without gaps, white space included.
    """
    return _cut(codes, *model())


@jit
def _edge_key(node: int, code: int) -> np.uint64:
    return ((np.uint64(node) << np.uint64(21)) | np.uint64(code)) + np.uint64(1)


@announced
def _build_trie(codes: np.ndarray, lengths: np.ndarray, frequencies: np.ndarray) -> tuple:
    size = table_size(len(codes))
    keys = np.zeros(size, np.uint64)
    children = np.zeros(size, np.int32)
    counts = np.zeros(len(codes) + 1, np.int64)
    nodes, position = 1, 0
    for word in range(len(lengths)):
        node = _0
        for _ in range(lengths[word]):
            key = _edge_key(node, codes[position])
            position += 1
            slot = np.int64(mix_bits(key) & np.uint64(size - 1))
            while keys[slot] != 0 and keys[slot] != key:
                slot = (slot + 1) & (size - 1)
            if keys[slot] == 0:
                keys[slot], children[slot] = key, nodes
                nodes += 1
            node = children[slot]
        counts[node] = frequencies[word]
    return keys, children, counts[:nodes].copy()


@jit
def _child(node: int, code: int, keys: np.ndarray, children: np.ndarray) -> int:
    """The node that `code` leads to, -1 if no word of the dictionary goes on like that."""
    key = _edge_key(node, code)
    slot = np.int64(mix_bits(key) & np.uint64(len(keys) - 1))
    while keys[slot] != 0:
        if keys[slot] == key:
            return children[slot]
        slot = (slot + 1) & (len(keys) - 1)
    return -1


@jit
def _is_han(code: int) -> bool:
    return HAN_FIRST <= code <= HAN_LAST


@jit
def _is_alphanumeric(code: int) -> bool:
    return 48 <= code <= 57 or 65 <= code <= 90 or 97 <= code <= 122


@jit
def _in_block(code: int) -> bool:
    """Whether jieba looks the character up in its dictionary (its `re_han_default`): Chinese, a-z, 0-9 and +#&._%-"""
    return _is_han(code) or _is_alphanumeric(code) or code in (35, 37, 38, 43, 45, 46, 95)


@jit
def _cut(
    codes: np.ndarray,
    keys: np.ndarray,
    children: np.ndarray,
    log_frequency: np.ndarray,
    log_total: float,
    start: np.ndarray,
    transition: np.ndarray,
    emission: np.ndarray,
) -> np.ndarray:
    size = len(codes)
    ends = np.empty(size, np.int64)
    count, i = _0, _0
    score = np.zeros(size + 1)  # best log-probability of the rest of the block from each position on
    path = np.empty(size, np.int64)  # where the best word from each position ends
    while i < size:
        if not _in_block(codes[i]):
            # one word a character, but a Windows line end is one word
            i += 2 if codes[i] == 13 and i + 1 < size and codes[i + 1] == 10 else 1
            ends[count] = i
            count += 1
            continue
        block_end = i + 1
        while block_end < size and _in_block(codes[block_end]):
            block_end += 1
        _best_path(codes, i, block_end, keys, children, log_frequency, log_total, score, path)
        singles = i  # start of the run of single characters that is still open
        while i < block_end:
            if path[i] - i > 1:
                count = _cut_singles(
                    codes, singles, i, keys, children, log_frequency, start, transition, emission, ends, count
                )
                ends[count] = path[i]
                count += 1
                singles = path[i]
            i = path[i]
        count = _cut_singles(
            codes, singles, block_end, keys, children, log_frequency, start, transition, emission, ends, count
        )
    return ends[:count].copy()


@jit
def _best_path(
    codes: np.ndarray,
    begin: int,
    end: int,
    keys: np.ndarray,
    children: np.ndarray,
    log_frequency: np.ndarray,
    log_total: float,
    score: np.ndarray,
    path: np.ndarray,
) -> None:
    """Fill `score` and `path` for one block, from its end backwards. Of equal paths the longer first word wins."""
    score[end] = 0.0
    for i in range(end - 1, begin - 1, -1):
        best, best_end = -np.inf, i + 1
        j = i
        node = _child(_0, codes[i], keys, children)
        while node >= 0:
            j += 1
            if log_frequency[node] >= 0:
                value = log_frequency[node] - log_total + score[j]
                if value >= best:
                    best, best_end = value, j
            if j == end:
                break
            node = _child(node, codes[j], keys, children)
        if best == -np.inf:  # no word starts here: the character stands alone with a count of one
            best = 0.0 - log_total + score[i + 1]
        score[i], path[i] = best, best_end


@jit
def _cut_singles(
    codes: np.ndarray,
    begin: int,
    end: int,
    keys: np.ndarray,
    children: np.ndarray,
    log_frequency: np.ndarray,
    start: np.ndarray,
    transition: np.ndarray,
    emission: np.ndarray,
    ends: np.ndarray,
    count: int,
) -> int:
    """Cut a run of characters that the dictionary path left single; return the new number of words."""
    if end - begin <= 1:
        if end > begin:
            ends[count] = end
            count += 1
        return count
    node, i = _0, begin
    while node >= 0 and i < end:
        node = _child(node, codes[i], keys, children)
        i += 1
    if node >= 0 and log_frequency[node] >= 0:  # a known word that the path split up: jieba keeps it split
        for j in range(begin, end):
            ends[count] = j + 1
            count += 1
        return count
    i = begin
    while i < end:
        j = i + 1
        if _is_han(codes[i]):
            while j < end and _is_han(codes[j]):
                j += 1
            count = _viterbi(codes, i, j, start, transition, emission, ends, count)
        elif _is_alphanumeric(codes[i]):
            # jieba's [a-zA-Z0-9]+(?:\.\d+)?%?
            while j < end and _is_alphanumeric(codes[j]):
                j += 1
            if j + 1 < end and codes[j] == 46 and 48 <= codes[j + 1] <= 57:
                j += 2
                while j < end and 48 <= codes[j] <= 57:
                    j += 1
            if j < end and codes[j] == 37:
                j += 1
            ends[count] = j
            count += 1
        else:
            while j < end and not _is_han(codes[j]) and not _is_alphanumeric(codes[j]):
                j += 1
            ends[count] = j
            count += 1
        i = j
    return count


@jit
def _viterbi(
    codes: np.ndarray,
    begin: int,
    end: int,
    start: np.ndarray,
    transition: np.ndarray,
    emission: np.ndarray,
    ends: np.ndarray,
    count: int,
) -> int:
    """Cut one run of Chinese characters by the hidden Markov model; return the new number of words."""
    length = end - begin
    previous = np.array([[1, 3], [0, 2], [0, 2], [1, 3]])  # which states may precede B, E, M, S
    back = np.zeros((length, 4), np.int8)
    value = np.empty(4)
    for state in range(4):
        value[state] = start[state] + emission[state, codes[begin] - HAN_FIRST]
    for t in range(1, length):
        new = np.empty(4)
        for state in range(4):
            emitted = emission[state, codes[begin + t] - HAN_FIRST]
            first, second = previous[state, 0], previous[state, 1]
            one = value[first] + transition[first, state] + emitted
            two = value[second] + transition[second, state] + emitted
            if two >= one:
                new[state], back[t, state] = two, second
            else:
                new[state], back[t, state] = one, first
        value = new
    state = 3 if value[3] >= value[1] else 1
    states = np.empty(length, np.int8)
    for t in range(length - 1, -1, -1):
        states[t] = state
        state = back[t, state]
    for t in range(length):
        if states[t] == 1 or states[t] == 3:  # E and S end a word
            ends[count] = begin + t + 1
            count += 1
    return count
