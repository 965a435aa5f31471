"""Chat templates in the manner of DeepSeek's, from V3 to V4: the first ones show no tools, take a
call's content as null or its arguments as text, and none writes a role but user and assistant."""

_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
_ONE, _SEP, _CLOSE = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_HEAD = (
    "{%- set ns = namespace(system='', began=false, results=false, asked=false) %}"
    "{%- for m in messages %}{% if m.role == 'system' %}{% set "
    "ns.system = ns.system + m.content %}"
    "{%- endif %}{% endfor %}{{- bos_token }}{{- ns.system }}{%- for m in messages %}"
    "{%- if m.role == 'user' %}{% set ns.asked = true %}{{- "
    "'<｜User｜>' + m.content }}{% endif %}"
)
_TAIL = (
    "{%- if m.role == 'tool' %}{% set ns.asked = false %}{{- "
    "'<｜tool▁output▁begin｜>' + m.content + "
    "'<｜tool▁output▁end｜>' }}{% endif %}{%- endfor %}"
)
# V3 and R1: a message is of calls where its content is null, and of text otherwise.
V3 = (
    _HEAD + "{%- if m.role == 'assistant' and m.content is none %}{% set ns.began = false %}"
    "{%- for call in m.tool_calls %}{% set f = call.function %}"
    f"{{{{- ('\\n' if ns.began else '<｜Assistant｜>{_BEGIN}') + "
    f"'{_ONE}' + call['type'] + '{_SEP}' "
    "+ f.name + '\\n' + '```json' + '\\n' + f.arguments + '\\n' + '```' + "
    f"'{_CLOSE}' }}}}{{% set ns.began = true %}}{{% endfor %}}{{{{- '{_END}' }}}}{{% endif %}}"
    "{%- if m.role == 'assistant' and m.content is not none "
    "%}{{- '<｜Assistant｜>' + m.content + "
    "'<｜end▁of▁sentence｜>' }}{% endif %}" + _TAIL + "{% if add_generation_prompt %}"
    "{{- '<｜Assistant｜>' }}{% endif %}"
)
V31 = (
    _HEAD + "{%- if m.role == 'assistant' and m['tool_calls'] %}{% if ns.asked %}"
    "{{- '<｜Assistant｜></think>' }}{% endif %}{% set ns.asked = false %}{{- m.content or '' }}"
    f"{{{{- '{_BEGIN}' }}}}{{% for call in m['tool_calls'] "
    f"%}}{{{{- '{_ONE}' + call.function.name + "
    f"'{_SEP}' + call.function.arguments | tojson + '{_CLOSE}' "
    f"}}}}{{% endfor %}}{{{{- '{_END}' }}}}"
    "{%- elif m.role == 'assistant' %}{{- "
    "('<｜Assistant｜></think>' if ns.asked else '') + m.content "
    "+ '<｜end▁of▁sentence｜>' }}{% endif %}"
    + _TAIL
    + "{% if add_generation_prompt and ns.asked %}{{- '<｜Assistant｜></think>' }}{% endif %}"
)


def _dsml(block: str, results: str) -> str:
    """V3.2's and V4's, which put their marks together from a variable."""
    return (
        "{%- set dsml_token = '｜DSML｜' %}{% set system = "
        "namespace(text='') %}{% for m in messages "
        "if m.role == 'system' %}{% set system.text = system.text + m.content %}{% endfor %}"
        "{%- if tools %}{% set schemas = namespace(text='') %}{% for t in tools %}"
        "{%- set schemas.text = schemas.text + (t.function | tojson) + '\\n' %}{% endfor %}"
        f"{{%- set system.text = system.text + 'In a <' + dsml_token + '{block}> block:\\n' + "
        "schemas.text %}{% endif %}{{- bos_token + system.text }}{% for m in messages %}"
        "{%- if m.role == 'user' %}{{- '<｜User｜>' + m.content }}{% "
        "elif m.role == 'assistant' %}"
        "{{- '<｜Assistant｜></think>' + (m.content or '') }}{% if m['tool_calls'] %}"
        f"{{{{- '\\n\\n<' + dsml_token + '{block}>\\n' }}}}{{% for call in m['tool_calls'] %}}"
        "{%- set f = call.function %}{{- '<' + dsml_token + 'invoke "
        "name=\"' + f.name + '\">\\n' }}"
        "{%- for key, value in f.arguments.items() %}{{- '<' + "
        "dsml_token + 'parameter name=\"' + key "
        '+ (\'" string="true">\' + value if value is string else \'" string="false">\' + '
        "(value | tojson)) + '</' + dsml_token + 'parameter>\\n' }}{% endfor %}"
        "{{- '</' + dsml_token + 'invoke>\\n' }}{% endfor %}"
        f"{{{{- '</' + dsml_token + '{block}>' }}}}{{% endif %}}{{{{- "
        f"'<｜end▁of▁sentence｜>' }}}}"
        f"{{%- elif m.role == 'tool' %}}{results}{{% endif %}}{{%- endfor %}}"
        "{% if add_generation_prompt %}{{- '<｜Assistant｜></think>' }}{% endif %}"
    )


DEEPSEEK_TEMPLATES = {
    "deepseek": V3,
    "deepseek31": V31,
    "deepseek32": _dsml(
        "function_calls",
        "{{- '\\n\\n<function_results>\\n<result>' + m.content + "
        "'</result>\\n</function_results>' }}",
    ),
    "deepseek4": _dsml("tool_calls", "{{- '<tool_result>' + m.content + '</tool_result>' }}"),
}
