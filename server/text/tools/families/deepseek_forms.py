"""DeepSeek's forms of tool calls: V3 and R1, V3.1, and DSML of V3.2 and V4."""

from thirdeye.server.text.tools.families.call_form import Arguments, CallForm

_OPEN, _CLOSE = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_ONE, _SEP, _END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
DSML = "｜DSML｜"


def _dsml(name: str, block: str) -> CallForm:
    return CallForm(
        name=name,
        signs=(f"dsml_token }}}}{block}", f"dsml_token + '{block}", f"{DSML}{block}"),
        arguments=Arguments.DSML,
        starts=(f'<{DSML}{block}> <{DSML}invoke name="*">',),
        again=(f' <{DSML}invoke name="*">',),
        close=f" </{DSML}{block}>",
        open_text=f"<{DSML}{block}>\n",
        head_text=f'<{DSML}invoke name="NAME">\n',
        tail_text="\n",
        close_text=f"</{DSML}{block}>",
    )


DEEPSEEK_FORMS = (
    _dsml("deepseek32", "function_calls"),
    _dsml("deepseek4", "tool_calls"),
    CallForm(
        name="deepseek",
        signs=("```json' + '\\n'", "\\n```json\\n", "```json\n"),
        also=_OPEN,
        arguments=Arguments.JSON,
        starts=(f"{_OPEN} {_ONE}function{_SEP}* ```json {{",),
        again=(f" {_ONE}function{_SEP}* ```json {{",),
        tail=f" ``` {_END}",
        close=f" {_CLOSE}",
        open_text=_OPEN,
        head_text=f"{_ONE}function{_SEP}NAME\n```json\n",
        tail_text=f"\n```{_END}",
        between_text="\n",
        close_text=_CLOSE,
    ),
    CallForm(
        name="deepseek31",
        signs=(_OPEN,),
        arguments=Arguments.JSON,
        starts=(f"{_OPEN} {_ONE}*{_SEP} {{",),
        again=(f" {_ONE}*{_SEP} {{",),
        tail=f" {_END}",
        close=f" {_CLOSE}",
        open_text=_OPEN,
        head_text=f"{_ONE}NAME{_SEP}",
        tail_text=_END,
        close_text=_CLOSE,
    ),
)
DEEPSEEK_MARKUP = (_OPEN, _CLOSE, _ONE, _SEP, _END, DSML)
