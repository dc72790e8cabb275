"""A chat template that runs away is refused before it is used; an ordinary one passes."""

from __future__ import annotations

import pytest

from medbench.provider import template_bound
from medbench.provider.errors import ProviderError
from medbench.provider.template_bound import require_bounded
from medbench.provider.tiny import TEMPLATE

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_bound, "SECONDS", 1)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, "did not end within 1 seconds"),
        ("{% if messages | length > 2 %}" + LOOP + "{% endif %}", "did not end"),
        ("{% if enable_thinking %}" + LOOP + "{% endif %}", "did not end"),
        ("{% generation %}" + LOOP + "{% endgeneration %}", "did not end"),
        ("{{ 'a' * (10**12) }}", "MiB of memory"),
        ("{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", "wrote more than 1,048,576 characters"),
    ],
)
def test_a_runaway_template_is_refused(template: str, said: str) -> None:
    with pytest.raises(ProviderError, match=f"(?s){said}.*chat_template"):
        require_bounded(template)


@pytest.mark.parametrize(
    "template", [TEMPLATE, "", "{{ raise_exception('no system message') }}", "{% if %}", "{{ 1 / 0 }}"]
)
def test_others_are_left_to_the_rendering(template: str) -> None:
    require_bounded(template)
