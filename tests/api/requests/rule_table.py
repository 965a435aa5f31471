"""The table of docs/api.md that says for each field of each dialect what is done with it.

    python -m tests.api.requests.rule_table     writes it anew

obeyed    it does what the page says, or what the field does that it is another name of
hint      taken, and named in `X-Ignored-Params`
refused   a 400 that names it
neutral   any value passes: it would count beside another field alone, which is refused
Values that ask for nothing stand behind these words, but for those with nothing in them, which pass
everywhere: no header names them. Fields of
Ollama's `options` stand among those of its requests.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from thirdeye.server.api.anthropic.schema import MessagesRequest
from thirdeye.server.api.field_rules.hints import hints_of
from thirdeye.server.api.field_rules.unsupported_fields import Refusal
from thirdeye.server.api.ollama.sampling_options import NotHere, OllamaOptions
from thirdeye.server.api.ollama.schema import (
    OllamaChatRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
)
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest, EmbeddingRequest
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.responses.schema import ResponsesRequest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
START, END = "<!-- rules -->\n", "<!-- /rules -->\n"
DIALECTS: dict[str, tuple[type[Strict], ...]] = {
    "chat": (ChatRequest,),
    "completions": (CompletionRequest,),
    "embeddings": (EmbeddingRequest,),
    "responses": (ResponsesRequest,),
    "messages": (MessagesRequest,),
    "api/chat, generate": (OllamaOptions, OllamaChatRequest, OllamaGenerateRequest),
    "api/embed": (OllamaEmbedRequest,),
}


def rules_of(model: type[Strict]) -> Iterator[tuple[str, str, str]]:
    """(field, what is done with it, why it is refused)."""
    hints = hints_of(model.model_fields)
    for name, about in model.model_fields.items():
        for mark in about.metadata:
            if isinstance(mark, NotHere):
                yield name, *_of(mark.refusal)
                break
        else:
            yield name, _with("hint", hints[name].neutral) if name in hints else "obeyed", ""
    for name, field in model.other_names.items():
        yield name, f"`{field}`", ""
    for name, refusal in model.refused.items():
        yield name, *_of(refusal)


def _of(refusal: Refusal) -> tuple[str, str]:
    if refusal.beside:
        return "neutral", refusal.hint
    return _with("refused", refusal.neutral), refusal.hint


def _with(word: str, neutral: tuple[object, ...]) -> str:
    values = " ".join(f"`{json.dumps(value)}`" for value in neutral)
    return f"{word}; neutral: {values}" if values else word


def lines() -> Iterator[str]:
    found = {
        dialect: [row for model in models for row in rules_of(model)]
        for dialect, models in DIALECTS.items()
    }
    cells = {dialect: {name: cell for name, cell, _ in rows} for dialect, rows in found.items()}
    why = {name: reason for rows in found.values() for name, _, reason in rows if reason}
    names = sorted({name for rows in found.values() for name, _, _ in rows})
    yield f"| field | {' | '.join(DIALECTS)} | instead |\n"
    yield f"|---{'|---' * len(DIALECTS)}|---|\n"
    for name in names:
        done = " | ".join(cells[dialect].get(name, "") for dialect in DIALECTS)
        yield f"| `{name}` | {done} | {why.get(name, '')} |\n"


def written() -> str:
    """What stands on the page."""
    return PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}{''.join(lines())}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
