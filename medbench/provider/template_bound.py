"""Chat templates are programs that come with a model: one that runs away is refused before it is used.

transformers renders a template in Jinja's sandbox, which keeps it from the file system and bounds a single ``range``,
but neither nested loops nor the length of what is written. So the template is first rendered in a process of its own,
for three short conversations with the thinking switch on, off and unset, under limits of processor time, memory and
length. What it does there it does for every conversation of that shape; a template that waits for a certain text
to run away is not caught by this.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys

from medbench.provider.errors import ProviderError

SECONDS = 5  # of processor time for nine renderings; Qwen3's and Llama 3's templates take 0.02
MEGABYTES = 1024
CHARACTERS = 1 << 20  # of a prompt beyond the conversation's own; long templates write some 10,000
_WALL_SECONDS = 120  # on a machine that does other things, too

# Jinja set up as transformers sets it up, without its import of torch.
_PROBE = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
except (ImportError, OSError, ValueError):
    pass  # no such limits here; the wall clock is one
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(jinja2.ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)

def raise_exception(message):
    raise jinja2.TemplateError(message)

def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

env = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
env.filters["tojson"] = tojson
env.globals.update(raise_exception=raise_exception, strftime_now=lambda form: form)
source = json.loads(sys.stdin.read())
user, system, said = ({"role": role, "content": "text"} for role in ("user", "system", "assistant"))
longest = 0
try:
    template = env.from_string(source)
    for messages in ([user], [system, user], [system, user, said, user]):
        for switch in ({}, {"enable_thinking": True, "thinking": True}, {"enable_thinking": False, "thinking": False}):
            try:
                parts = template.generate(
                    messages=messages, tools=None, documents=None, add_generation_prompt=True,
                    bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", **switch,
                )
                length = 0
                for part in parts:
                    length += len(part)
                    if length > CHARACTERS:
                        break
                longest = max(longest, length)
            except MemoryError:
                raise
            except Exception:
                pass  # what it refuses is told when a conversation is rendered
except MemoryError:
    longest = -1
except Exception:
    pass
print(longest)
"""


@functools.lru_cache(maxsize=16)
def require_bounded(template: str) -> None:
    """Refuse a chat template that does not end, or writes without end.

    Args:
        template: its Jinja source.

    Raises:
        ProviderError: over `SECONDS`, `MEGABYTES` or `CHARACTERS`; says which.
    """
    limits = f"SECONDS, MEGABYTES, CHARACTERS = {SECONDS}, {MEGABYTES}, {CHARACTERS}\n"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", limits + _PROBE],
            input=json.dumps(template),
            capture_output=True,
            text=True,
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _runaway(f"was still at it after {_WALL_SECONDS} seconds") from None
    said = done.stdout.strip()
    if done.returncode < 0:
        raise _runaway(f"did not end within {SECONDS} seconds of processor time")
    if said == "-1" or "MemoryError" in done.stderr:
        raise _runaway(f"took more than {MEGABYTES:,} MiB of memory")
    if said.isdigit() and int(said) > CHARACTERS:
        raise _runaway(f"wrote more than {CHARACTERS:,} characters")


def _runaway(what: str) -> ProviderError:
    return ProviderError(
        f"the model's chat template {what} for a conversation of a few words: it is broken or hostile. Mend "
        "chat_template.jinja (or chat_template in tokenizer_config.json) in the model's directory; an evaluation takes "
        "another with -M chat_template=FILE."
    )
