"""Cue controls: is an exam answered from what the question asks, or from cues in how its options are put?"""
