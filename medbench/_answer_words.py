"""The words by which people and models state, reject and qualify an answer, in English and Chinese.

`roles_of` turns a stretch of text into a list of roles, one for each word or mark, from a small alphabet.
What a sentence does with an option is then a pattern over roles, the same for both languages.

=========  ==========================================================================================
``A``      the noun answer                      ``=``  is, was, equals, 为
``C``      choose, select, go with, 选          ``:``  a colon, arrow or equals sign
``O``      option, choice, 项                   ``,``  a comma or bullet
``+ -``    correct, wrong                       ``( )``  brackets
``N``      not, no, 不是                        ``.``  the end of a sentence
``E``      rule out, exclude, 排除              ``&``  and, 和
``X``      rather than, except, 而不是          ``R``  or, between, 或
``T``      therefore, so, 故                    ``/``  a slash or 、
``I``      if, 如果                             ``B``  but, whereas, 而
``P``      at first, tempting, 容易误选         ``H``  maybe, might, 可能
``W``      wait, actually, correction, 更正     ``?``  a question mark or 吗
``f``      any other function word              ``w``  any other word
=========  ==========================================================================================
"""

from __future__ import annotations

import re

_ENGLISH = {
    "A": "answer answers ans key exception solution boxed prediction decision verdict judgment judgement response",
    "C": (
        "choose chose chosen choosing select selected selecting pick picked picking picks selects chooses "
        "mark prefer leaves leaving vote"
    ),
    "V": "support supports favours favors supported favour favor favored favoured",
    "O": "option options choice choices letter letters alternative alternatives",
    "+": (
        "correct right true best accurate appropriate suitable valid fits matches proper correctly ideal "
        "better preferred recommended indicated consistent classic typical characteristic suggestive fit fitting wins "
        "optimal safest strongest closest sense yes"
    ),
    "-": (
        "incorrect wrong false inaccurate inappropriate invalid untrue unlikely inconsistent unsuitable "
        "implausible irrelevant incorrectly contraindicated unrelated erroneous mistaken"
    ),
    "N": (
        "not no isn't aren't wasn't never neither cannot can't won't wouldn't don't doesn't didn't hardly "
        "couldn't shouldn't without isnt non nope"
    ),
    "E": (
        "exclude excludes excluded excluding exclusion eliminate eliminates eliminated eliminating discard "
        "discarded reject rejected rejecting dismiss dismissed avoid avoided withhold"
    ),
    "X": "except unlike besides over versus vs than",
    "=": (
        "is are be was were being been it's that's he's equals means remains becomes seems appears looks "
        "there's here's what's includes include suggest suggests indicate indicates imply implies"
    ),
    "T": (
        "therefore thus hence so consequently conclusion conclude finally overall ultimately accordingly "
        "concluding summary"
    ),
    "I": "if suppose supposing assuming unless whether had",
    "P": (
        "initially originally tempting tempted distractor distractors attractive students mistakenly "
        "previously thought formerly earlier"
    ),
    "W": "wait correction scratch oops sorry hmm reconsider reconsidering actually",
    "B": "but however whereas while though although yet",
    "H": ("maybe perhaps might could possibly may unsure probably likely presumably apparently possible would should"),
    "&": "and plus with",
    "R": "or between either nor",
    "f": (
        "statement statements item items the a an my our your this that these those it its i i'd i'll i'm "
        "i've we we'd we'll me you he she they here there as to of in for on at by from because since due "
        "given based which who what when where how only just both also all then than most more clearly "
        "make makes definitely definitively certainly indeed simply final following single one will shall can do does "
        "did has have having must need needs think thinks believe feel say guess assume lean leaning toward "
        "towards give gave state stated therefore's go going let's let stands respectively alone too very "
        "really absolutely still now first second third fourth last question case would've being about with "
        "well ok okay sure please confident said saying good bet says am were out up so-called namely "
        "unfortunately fortunately sadly honestly basically i.e e.g ie eg each every any other others two "
        "three four among concerning regarding called labeled labelled corresponding corresponds represented "
        "indicated thing clear cautious qualified tentative"
    ),
}
_PAIRS = {
    ("rule", "out"): "E", ("ruled", "out"): "E", ("rules", "out"): "E", ("ruling", "out"): "E",
    ("cross", "out"): "E", ("crossed", "out"): "E", ("less", "likely"): "-", ("least", "likely"): "-",
    ("i'd", "say"): "C", ("would", "say"): "C", ("i", "say"): "C", ("i", "think"): "C", ("i", "believe"): "C",
    ("go", "with"): "C", ("going", "with"): "C", ("goes", "with"): "C", ("went", "with"): "C", ("opt", "for"): "C",
    ("looks", "like"): "=", ("seems", "like"): "=", ("left", "with"): "C",
    ("answered", "with"): "C", ("next", "step"): "+", ("diagnosis", "is"): "A", ("diagnosis", ":"): "A",
    ("second", "choice"): "P", ("differential", "diagnosis"): "P",
    ("settle", "on"): "C", ("settled", "on"): "C", ("lean", "toward"): "C", ("lean", "towards"): "C",
    ("leaning", "toward"): "C", ("leaning", "towards"): "C", ("vote", "for"): "C",
    ("respond", "with"): "C", ("reply", "with"): "C",
    ("change", "to"): "C", ("changed", "to"): "C", ("changing", "to"): "C", ("switch", "to"): "C",
    ("switched", "to"): "C", ("switching", "to"): "C", ("decide", "on"): "C",
    ("rather", "than"): "X", ("instead", "of"): "X", ("other", "than"): "X", ("apart", "from"): "X",
    ("aside", "from"): "X", ("as", "opposed"): "X", ("different", "from"): "X", ("not", "only"): "f",
    ("not", "just"): "f", ("no", "doubt"): "f", ("without", "doubt"): "f", ("without", "question"): "f",
    ("anything", "but"): "X", ("nothing", "but"): "f", ("none", "but"): "f", ("exception", "of"): "X",
    ("no", "other"): "f",
    ("none", "other"): "f", ("none other", "than"): "f",
    ("as", "well"): "&", ("along", "with"): "&", ("together", "with"): "&",
    ("most", "likely"): "+", ("most", "appropriate"): "+", ("most", "probable"): "+", ("most", "plausible"): "+",
    ("most", "reasonable"): "+", ("most", "convincing"): "+", ("most", "compelling"): "+", ("most", "logical"): "+",
    ("most", "sensible"): "+", ("going", "to"): "f",
    ("at", "first"): "P", ("first", "thought"): "P", ("first", "instinct"): "P", ("was", "thinking"): "P",
    ("was", "going"): "P", ("might", "think"): "P", ("may", "think"): "P",
    ("used", "to"): "P", ("would", "be"): "=", ("should", "be"): "=", ("must", "be"): "=", ("has", "to"): "=",
    ("second", "thought"): "W", ("scratch", "that"): "W", ("let", "me"): "f", ("not", "sure"): "H",
    ("that", "said"): "B", ("more", "likely"): "+", ("more", "appropriate"): "+",
    ("matches", "option"): "=", ("corresponds", "to"): "=", ("equal", "to"): "=",
}  # fmt: skip

