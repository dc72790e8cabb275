"""From items to an Inspect task: pages and their `-T` parameters, prompts, thinking modes, controls, the catalog."""
