"""How the families write a tool call: a row for each, which is read by and written by.

    qwen_xml   <tool_call> <function=f> <parameter=a> 1 </parameter> </function> </tool_call>
    seed       the same between <seed:tool_call> and </seed:tool_call>
    glm        <tool_call>f <arg_key>a</arg_key> <arg_value>1</arg_value> </tool_call>
    mistral    [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]
    mistral11  [TOOL_CALLS]f[ARGS]{"a": 1}              perhaps with [CALL_ID]123456789 in between
    llama      {"name": "f", "parameters": {"a": 1}}     the whole answer, perhaps after a tag
    pythonic   [f(a=1), g(b="x")]                        the whole answer
    functionary <function=f>{"a": 1}</function>
    deepseek   a name behind `function` and a separator, JSON in a fence
    deepseek31 a name, a separator, JSON
    deepseek32 <｜DSML｜function_calls> <｜DSML｜invoke name="f"> <｜DSML｜parameter name="a"
               string="false">1</｜DSML｜parameter> </｜DSML｜invoke> </｜DSML｜function_calls>
    deepseek4  the same between <｜DSML｜tool_calls> and </｜DSML｜tool_calls>
    granite    <|tool_call|>[{"name": "f", "arguments": {"a": 1}}]
    gemma4     <|tool_call>call:f{a:1,b:<|"|>x<|"|>}<tool_call|>
    kimi       <|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>
    harmony    <|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>

Hermes' form has its own parser and grammar, and harmony's calls are read with its channels. In a
pattern (`frame.py`) a space is any white space, `*` the name, `#` digits, `@` an id.
"""

from collections.abc import Iterator

from thirdeye.server.text.tools.families.call_form import Arguments, CallForm, CallIds
from thirdeye.server.text.tools.families.deepseek_forms import DEEPSEEK_FORMS, DEEPSEEK_MARKUP

_KIMI_HEAD = " <|tool_call_begin|> functions.*:# <|tool_call_argument_begin|> {"