_CHINESE = {
    "A": "正确答案|标准答案|参考答案|最终答案|最佳答案|答案|正解|答|回答|判断结果",
    "C": "更改为|改为|改选|改成|应该选择|应该选|应选择|应选|可选|故选择|故选|选择|选定|勾选|选取|选用|倾向于|选",
    "O": "选项|项|一项",
    "+": (
        "首选|首先考虑|优先考虑|更可能|是对的|正确的|正确|准确|最佳|最符合|最合适|最适合|最可能|符合题意|符合|合适|恰当|成立|没有错|无误|对的|对"
    ),
    "-": (
        "不正确|不是正确|错误的|错误|错的|是错的|不对|不符合题意|不符合|不符|有误|不当|不妥|不准确|不合适|"
        "不恰当|不成立|不适合|不适用|不考虑|无关|不属于|不是本题|错|误"
    ),
    "N": "并不是|不是|并非|不能|不应该|不应|不会|不可|不选|没有|未|勿|别|非|不|无",
    "E": "予以排除|可以排除|可排除|应排除|均排除|被排除|排除|避免|禁用|剔除|划掉",
    "X": "而不是|而非|除外|除了|除|不包括|以外|之外",
    "=": "应该是|应当是|应当为|应该为|应为|应是|就是|即为|即是|则为|便是|是|为|即|有|包括",
    "T": "综上所述|综上|因此|因而|所以|由此可见|可见|由此|总之|综合来看|综合分析|综合考虑|结论|故|从而",
    "I": "如果|假如|假设|假定|倘若|若是|若",
    "P": ("起初|最初|本来|一开始|原以为|原本|容易误选|易误选|误选|误认为|干扰项|易错|容易选|很多人|有人|乍一看|之前"),
    "W": "等等|更正|纠正|修正|不对，|等一下|重新考虑|抱歉|说错了|再想想",
    "w": "次选|备选",
    "B": "但是|但|而|然而|不过|却|虽然|尽管",
    "H": "可能|也许|大概|或许|似乎|好像|应该|猜",
    "&": "以及|和|与|及|跟|并且|加",
    "R": "或者|或是|或|还是|要么|之间|介于",
    "?": "吗|呢|是否|哪",
    "f": (
        "说法|叙述|描述|我认为|我觉得|我|你|您|本题的|本题|此题|该题|这道题|题目|题|的|地|得|最终|最后|最|都|"
        "均|也|只有|只能|只|仅|其中|其余|其他|它|这个|这|那|该|此|在|于|将|会|能|可以|可|应|则|就|并|又|再|"
        "更为|更|较为|较|才|已|了|因为|由于|因|根据|考虑|认为|判断|确定|一般|首先|其次|属于|当然|肯定|显然|明显|直接|请|正|"
        "所述|以下|下列|上述|以上|两者|二者|三者|全部|全|单|多|个|种|是|呀|啊|吧|哦|嗯|好|给出|得出|得到|综"
    ),
}


