"""Blocks of text with a title: documents and search results, as a model reads them.

    <document>                          <search_result>
    <title>...</title>                  <title>...</title>
    <context>...</context>              <source>...</source>
    <content>                           <content>
    ...                                 ...
    </content>                          </content>
    </document>                         </search_result>

A line that says nothing is left out. Nothing in an answer points back into them: who asks for
citations is refused.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Tag

from thirdeye.server.api.anthropic.cache_control import CacheHint
from thirdeye.server.api.anthropic.text_blocks import Text, TextBlocks
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.value_readers import fail, wrong_type


def _no_citations(value: object) -> object:
    if not isinstance(value, bool):
        wrong_type("a boolean", value)
    if value:
        fail("unsupported_value", "is not supported here: answers cite nothing, send false.")
    return value


class CitationsConfig(Strict):
    enabled: Annotated[Literal[False], BeforeValidator(_no_citations)] = False


class PlainTextSource(Strict):
    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str

    @property
    def text(self) -> str:
        return self.data


class ContentSource(Strict):
    type: Literal["content"]
    content: Text

    @property
    def text(self) -> str:
        return "".join(block.text for block in self.content)


Source = Annotated[
    Annotated[PlainTextSource, Tag("<text>")] | Annotated[ContentSource, Tag("<content>")],
    *kinds("text", "content", code="unsupported_content"),
]


class DocumentBlock(Strict):
    type: Literal["document"]
    source: Source
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None
    cache_control: CacheHint = None

    @property
    def text(self) -> str:
        about = [("title", self.title), ("context", self.context)]
        return _tagged("document", about, self.source.text)


class SearchResultBlock(Strict):
    type: Literal["search_result"]
    source: str
    title: str
    content: TextBlocks
    citations: CitationsConfig | None = None
    cache_control: CacheHint = None

    @property
    def text(self) -> str:
        about = [("title", self.title), ("source", self.source)]
        return _tagged("search_result", about, "".join(block.text for block in self.content))


def _tagged(tag: str, about: Sequence[tuple[str, str | None]], content: str) -> str:
    lines = [f"<{name}>{value}</{name}>" for name, value in about if value]
    return "\n".join([f"<{tag}>", *lines, "<content>", content, "</content>", f"</{tag}>", ""])
