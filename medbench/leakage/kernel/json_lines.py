"""The sieve over lines of JSON as they lie in a file: parsed and read in one pass, strings never copied."""

from __future__ import annotations

import numpy as np

from medbench.leakage.kernel.compiled import compiled, inner
from medbench.leakage.kernel.judge import finish_record
from medbench.leakage.kernel.table import COUNTS, EPOCH_BITS, EXACT, SHINGLES, take
from medbench.leakage.kernel.text import CHARACTER, SEED, finish, put, read

# What a line of JSON is to `sift_lines`.
BLANK, PLAIN, OTHER = 0, 1, 2
_DEEPEST = 32  # nested containers, and keys of one object, of a plain line
_OBJECT = 1
# What may come next in a line of JSON.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _MORE_OR_END = range(6)
_EPOCH_BITS = np.uint64(EPOCH_BITS)
_0, _1, _2, _4, _6, _10, _1023 = (np.uint64(n) for n in (0, 1, 2, 4, 6, 10, 1023))


@compiled
def sift_lines(
    buffer, line_begin, line_end, json_table, table, pool, sieve, judge, epoch, kind, record_shingles, record_bytes
):  # fmt: skip
    """`sift.sift` over lines of JSON as they lie in a file, one record each; its texts are all strings but keys.

    Args:
        buffer: uint8; after each line a line feed, after the last three more bytes.
        line_begin, line_end: int64: where the lines are, without their line feeds.
        json_table: `ascii_table`, with `STOP` for quotation mark, backslash and control characters.
        kind: uint8 (lines,): filled. PLAIN lines are valid JSON whose texts were read here. OTHER lines hold something
            that needs a second look (broken, not UTF-8, tags or marks, lone surrogates, repeated keys, very deep or
            wide): what is found in them does not count.
        record_shingles, record_bytes: int64 (lines,): filled with the number of shingles, and of bytes of UTF-8, of the
            texts of PLAIN lines.

    Returns:
        int64 array of shape (candidates, 2): line, target; ordered by line.
    """
    raw = sieve.raw
    count = np.zeros(COUNTS, np.int64)
    found = np.empty((256, 2), np.int64)
    n_found = np.int64(0)  # a literal would have every function that takes it compiled once more
    containers = np.empty(_DEEPEST, np.int64)
    keys = np.empty((_DEEPEST, _DEEPEST), np.uint64)
    n_keys = np.empty(_DEEPEST, np.int64)
    for r in range(line_begin.size):
        kind[r] = BLANK
        for byte in buffer[line_begin[r] : line_end[r]]:
            if byte != 32 and (byte < 9 or byte > 13):  # more than what `bytes.isspace` takes for space
                kind[r] = OTHER
                break
        if kind[r] == BLANK:
            continue
        i, end = np.uint64(line_begin[r]), np.uint64(line_end[r])
        now = np.uint64(epoch + r) << _EPOCH_BITS
        count[:] = 0
        depth = 0
        size = _0
        wanted = _VALUE
        while i < end:
            byte = buffer[i]
            if byte == 32 or byte == 9 or byte == 13:
                i += _1
            elif byte == 34:  # "
                if wanted in (_VALUE, _VALUE_OR_END):
                    i, units, held = _json_string(buffer, i + _1, end, json_table, table, pool, raw)
                    if i == _0:
                        break
                    size += held
                    take(np.int64(units), now, sieve, count)
                    wanted = _MORE_OR_END
                elif wanted in (_KEY, _KEY_OR_END):
                    i, key = _json_key(buffer, i + _1, end, json_table, table, pool, raw)
                    if i == _0 or n_keys[depth - 1] == _DEEPEST:
                        break
                    repeated = False
                    for k in range(n_keys[depth - 1]):
                        repeated |= keys[depth - 1, k] == key
                    if repeated:  # the last one counts, and that is not known yet
                        break
                    keys[depth - 1, n_keys[depth - 1]] = key
                    n_keys[depth - 1] += 1
                    wanted = _COLON
                else:
                    break
            elif byte == 58:  # :
                if wanted != _COLON:
                    break
                i += _1
                wanted = _VALUE
            elif byte == 44:  # ,
                if wanted != _MORE_OR_END or depth == 0:
                    break
                i += _1
                wanted = _KEY if containers[depth - 1] == _OBJECT else _VALUE
            elif byte == 123 or byte == 91:  # { [
                if wanted not in (_VALUE, _VALUE_OR_END) or depth == _DEEPEST:
                    break
                i += _1
                containers[depth] = byte == 123
                n_keys[depth] = 0
                wanted = _KEY_OR_END if byte == 123 else _VALUE_OR_END
                depth += 1
            elif byte == 125 or byte == 93:  # } ]
                empty = _KEY_OR_END if byte == 125 else _VALUE_OR_END
                closes = depth > 0 and containers[depth - 1] == (byte == 125)
                if not closes or (wanted not in (_MORE_OR_END, empty)):
                    break
                i += _1
                depth -= 1
                wanted = _MORE_OR_END
            else:
                if wanted not in (_VALUE, _VALUE_OR_END):
                    break
                i = _json_literal(buffer, i, end)
                if i == _0:
                    break
                wanted = _MORE_OR_END
        if i != end or depth > 0 or wanted != _MORE_OR_END:
            continue
        kind[r] = PLAIN
        record_shingles[r] = count[EXACT + SHINGLES]
        record_bytes[r] = size
        found, n_found = finish_record(r, now, sieve, judge, count, found, n_found)
    return found[:n_found]


