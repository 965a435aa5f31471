"""How models write what they think: what begins it and what ends it, a row for each family.

    think      <think>...</think>                       DeepSeek, GLM, Qwen and most others
    seed       <seed:think>...</seed:think>
    mistral    [THINK]...[/THINK]
    gemma4     <|channel>thought\\n...<channel|>
    granite    Here is my thought process: ... Here is my response: ...
    granite33  <think>...</think><response>...</response>
    harmony    <|channel|>analysis<|message|>...<|end|> gpt-oss; read by `HarmonyParser`

Which one a model has, its template tells: the first row whose marks it writes. A template that says
nothing may still stand beside a vocabulary with a token for each of the two.
"""

from dataclasses import dataclass
from enum import Enum

from thirdeye.server.text.detokenize import text_of
from thirdeye.server.text.tokenizer import TokenizerLike

NONE, AUTO = "none", "auto"
_NUM_LAST_TOKENS = 32  # of a prompt: they hold any mark, also where it is spelled in letters


class PromptState(Enum):
    """Where the prompt leaves the answer."""

    OPEN = "open"  # the template has begun the thinking
    CLOSED = "closed"  # and has ended it: there will be none
    UNDECIDED = "undecided"  # the answer begins it, or does not


@dataclass(frozen=True, slots=True)
class ReasoningForm:
    """`sign` is what a template with this form writes somewhere."""

    name: str
    open: str
    close: str
    sign: str
    answer: str = ""  # what may stand between the thinking and the answer, as a grammar's rule
    around: tuple[str, str] | None = None  # marks around the answer behind it, which are no part

    @property
    def marks(self) -> tuple[str, str]:
        return self.open, self.close

    def state_after(self, prompt_ids: list[int], tokenizer: TokenizerLike) -> PromptState:
        """What the last tokens of a prompt say; white space behind a mark says nothing."""
        end = text_of(prompt_ids[-_NUM_LAST_TOKENS:], tokenizer).rstrip()
        if end.endswith(self.open.rstrip()):
            return PromptState.OPEN
        return PromptState.CLOSED if end.endswith(self.close) else PromptState.UNDECIDED


HARMONY = ReasoningForm(
    name="harmony",
    open="<|channel|>analysis<|message|>",
    close="<|end|>",
    sign="<|channel|>analysis",
    answer='("<|start|>assistant")? "<|channel|>final<|message|>"',
)
REASONING_FORMS = {
    form.name: form
    for form in (
        HARMONY,
        ReasoningForm("gemma4", "<|channel>thought\n", "<channel|>", "<|channel>"),
        ReasoningForm("mistral", "[THINK]", "[/THINK]", "[THINK]"),
        ReasoningForm("seed", "<seed:think>", "</seed:think>", "<seed:think>"),
        ReasoningForm(
            "granite",
            "Here is my thought process:",
            "Here is my response:",
            "Here is my thought process",
        ),
        ReasoningForm(
            "granite33",
            "<think>",
            "</think>",
            "<response></response>",
            answer='"<response>"?',
            around=("<response>", "</response>"),
        ),
        ReasoningForm("think", "<think>", "</think>", "think>"),
    )
}
REASONING_MARKUP = frozenset(
    {
        *("<think>", "</think>", "<seed:think>", "</seed:think>", "[THINK]", "[/THINK]"),
        *("<|channel>", "<channel|>"),
        *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>"),
    }
)  # tokens of the above, which are text to whoever reads an answer or keeps it to a grammar


def find_reasoning_form(source: str, tokenizer: TokenizerLike) -> ReasoningForm | None:
    """The form of a template's model; None for one that does not think."""
    for form in REASONING_FORMS.values():
        if form.sign in source:
            return form
    has_tokens = all(
        len(tokenizer.encode_with_special(mark)) == 1 for mark in REASONING_FORMS["think"].marks
    )
    return REASONING_FORMS["think"] if has_tokens else None
