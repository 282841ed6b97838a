"""A checkpoint's chat templates, and whether a system message has room in its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvtool.errors import UsageError
from kvtool.models.files import read_json, read_text


def check_system(name: str, family: Any, system: str) -> None:
    """Raises UsageError where a system text is blank, or models of a family read none."""
    if system and not system.strip():
        raise UsageError("--system: expected a text, found blanks alone; leave it out")
    if system and not getattr(family, "reads_system", False):
        raise UsageError(
            f"--system: expected a model that reads text before the image, found {name}, a "
            f"{family.family}; leave it out"
        )


def templates(folder: Path, tokenizer: Any) -> list[tuple[str, str]]:
    """(file, chat template) of a checkpoint, the processor's before the tokenizer's."""
    templates: list[tuple[str, Any]] = []
    if (folder / "chat_template.jinja").is_file():
        templates.append(("chat_template.jinja", read_text(folder / "chat_template.jinja")))
    # Newer checkpoints keep the processor's template in a file of its own.
    for file in ("chat_template.json", "processor_config.json"):
        if (folder / file).is_file():
            templates.append((file, read_json(folder / file).get("chat_template")))
    templates.append(("tokenizer_config.json", getattr(tokenizer, "chat_template", None)))
    return [
        (file, text) for file, template in templates if isinstance(text := _default(template), str)
    ]


def _default(template: Any) -> Any:
    """The template of that name where a file has several, by name or as a list of names and
    templates.
    """
    if isinstance(template, list):
        template = {
            entry.get("name"): entry.get("template")
            for entry in template
            if isinstance(entry, dict)
        }
    return template.get("default") if isinstance(template, dict) else template
