"""The token that ends an assistant's turn, as the chat template writes it.

Conversions forget it: a file's end of sequence is the base model's, or token 0. An answer would
then run on into a conversation with itself.
"""

from collections.abc import Mapping

from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError

_CANARY = "canary"
_MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _CANARY}]


def find_turn_end(template: ChatTemplate, added: Mapping[str, int]) -> str | None:
    """The literal of the added token that follows an assistant's text; None if none does.

    `added`: literal -> id of every token that is no ordinary one. White space between does not
    count. Where the text is the conversation's last, so what begins the next turn is not taken.
    """
    try:
        rendered = template.render(_MESSAGES, add_generation_prompt=False)
    except ChatTemplateError:  # such a conversation it does not take
        return None
    _, mark, behind = rendered.rpartition(_CANARY)
    found = [literal for literal in added if mark and behind.lstrip().startswith(literal)]
    return max(found, key=len, default=None)
