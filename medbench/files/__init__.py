"""What is written to disk and read back: artefact directories and their manifests, compressed files, cards, YAML.

Nothing here knows of items, models or scores.
"""