@inner
def _json_string(buffer, i, end, json_table, table, pool, raw):
    """A string from after its first quotation mark: where it ends (0 for OTHER), its units in `raw`, its bytes."""
    n = inside = size = _0
    h = SEED
    while True:
        begin = i
        i, n, h, inside, mark = read(buffer, i, end, json_table, table, pool, raw, n, h, inside)
        size += i - begin
        if mark or i >= end:
            return _0, n, size
        if buffer[i] == 34:
            raw[n] = h
            return i + _1, n + inside, size
        if buffer[i] != 92 or i + _1 >= end:
            return _0, n, size
        after = buffer[i + _1]
        if after == 117:  # u
            code, i = _json_escape(buffer, i, end)
            if i == _0:
                return _0, n, size
            n, h, inside, mark = put(code, table, pool, raw, n, h, inside)
            if mark:
                return _0, n, size
            size += _1 + np.uint64(code > 0x7F) + np.uint64(code > 0x7FF) + np.uint64(code > 0xFFFF)
        elif after in (34, 92, 47, 98, 102, 110, 114, 116):  # " \\ / b f n r t: all of them separate words
            raw[n] = h
            n += inside
            h = SEED
            inside = _0
            size += _1
            i += _2
        else:
            return _0, n, size


@inner
def _json_escape(buffer, i, end):
    r"""The character that ``\u`` at byte `i` or a pair of surrogates stands for, and where it ends (0 for OTHER)."""
    code, i = _json_hex(buffer, i, end)
    if i == _0 or code < 0xD800 or code > 0xDFFF:
        return code, i
    if code > 0xDBFF or i + _6 > end or buffer[i] != 92 or buffer[i + _1] != 117:
        return _0, _0
    low, i = _json_hex(buffer, i, end)
    if i == _0 or low < 0xDC00 or low > 0xDFFF:
        return _0, _0
    return np.uint64(0x10000) + ((code & _1023) << _10 | (low & _1023)), i


@inner
def _json_hex(buffer, i, end):
    if i + _6 > end:
        return _0, _0
    code = _0
    for k in range(np.int64(i) + 2, np.int64(i) + 6):
        digit = np.int64(buffer[k])
        if digit >= 48 and digit <= 57:
            digit -= 48
        elif (digit >= 65 and digit <= 70) or (digit >= 97 and digit <= 102):
            digit = (digit & 31) + 9
        else:
            return _0, _0
        code = code << _4 | np.uint64(digit)
    return code, i + _6


@inner
def _json_key(buffer, i, end, json_table, table, pool, raw):
    """A key without escapes from after its first quotation mark: where it ends (0 for OTHER), and its hash."""
    begin = i
    h = SEED
    high = False
    while i < end and buffer[i] != 34:
        if buffer[i] == 92 or buffer[i] < 32:
            return _0, h
        high |= buffer[i] >= 0x80
        h = (h ^ np.uint64(buffer[i])) * CHARACTER
        i += _1
    if i >= end or (high and read(buffer, begin, i, json_table, table, pool, raw, _0, SEED, _0)[0] != i):
        return _0, h
    return i + _1, finish(h)


@inner
def _json_literal(buffer, i, end):
    """A number, true, false or null that begins at byte `i`: where it ends, 0 for OTHER."""
    byte = buffer[i]
    if byte == 116 or byte == 110:
        word = (116, 114, 117, 101) if byte == 116 else (110, 117, 108, 108)
        for k in range(4):
            if i + np.uint64(k) >= end or buffer[i + np.uint64(k)] != word[k]:
                return _0
        return i + _4
    if byte == 102:
        word = (97, 108, 115, 101)
        for k in range(4):
            if i + np.uint64(k + 1) >= end or buffer[i + np.uint64(k + 1)] != word[k]:
                return _0
        return i + _4 + _1
    if byte == 45:
        i += _1
    first = i
    i = _digits(buffer, i, end)
    if i == first or (buffer[first] == 48 and i > first + _1):
        return _0
    if i < end and buffer[i] == 46:
        first = i + _1
        i = _digits(buffer, first, end)
        if i == first:
            return _0
    if i < end and (buffer[i] == 101 or buffer[i] == 69):
        first = i + _1
        if first < end and (buffer[first] == 43 or buffer[first] == 45):
            first += _1
        i = _digits(buffer, first, end)
        if i == first:
            return _0
    return i


@inner
def _digits(buffer, i, end):
    while i < end and buffer[i] >= 48 and buffer[i] <= 57:
        i += _1
    return i