def _lexicon(groups: dict[str, str], separator: str | None) -> dict[str, str]:
    roles: dict[str, str] = {}
    for role, words in groups.items():
        for word in words.split(separator):
            roles.setdefault(word, role)
    return roles


_WORDS = _lexicon(_ENGLISH, None)
_HAN = _lexicon(_CHINESE, "|")
_MARKS = {
    **dict.fromkeys("√✓✔✅☑", "+,"), **dict.fromkeys("×✗✘❌╳", "-,"),  # a mark is a verdict whatever follows it
    ".": ".", "!": ".", "。": ".", "！": ".", ";": "/", "；": "/", "\n": ".", "?": "?", "？": "?",
    ",": ",", "，": ",", "•": ",", "·": ",", "-": ",", "–": ",", "—": ",", "|": ",",
    "、": "/", "/": "/", "+": "/", "&": "&", ":": ":", "：": ":", "=": ":", "→": ":", ">": ":", "⇒": ":",
    "(": "(", "（": "(", "[": "(", "【": "(", "<": "(", "{": "(", "《": "(",
    ")": ")", "）": ")", "]": ")", "】": ")", "}": ")", "》": ")",
}  # fmt: skip
_HEADS = "".join(sorted({word[0] for word in _HAN}))
# Characters that begin no word of the lexicon are passed over before its words are tried, longest first.
_TOKEN = re.compile(
    rf"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?%?|[^\W\da-z_{_HEADS}]|"
    + "|".join(map(re.escape, sorted(_HAN, key=len, reverse=True)))
    + r"|[^\w\s]|\n"
)
_ROLES = _MARKS | _HAN | _WORDS
_SECONDS = frozenset(second for _, second in _PAIRS)


def roles_of(text: str, start: int, end: int) -> list[str]:
    """The roles of the words and marks of `text[start:end]`, in order. `text` is in lower case."""
    roles: list[str] = []
    previous = ""
    for word in _TOKEN.findall(text, start, end):
        if word in _SECONDS and (previous, word) in _PAIRS:
            roles[-1] = _PAIRS[previous, word]
            word = f"{previous} {word}"  # so that a third word can change it: "none other than"
        else:
            role = _ROLES.get(word)
            if word == "had" and roles and roles[-1] not in ".,B":
                role = "f"  # "Had she ..., " supposes, "she had ..." does not
            elif role is None and word.endswith("'s"):
                role = _ROLES.get(word[:-2], "w") + "="  # "the answer's B"
            elif role is None:
                role = "f" if word[-1] == "%" else "w" if word[0].isalnum() else ""
            roles.extend(role or "")  # one role an element, so that places in the list are places in the string
        previous = word
    return roles
