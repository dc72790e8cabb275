"""All fuzzed surfaces by name."""

from __future__ import annotations

from fuzzing import artefacts, command_line, reading, records, scores, settings
from fuzzing.case import Surface

SURFACES: dict[str, Surface] = {
    surface.name: surface
    for module in (reading, scores, records, settings, artefacts, command_line)
    for surface in module.surfaces()
}