HARMONY_CALLS = CallForm(
    name="harmony",
    signs=("<|channel|>",),
    arguments=Arguments.JSON,
    starts=(),
    head_text="<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>",
)
CALL_FORMS = {
    form.name: form
    for form in (
        HARMONY_CALLS,
        CallForm(
            name="gemma4",
            signs=("<|tool_call>",),
            arguments=Arguments.GEMMA,
            starts=("<|tool_call>call:*{",),
            again=(" <|tool_call>call:*{",),
            tail=" <tool_call|>",
            open_text="<|tool_call>",
            head_text="call:NAME{",
            tail_text="<tool_call|>",
            between_text="<|tool_call>",
        ),
        CallForm(
            name="kimi",
            signs=("<|tool_calls_section_begin|>",),
            arguments=Arguments.JSON,
            starts=("<|tool_calls_section_begin|>" + _KIMI_HEAD,),
            again=(_KIMI_HEAD,),
            tail=" <|tool_call_end|>",
            close=" <|tool_calls_section_end|>",
            open_text="<|tool_calls_section_begin|>",
            head_text="<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>",
            tail_text="<|tool_call_end|>",
            close_text="<|tool_calls_section_end|>",
            ids=CallIds.COUNTED,
        ),
        *DEEPSEEK_FORMS,
        CallForm(
            name="mistral11",
            signs=("[ARGS]",),
            arguments=Arguments.JSON,
            starts=("[TOOL_CALLS] *[ARGS] {", "[TOOL_CALLS] *[CALL_ID]@[ARGS] {"),
            again=(" [TOOL_CALLS] *[ARGS] {", " [TOOL_CALLS] *[CALL_ID]@[ARGS] {"),
            open_text="[TOOL_CALLS]",
            head_text="NAME[ARGS]",
            between_text="[TOOL_CALLS]",
            ids=CallIds.NINE,
        ),
        CallForm(
            name="mistral",
            signs=("[TOOL_CALLS]",),
            arguments=Arguments.JSON,
            starts=('[TOOL_CALLS] [ { "name" : "*" , "arguments" : {',),
            again=(' , { "name" : "*" , "arguments" : {',),
            tail=" }",
            close=" ]",
            open_text="[TOOL_CALLS][",
            head_text='{"name": "NAME", "arguments": ',
            tail_text="}",
            between_text=", ",
            close_text="]",
            ids=CallIds.NINE,
        ),
        CallForm(
            name="granite",
            signs=("<|tool_call|>",),
            arguments=Arguments.JSON,
            starts=(
                '<|tool_call|> [ { "name" : "*" , "arguments" : {',
                '<tool_call> [ { "name" : "*" , "arguments" : {',
                '<|tool_call|> { "name" : "*" , "arguments" : {',
            ),
            again=(' , { "name" : "*" , "arguments" : {',),
            tail=" }",
            close=" ]",
            open_text="<|tool_call|>[",
            head_text='{"name": "NAME", "arguments": ',
            tail_text="}",
            between_text=", ",
            close_text="]",
        ),
        CallForm(
            name="glm",
            signs=("<arg_key>",),
            arguments=Arguments.PAIRS,
            starts=("<tool_call> * <",),
            again=(" <tool_call> * <",),
            open_text="<tool_call>",
            head_text="NAME\n",
            between_text="\n<tool_call>",
        ),
        CallForm(
            name="seed",
            signs=("<seed:tool_call>",),
            arguments=Arguments.XML,
            starts=("<seed:tool_call> <function=*>",),
            again=(" <seed:tool_call> <function=*>",),
            tail=" </seed:tool_call>",
            open_text="<seed:tool_call>\n",
            head_text="<function=NAME>\n",
            tail_text="\n</seed:tool_call>",
            between_text="\n<seed:tool_call>\n",
        ),
        CallForm(
            name="qwen_xml",
            signs=("<function=",),
            also="<parameter=",
            arguments=Arguments.XML,
            starts=("<tool_call> <function=*>", "<function=*>"),
            again=(" <tool_call> <function=*>",),
            tail=" </tool_call>",
            open_text="<tool_call>\n",
            head_text="<function=NAME>\n",
            tail_text="\n</tool_call>",
            between_text="\n<tool_call>\n",
        ),
        CallForm(
            name="functionary",
            signs=("</function>",),
            arguments=Arguments.JSON,
            starts=("<function=*> {",),
            again=(" <function=*> {",),
            tail=" </function>",
            open_text="<function=",
            head_text="NAME>",
            tail_text="</function>",
            between_text="<function=",
        ),
        CallForm(
            name="pythonic",
            signs=("[func_name1(", "[function_name(", "func_name1("),
            arguments=Arguments.PYTHON,
            starts=(" [ *(", "<|python_start|> [ *("),
            only_first=True,
            again=(" , *(",),
            close=" ]",
            open_text="[",
            head_text="NAME(",
            between_text=", ",
            close_text="]",
            not_text="[",
        ),
        CallForm(
            name="llama",
            signs=("<|python_tag|>", '"parameters": dictionary of argument name'),
            arguments=Arguments.JSON,
            starts=(
                ' { "name" : "*" , "parameters" : {',
                '<|python_tag|> { "name" : "*" , "parameters" : {',
                '<|python_start|> <|python_end|> { "name" : "*" , "parameters" : {',
                '<|python_start|> { "name" : "*" , "parameters" : {',
                ' { "type" : "function" , "name" : "*" , "parameters" : {',
            ),
            only_first=True,
            again=(
                ' ; { "name" : "*" , "parameters" : {',
                ' { "name" : "*" , "parameters" : {',
            ),
            tail=" }",
            head_text='{"name": "NAME", "parameters": ',
            tail_text="}",
            between_text="; ",
            not_text="{",
        ),
    )
}
CALL_MARKUP = frozenset(
    {
        *("<|tool_call>", "<tool_call|>", '<|"|>', "<arg_key>", "</arg_key>", "<arg_value>"),
        *(
            "</arg_value>",
            "[TOOL_CALLS]",
            "[ARGS]",
            "[CALL_ID]",
            "<|python_tag|>",
            "<|python_start|>",
        ),
        *("<|tool_call|>", "<seed:tool_call>", *DEEPSEEK_MARKUP),
        *("</seed:tool_call>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        *("<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>"),
    }
)  # tokens of the above, which are text to whoever reads an answer or keeps it to a grammar


def signed_forms(source: str) -> Iterator[CallForm]:
    """The forms of which a template has a sign, the likeliest first; none for Hermes' and for
    none."""
    for form in CALL_FORMS.values():
        if form.also in source and any(sign in source for sign in form.signs):
            yield form
