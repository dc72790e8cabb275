"""Compiled counting loops behind the surface metrics: n-gram overlap and the longest common subsequence.

Everything here is exact (words are compared, not only their hashes), takes and returns arrays, keeps no state between
calls and releases the GIL, so calls from several threads need no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.compiling import F, announce, kernel

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

jit = kernel


def announced(function: F) -> Dispatcher[F]:
    """`jit`, and a line on stderr where the surface metrics begin with compiling this function."""
    dispatcher: Dispatcher[F] = jit(function)
    announce(dispatcher, "the surface metrics", 9)
    return dispatcher


@jit
def mix_bits(value: np.uint64) -> np.uint64:
    """Spread a 64-bit value over all its bits (the finalizer of MurmurHash3)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@jit
def table_size(entries: int) -> int:
    """A power of two that leaves an open-addressing table at most half full."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@announced
def number_words(
    hyp_codes: np.ndarray, hyp_spans: np.ndarray, ref_codes: np.ndarray, ref_spans: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Number the words of two texts so that equal words, and only those, share a number.

    Args:
        hyp_codes: the code points of the first text, uint32.
        hyp_spans: its words as (start, end) offsets, shape (words, 2); start == end is the empty word.
        ref_codes: the code points of the second text.
        ref_spans: its words.

    Returns:
        One int32 number a word, 0 upwards in order of first appearance, for either text.
    """
    codes = np.concatenate((hyp_codes, ref_codes))
    hyp_count, total = len(hyp_spans), len(hyp_spans) + len(ref_spans)
    size = table_size(total)
    slots = np.full(size, -1, np.int32)
    first = np.empty((total, 2), np.int64)
    numbers = np.empty(total, np.int32)
    used = 0
    for word in range(total):
        if word < hyp_count:
            start, end = np.int64(hyp_spans[word, 0]), np.int64(hyp_spans[word, 1])
        else:
            start = np.int64(ref_spans[word - hyp_count, 0]) + len(hyp_codes)
            end = np.int64(ref_spans[word - hyp_count, 1]) + len(hyp_codes)
        key = np.uint64(end - start)
        for i in range(start, end):
            key = key * np.uint64(0x9E3779B97F4A7C15) + np.uint64(codes[i])
        slot = np.int64(mix_bits(key) & np.uint64(size - 1))
        while True:
            number = slots[slot]
            if number < 0:
                slots[slot] = used
                first[used, 0], first[used, 1] = start, end
                numbers[word] = used
                used += 1
                break
            same = first[number, 1] - first[number, 0] == end - start
            i = 0
            while same and i < end - start:
                same = codes[first[number, 0] + i] == codes[start + i]
                i += 1
            if same:
                numbers[word] = number
                break
            slot = (slot + 1) & (size - 1)
    return numbers[:hyp_count], numbers[hyp_count:]


@jit
def ngram_overlap(hyp: np.ndarray, ref: np.ndarray, order: int) -> np.ndarray:
    """Count the n-grams that two sequences share, for n = 1 to `order`.

    An n-gram is numbered by its (n-1)-gram prefix and its last token, so every order costs one table look-up a
    position, whatever n.

    Args:
        hyp: tokens of the hypothesis, non-negative integers below 2**32.
        ref: tokens of the reference.
        order: the largest n.

    Returns:
        int64 array of shape (order, 4); columns: occurrences in `hyp` that `ref` has too, each reference occurrence
        used once (BLEU's clipped count); distinct n-grams of `hyp`; of `ref`; of both.
    """
    counts = np.zeros((order, 4), np.int64)
    size = table_size(len(hyp) + len(ref))
    keys = np.empty(size, np.uint64)
    slots = np.empty(size, np.int32)
    in_ref = np.empty(len(hyp) + len(ref), np.int32)
    in_hyp = np.empty(len(hyp) + len(ref), np.int32)
    hyp_prefix = np.zeros(len(hyp), np.uint64)
    ref_prefix = np.zeros(len(ref), np.uint64)
    for n in range(order):
        slots[:] = -1
        used = 0
        for side in range(2):
            tokens, prefix = (ref, ref_prefix) if side == 0 else (hyp, hyp_prefix)
            for i in range(len(tokens) - n):
                key = (prefix[i] << np.uint64(32)) | np.uint64(tokens[i + n])
                slot = np.int64(mix_bits(key) & np.uint64(size - 1))
                while slots[slot] >= 0 and keys[slot] != key:
                    slot = (slot + 1) & (size - 1)
                number = slots[slot]
                if number < 0:
                    number = used
                    used += 1
                    keys[slot], slots[slot] = key, number
                    in_ref[number], in_hyp[number] = 0, 0
                prefix[i] = np.uint64(number)
                if side == 0:
                    counts[n, 2] += in_ref[number] == 0
                    in_ref[number] += 1
                else:
                    if in_hyp[number] == 0:
                        counts[n, 1] += 1
                        counts[n, 3] += in_ref[number] > 0
                    counts[n, 0] += in_hyp[number] < in_ref[number]
                    in_hyp[number] += 1
    return counts


@jit
def lcs_length(hyp: np.ndarray, ref: np.ndarray) -> int:
    """Length of the longest common subsequence of two int32 sequences numbered by `number_words`.

    Bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): 64 cells of the quadratic table are one
    machine word. The table is walked in strips of 64 reference tokens with the carries of one strip handed to the
    next, so memory is linear. What cannot change the length is cut first: the common beginning and end, and
    tokens that the other side lacks.
    """
    begin = 0
    while begin < len(hyp) and begin < len(ref) and hyp[begin] == ref[begin]:
        begin += 1
    hyp, ref = hyp[begin:], ref[begin:]
    end = 0
    while end < len(hyp) and end < len(ref) and hyp[-1 - end] == ref[-1 - end]:
        end += 1
    hyp, ref = hyp[: len(hyp) - end], ref[: len(ref) - end]
    common = begin + end
    if len(hyp) == 0 or len(ref) == 0:
        return common

    vocabulary = 0
    for token in hyp:
        vocabulary = max(vocabulary, token + 1)
    for token in ref:
        vocabulary = max(vocabulary, token + 1)
    shared = np.zeros(vocabulary, np.uint8)
    for token in ref:
        shared[token] |= 1
    for token in hyp:
        shared[token] |= 2
    hyp = hyp[np.array([shared[token] == 3 for token in hyp])]
    ref = ref[np.array([shared[token] == 3 for token in ref])]

    one = np.uint64(1)
    masks = np.zeros(vocabulary, np.uint64)
    carries = np.zeros(len(hyp), np.uint8)
    for strip in range(0, len(ref), 64):
        width = min(64, len(ref) - strip)
        for i in range(width):
            masks[ref[strip + i]] |= one << np.uint64(i)
        column = ~np.uint64(0)
        for j in range(len(hyp)):
            matches = column & masks[hyp[j]]
            partial = column + matches
            total = partial + np.uint64(carries[j])
            carries[j] = (partial < column) | (total < partial)
            column = total | (column & ~matches)
        for i in range(width):
            common += ((column >> np.uint64(i)) & one) == 0
            masks[ref[strip + i]] = np.uint64(0)
    return common
