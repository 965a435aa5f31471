"""Chat templates in the manner of Mistral's two forms: turns that must alternate, calls with ids of
nine characters, tools before the last question or in front of all."""

_ALTERNATE = (
    "{%- set ns = namespace(n=0) %}{% for m in turns %}{% if m.role == 'user' or (m.role == "
    "'assistant' and not m.tool_calls) %}{% if (m.role == 'user') != (ns.n % 2 == 0) %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}{% set ns.n = ns.n + 1 %}"
    "{% endif %}{% endfor %}"
)
_ID = (
    "{% if call.id is not defined or call.id | length != 9 %}"
    "{{- raise_exception('ids have nine characters') }}{% endif %}"
)
_SYSTEM = (
    "{%- if messages[0].role == 'system' %}{% set system, turns "
    "= messages[0].content, messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
)
_OTHERS = (
    "{%- elif m.role == 'assistant' %}{{- m.content + eos_token }}{% else %}"
    "{{- raise_exception('no such role') }}{% endif %}{%- endfor %}"
)
MISTRAL = (
    _SYSTEM
    + _ALTERNATE
    + "{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}{{- bos_token }}"
    "{%- for m in turns %}{% if m.role == 'user' %}{% if tools is not none and m == asked[-1] %}"
    "{{- '[AVAILABLE_TOOLS][' }}{% for t in tools %}{{- "
    '\'{"type": "function", "function": {\' }}'
    "{%- for key, value in t.function.items() if key != 'return' %}{% if value is string %}"
    "{{- '\"' + key + '\": \"' + value + '\"' }}{% else %}{{- "
    "'\"' + key + '\": ' + value | tojson }}"
    "{%- endif %}{% if not loop.last %}{{- ', ' }}{% endif %}{% endfor %}{{- '}}' }}"
    "{%- if not loop.last %}{{- ', ' }}{% endif %}{% endfor "
    "%}{{- '][/AVAILABLE_TOOLS]' }}{% endif %}"
    "{%- if loop.last and system %}{{- '[INST]' + system + '\\n\\n' + m.content + '[/INST]' }}"
    "{%- else %}{{- '[INST]' + m.content + '[/INST]' }}{% endif %}"
    "{%- elif m.tool_calls is defined and m.tool_calls is not none %}{{- '[TOOL_CALLS][' }}"
    "{%- for call in m.tool_calls %}{{- (call.function | tojson)[:-1] }}"
    + _ID
    + "{{- ', \"id\": \"' + call.id + '\"}' }}{{- ', ' if not loop.last else ']' + eos_token }}"
    "{%- endfor %}{% elif m.role == 'tool' %}"
    "{{- '[TOOL_RESULTS]{\"content\": ' + m.content | string + "
    '\', "call_id": "\' + m.tool_call_id '
    "+ '\"}[/TOOL_RESULTS]' }}" + _OTHERS
)
MISTRAL11 = (
    _SYSTEM + "{{- bos_token }}{% if system %}{{- '[SYSTEM_PROMPT]' + "
    "system + '[/SYSTEM_PROMPT]' }}{% endif %}"
    "{%- if tools %}{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + "
    "'[/AVAILABLE_TOOLS]' }}{% endif %}"
    + _ALTERNATE
    + "{%- for m in turns %}{% if m.role == 'user' %}{{- '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'assistant' and m.tool_calls %}{{- m.content or '' }}"
    "{%- for call in m.tool_calls %}"
    + _ID
    + "{%- set arguments = call.function.arguments %}{% if arguments is not string %}"
    "{%- set arguments = arguments | tojson | safe %}{% endif %}"
    "{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + "
    "arguments }}{% endfor %}{{- eos_token }}"
    "{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS]' + m.tool_call_id + '[TOOL_CONTENT]' + "
    "m.content | string + '[/TOOL_RESULTS]' }}" + _OTHERS
)
MISTRAL_TEMPLATES = {"mistral": MISTRAL, "mistral11": MISTRAL11}
